/** What a peer sends another. The server replaces `target_peer_id` by `from_peer_id`. */
export type Signal =
  | { type: 'offer' | 'answer'; sdp: string }
  | { type: 'ice_candidate'; candidate: RTCIceCandidateInit | null };

/** What the server says. */
export type Told =
  | { type: 'existing_peers'; peers: string[] }
  | { type: 'peer_joined' | 'peer_left'; peer_id: string }
  | (Signal & { from_peer_id: string })
  | { type: 'error'; code: string; message: string; target_peer_id?: string };

/** After these (a name that is taken, a missing token, a name that can't be one) it is of no use to try again. */
const FINAL = [4401, 4409, 1008];
/** Pauses between attempts to come back, in ms: the first and the longest. */
const RETRY = [500, 8000] as const;

export interface Listener {
  told(message: Told): void;
  /** What the way to the server is like; `final` if it stays so. */
  state(text: string, final: boolean): void;
}

/** The way to the server: one WebSocket after the other, as long as it is wanted. */
export class Signaling {
  #socket: WebSocket | undefined;
  #pause: number = RETRY[0];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wanted = true;

  constructor(
    private readonly url: string,
    private readonly listener: Listener,
  ) {
    this.#open();
  }

  #open(): void {
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    this.listener.state('Connecting', false);
    socket.onmessage = ({ data }) => {
      const message = read(data);
      if (!message) return;
      if (message.type === 'existing_peers') {
        this.#pause = RETRY[0];
        this.listener.state('Connected', false);
      }
      this.listener.told(message);
    };
    socket.onclose = ({ code, reason }) => {
      if (!this.#wanted || this.#socket !== socket) return;
      if (FINAL.includes(code)) {
        this.#wanted = false;
        this.listener.state(reason || `Refused (${code})`, true);
        return;
      }
      this.listener.state(`Connection lost (${code}); trying again`, false);
      this.#timer = setTimeout(() => this.#open(), this.#pause * (0.5 + Math.random() / 2));
      this.#pause = Math.min(this.#pause * 2, RETRY[1]);
    };
  }

  /** Passes something to a peer; what can't be sent is lost, as on a network. */
  send(to: string, signal: Signal): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ ...signal, target_peer_id: to }));
  }

  close(): void {
    this.#wanted = false;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }
}

/** A message of the server; nothing if it is none that this page knows. */
export function read(data: unknown): Told | undefined {
  if (typeof data !== 'string') return undefined;
  try {
    const message: unknown = JSON.parse(data);
    if (typeof message !== 'object' || message === null || !('type' in message)) return undefined;
    const isText = (name: string): boolean => name in message && typeof (message as Record<string, unknown>)[name] === 'string';
    switch (message.type) {
      case 'existing_peers':
        return 'peers' in message && Array.isArray(message.peers) ? (message as Told) : undefined;
      case 'peer_joined':
      case 'peer_left':
        return isText('peer_id') ? (message as Told) : undefined;
      case 'offer':
      case 'answer':
        return isText('from_peer_id') && isText('sdp') ? (message as Told) : undefined;
      case 'ice_candidate':
        return isText('from_peer_id') && 'candidate' in message ? (message as Told) : undefined;
      case 'error':
        return isText('code') ? (message as Told) : undefined;
      default:
        return undefined;
    }
  } catch {
    return undefined;
  }
}

import type { Signal } from './signaling.js';

export interface PeerListener {
  send(signal: Signal): void;
  /** What arrives of the peer's picture and sound. */
  stream(stream: MediaStream): void;
  state(state: RTCPeerConnectionState): void;
  problem(what: string): void;
}

/**
 * The connection to one other peer. Either side may offer at any time; of two offers that cross, the impolite side's counts (W3C
 * WebRTC, "perfect negotiation").
 */
export class Peer {
  readonly #connection: RTCPeerConnection;
  /** What comes is worked at in the order in which it came. */
  #queue: Promise<void> = Promise.resolve();
  #offers = false;
  #ignores = false;
  /** Candidates of descriptions that are being made: the other can do nothing with them before it has the description. */
  #held: (RTCIceCandidateInit | null)[] = [];
  #describing = 0;

  constructor(
    iceServers: RTCIceServer[],
    private readonly polite: boolean,
    private readonly listener: PeerListener,
  ) {
    const connection = new RTCPeerConnection({ iceServers });
    this.#connection = connection;
    connection.onnegotiationneeded = () => void this.#offer();
    connection.onicecandidate = ({ candidate }) => {
      this.#held.push(candidate?.toJSON() ?? null);
      this.#release();
    };
    const shown = new MediaStream();
    connection.ontrack = ({ track }) => {
      shown.addTrack(track);
      listener.stream(shown);
    };
    connection.onconnectionstatechange = () => {
      listener.state(connection.connectionState);
      if (connection.connectionState === 'failed') connection.restartIce();
    };
  }

  /**
   * Makes the first offer, of picture and sound in any case. Only one of two may: Chromium gathers no candidates after it has taken back
   * an offer for which it had begun to gather.
   */
  begin(stream: MediaStream | undefined): void {
    for (const kind of ['audio', 'video'] as const) {
      const track = stream?.getTracks().find((one) => one.kind === kind);
      this.#connection.addTransceiver(track ?? kind, { direction: track ? 'sendrecv' : 'recvonly' });
    }
  }

  /** Sends these tracks from now on, in the place of others; before the other's first offer nothing, as it is answered with what there is then. */
  async show(stream: MediaStream | undefined): Promise<void> {
    if (this.#connection.getTransceivers().length === 0) return;
    for (const kind of ['audio', 'video'] as const) {
      const track = stream?.getTracks().find((one) => one.kind === kind) ?? null;
      const known = this.#connection.getTransceivers().find(({ receiver }) => receiver.track.kind === kind);
      if (known) {
        await known.sender.replaceTrack(track);
        known.direction = track ? 'sendrecv' : 'recvonly';
      } else if (track && stream) {
        // Of a program that offered less.
        this.#connection.addTrack(track, stream);
      }
    }
  }

  async #offer(): Promise<void> {
    try {
      this.#offers = true;
      await this.#describe();
    } catch (error) {
      this.listener.problem(String(error));
    } finally {
      this.#offers = false;
    }
  }

  /** Makes the description that is due and sends it, then its candidates, some of which are there before it is. */
  async #describe(): Promise<void> {
    this.#describing += 1;
    try {
      await this.#connection.setLocalDescription();
      const description = this.#connection.localDescription;
      if (description?.type === 'offer' || description?.type === 'answer') this.listener.send({ type: description.type, sdp: description.sdp });
    } finally {
      this.#describing -= 1;
      this.#release();
    }
  }

  #release(): void {
    if (this.#describing > 0) return;
    for (const candidate of this.#held.splice(0)) this.listener.send({ type: 'ice_candidate', candidate });
  }

  /** Takes what the other has sent. `prepare` is done before an offer is answered. */
  take(signal: Signal, prepare: () => Promise<void>): void {
    this.#queue = this.#queue.then(() => this.#take(signal, prepare)).catch((error: unknown) => this.listener.problem(String(error)));
  }

  async #take(signal: Signal, prepare: () => Promise<void>): Promise<void> {
    const connection = this.#connection;
    if (signal.type === 'ice_candidate') {
      if (this.#ignores || !connection.remoteDescription) return;
      await connection.addIceCandidate(signal.candidate ?? undefined);
      return;
    }
    const crosses = signal.type === 'offer' && (this.#offers || connection.signalingState !== 'stable');
    this.#ignores = crosses && !this.polite;
    if (this.#ignores) return;
    if (signal.type === 'answer' && connection.signalingState !== 'have-local-offer') return;
    await connection.setRemoteDescription(signal);
    if (signal.type === 'offer') {
      await prepare();
      await this.#describe();
    }
  }

  close(): void {
    this.#connection.close();
  }
}

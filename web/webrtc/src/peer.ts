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

  constructor(
    iceServers: RTCIceServer[],
    private readonly polite: boolean,
    private readonly listener: PeerListener,
  ) {
    const connection = new RTCPeerConnection({ iceServers });
    this.#connection = connection;
    connection.onnegotiationneeded = () => void this.#offer();
    connection.onicecandidate = ({ candidate }) => listener.send({ type: 'ice_candidate', candidate: candidate?.toJSON() ?? null });
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

  /** Sends these tracks from now on, in the place of others. */
  async show(stream: MediaStream | undefined): Promise<void> {
    for (const kind of ['audio', 'video'] as const) {
      const track = stream?.getTracks().find((one) => one.kind === kind) ?? null;
      const known = this.#connection.getTransceivers().find(({ receiver }) => receiver.track.kind === kind);
      if (known) {
        await known.sender.replaceTrack(track);
        known.direction = track ? 'sendrecv' : 'recvonly';
      } else if (track && stream) {
        // Other than addTransceiver, this goes with the other's m-line if offers cross.
        this.#connection.addTrack(track, stream);
      }
    }
  }

  async #offer(): Promise<void> {
    try {
      this.#offers = true;
      await this.#connection.setLocalDescription();
      this.#tell();
    } catch (error) {
      this.listener.problem(String(error));
    } finally {
      this.#offers = false;
    }
  }

  #tell(): void {
    const description = this.#connection.localDescription;
    if (description?.type === 'offer' || description?.type === 'answer') this.listener.send({ type: description.type, sdp: description.sdp });
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
      await connection.setLocalDescription();
      this.#tell();
    }
  }

  close(): void {
    this.#connection.close();
  }
}

/** Server candidates kept until there is an answer to add them to; a server has a handful of addresses. */
const MAX_EARLY = 64;

/**
 * ICE candidates of both sides, which wait for the answer: before it the server may not know the transport or the
 * m-line that a candidate names, and this side can't add any.
 */
export class Candidates {
  readonly #connection: RTCPeerConnection;
  readonly #send: (candidate: RTCIceCandidateInit) => void;
  #local: RTCIceCandidate[] = [];
  #remote: RTCIceCandidateInit[] = [];

  constructor(connection: RTCPeerConnection, send: (candidate: RTCIceCandidateInit) => void) {
    this.#connection = connection;
    this.#send = send;
  }

  onLocal(candidate: RTCIceCandidate | null): void {
    // The end-of-candidates marks (null, and the empty text) have no form in this protocol.
    if (!candidate || candidate.candidate === '') return;
    this.#local.push(candidate);
    this.flush();
  }

  onRemote(candidate: RTCIceCandidateInit): void {
    if (this.#connection.remoteDescription !== null) this.#add(candidate);
    else if (this.#remote.length < MAX_EARLY) this.#remote.push(candidate);
  }

  /** Passes on what may be passed on by now. */
  flush(): void {
    if (this.#connection.signalingState !== 'stable' || this.#connection.remoteDescription === null) return;
    for (const { candidate, sdpMid, sdpMLineIndex } of this.#local.splice(0)) this.#send({ candidate, sdpMid, sdpMLineIndex });
    for (const candidate of this.#remote.splice(0)) this.#add(candidate);
  }

  /** Those gathered so far were gathered for nothing. */
  forgetLocal(): void {
    this.#local = [];
  }

  #add(candidate: RTCIceCandidateInit): void {
    this.#connection.addIceCandidate(candidate).catch(() => {});
  }
}

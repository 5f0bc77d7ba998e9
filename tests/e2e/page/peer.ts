// One RTCPeerConnection of a page that speaks the protocol by hand. The page always offers; one negotiation at a time.

/** What is signaled of a PeerConnection. */
export type Signal = { type: 'offer'; sdp: string } | { type: 'candidate'; candidate: object };

export class Peer {
  readonly connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  /** The transport's id, once the server has given one. */
  id: string | undefined;
  readonly #send: (id: string, signal: Signal) => Promise<unknown>;
  /** Candidates that wait for the first answer, as SDKs let them. */
  #waiting: RTCIceCandidate[] | undefined = [];

  constructor(send: (id: string, signal: Signal) => Promise<unknown>) {
    this.#send = send;
    this.connection.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      if (this.#waiting) this.#waiting.push(candidate);
      else void this.#candidate(candidate);
    };
  }

  /** Makes an offer; after it, transceivers have mids. */
  async prepare(): Promise<void> {
    await this.connection.setLocalDescription(await this.connection.createOffer());
  }

  /** Sends the offer that was prepared, and applies what `answer` gives. */
  async negotiate(answer: (id: string) => Promise<string>): Promise<void> {
    const sdp = this.connection.localDescription?.sdp;
    if (this.id === undefined || sdp === undefined) throw new Error('nothing to negotiate');
    const answered = answer(this.id);
    await this.#send(this.id, { type: 'offer', sdp });
    await this.connection.setRemoteDescription({ type: 'answer', sdp: await answered });
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    await Promise.all(waiting.map((candidate) => this.#candidate(candidate)));
  }

  /** Gives up the offer that was prepared. */
  async rollback(): Promise<void> {
    await this.connection.setLocalDescription({ type: 'rollback' });
  }

  /** Username fragments: of the last offer, its answer, and the local one of the pair that carries the media. */
  async ice(): Promise<{ local: string; remote: string; selected: string | undefined; state: string }> {
    const stats = await this.#stats();
    const of = (id: string | undefined): Record<string, string> | undefined => stats.find((one) => one.id === id);
    const pair = of(stats.find(({ type }) => type === 'transport')?.selectedCandidatePairId);
    return {
      local: fragment(this.connection.localDescription),
      remote: fragment(this.connection.remoteDescription),
      selected: of(pair?.localCandidateId)?.usernameFragment,
      state: this.connection.connectionState,
    };
  }

  /** What protects the media, by the name of RFC 7714 or RFC 5764. */
  async cipher(): Promise<string | undefined> {
    return (await this.#stats()).find(({ type }) => type === 'transport')?.srtpCipher;
  }

  async #stats(): Promise<Record<string, string>[]> {
    return [...((await this.connection.getStats()) as unknown as Map<string, Record<string, string>>).values()];
  }

  #candidate({ candidate, sdpMid, sdpMLineIndex }: RTCIceCandidate): Promise<unknown> {
    return this.#send(this.id ?? '', { type: 'candidate', candidate: { candidate: `a=${candidate}`, sdpMid, sdpMLineIndex } });
  }
}

function fragment(description: RTCSessionDescription | null): string {
  return /^a=ice-ufrag:(\S+)/m.exec(description?.sdp ?? '')?.[1] ?? '';
}

import { Deferred, SerialQueue, within } from './deferred.js';
import { ConferenceError, toConferenceError } from './errors.js';
import { answers, withoutRefusedSimulcast } from './negotiation.js';
import { Session, silence } from './session.js';
import type { Signaling } from './signaling.js';
import { type Progress, readSessionAck } from './wire.js';

/** One publish or subscribe, as the transport needs to see it. */
export interface Operation {
  readonly request: 'publish' | 'subscribe';
  /** The request that ends what `request` began. */
  readonly undo: 'unpublish' | 'unsubscribe';
  /** Adds the transceivers that are this operation's own. */
  addTransceivers(connection: RTCPeerConnection): RTCRtpTransceiver[];
  /** The request's data, but for the transport. Called when the transceivers have mids. */
  describe(transceivers: readonly RTCRtpTransceiver[]): Record<string, unknown>;
}

export interface Timeouts {
  /** From sending an offer to its answer, in milliseconds. */
  answer: number;
  /** From the answer to the server's word that the session is ready, in milliseconds; ICE and DTLS happen in it. */
  ready: number;
}

export const DEFAULT_TIMEOUTS: Timeouts = { answer: 10_000, ready: 20_000 };

/** Server candidates kept until there is an answer to add them to; a server has a handful of addresses. */
const MAX_EARLY_CANDIDATES = 64;

/**
 * One RTCPeerConnection that carries any number of sessions. The client always offers, one operation at a time.
 *
 * An operation adds its transceivers, makes an offer (which names their mids), sends its request, and only when that
 * is accepted the offer. The m-lines of a refused operation belong to nothing, which servers answer inactive.
 */
export class MediaTransport {
  readonly #connection: RTCPeerConnection;
  readonly #signaling: Pick<Signaling, 'request'>;
  readonly #timeouts: Timeouts;
  readonly #closed: (error: ConferenceError) => void;
  readonly #queue = new SerialQueue();
  readonly #sessions = new Map<string, Session>();
  #id: string | undefined;
  #offer: { sdp: string; answer: Deferred<string> } | undefined;
  #localCandidates: RTCIceCandidate[] = [];
  #remoteCandidates: RTCIceCandidateInit[] = [];
  #error: ConferenceError | undefined;

  /** `closed` is called once if the transport ends by itself; `close` doesn't call it. */
  constructor(
    connection: RTCPeerConnection,
    signaling: Pick<Signaling, 'request'>,
    timeouts: Timeouts,
    closed: (error: ConferenceError) => void,
  ) {
    this.#connection = connection;
    this.#signaling = signaling;
    this.#timeouts = timeouts;
    this.#closed = closed;
    connection.onicecandidate = ({ candidate }) => this.#onLocalCandidate(candidate);
    connection.onconnectionstatechange = () => this.#onConnectionState(connection.connectionState);
    connection.oniceconnectionstatechange = () => this.#onConnectionState(connection.iceConnectionState);
  }

  /** The server's name for this transport: the id of its first session. Undefined before that is accepted. */
  get id(): string | undefined {
    return this.#id;
  }

  /** Performs an operation and resolves with its session, established. */
  async open(operation: Operation): Promise<Session> {
    const session = await this.#queue.run(() => this.#negotiate(operation));
    try {
      await within(session.established, this.#timeouts.ready, operation.request);
      return session;
    } catch (error) {
      await this.#giveUp(operation, session, toConferenceError(error, 'session-failed'));
      throw error;
    }
  }

  /** Ends a session from this side. Resolves when the server knows; a server that refuses has ended it already. */
  async stop(session: Session, undo: Operation['undo']): Promise<void> {
    if (session.ended) return;
    this.#sessions.delete(session.id);
    session.end();
    await this.#signaling.request(undo, { id: session.id }).catch(() => {});
  }

  /** Statistics of all that a session sends or receives. */
  async getStats(session: Session): Promise<Map<string, RTCStats>> {
    const merged = new Map<string, RTCStats>();
    if (session.ended) return merged;
    for (const { direction, sender, receiver } of session.transceivers) {
      const report = await (direction === 'recvonly' ? receiver : sender).getStats();
      report.forEach((stats: RTCStats) => merged.set(stats.id, stats));
    }
    return merged;
  }

  /** Takes a notification that names this transport. */
  onProgress(progress: Progress): void {
    switch (progress.status) {
      case 'answer':
        if (this.#offer && answers(progress.sdp, this.#offer.sdp)) this.#offer.answer.resolve(progress.sdp);
        break;
      case 'candidate':
        this.#onRemoteCandidate(progress.candidate);
        break;
      case 'ready':
        // Without a session it says that ICE and DTLS are up, which the connection knows by itself.
        if (progress.session !== undefined) this.#sessions.get(progress.session)?.ready();
        break;
      case 'error':
        if (progress.session === undefined) this.#fail(new ConferenceError('transport-failed', progress.reason));
        else this.#endSession(progress.session, new ConferenceError('session-failed', progress.reason));
        break;
    }
  }

  /** Ends everything on this transport; with no error, its sessions were asked to end. */
  close(error?: ConferenceError): void {
    if (this.#error) return;
    this.#error = error ?? new ConferenceError('disconnected', 'The media connection was closed.');
    this.#connection.onicecandidate = null;
    this.#connection.onconnectionstatechange = null;
    this.#connection.oniceconnectionstatechange = null;
    this.#offer?.answer.reject(this.#error);
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of sessions) session.end(error);
    this.#connection.close();
  }

  async #negotiate(operation: Operation): Promise<Session> {
    this.#assertOpen();
    let transceivers: RTCRtpTransceiver[] = [];
    let session: Session | undefined;
    let offered = false;
    try {
      transceivers = operation.addTransceivers(this.#connection);
      const offer = await this.#connection.createOffer();
      const sdp = withoutRefusedSimulcast(offer.sdp ?? '');
      await this.#connection.setLocalDescription({ type: 'offer', sdp });
      await this.#signaling.request(
        operation.request,
        {
          ...operation.describe(transceivers),
          transport: this.#id === undefined ? { type: 'webrtc' } : { type: 'webrtc', id: this.#id },
        },
        (ack) => (session = this.#register(ack, transceivers)),
        (ack) => this.#undo(operation, readSessionAck(ack)?.id),
      );
      this.#assertOpen();
      offered = true;
      const answer = await this.#exchange(sdp);
      await this.#connection.setRemoteDescription({ type: 'answer', sdp: answer });
      this.#flushCandidates();
      this.#accept(session!);
      return session!;
    } catch (reason) {
      const error = this.#diagnose(toConferenceError(reason, 'negotiation-failed'), session);
      if (session) await this.#giveUp(operation, session, error);
      await this.#withdraw(transceivers, offered);
      if (error.code === 'transport-failed') this.#fail(error);
      throw error;
    }
  }

  /**
   * A transport that worked before and that the server doesn't know any more is lost, although the connection may not
   * have noticed yet. The server says so when it is asked for another session, or when it is sent that one's offer.
   */
  #diagnose(error: ConferenceError, session: Session | undefined): ConferenceError {
    const worked = this.#connection.remoteDescription !== null;
    const lost = session ? error.code === 'refused' : error.message.startsWith(`Transport ${this.#id} `);
    return worked && lost ? new ConferenceError('transport-failed', error.message, { cause: error }) : error;
  }

  /** Runs inside the acknowledgement, so that the session is known before any notification about it is read. */
  #register(ack: unknown, transceivers: RTCRtpTransceiver[]): Session {
    const ids = readSessionAck(ack);
    if (!ids) throw new ConferenceError('negotiation-failed', 'The server named no session.');
    if (this.#id !== undefined && ids.transportId !== this.#id) {
      throw new ConferenceError('negotiation-failed', `The server moved the session to transport ${ids.transportId}.`);
    }
    this.#id = ids.transportId;
    const session = new Session(ids.id, transceivers);
    this.#sessions.set(session.id, session);
    return session;
  }

  async #exchange(sdp: string): Promise<string> {
    const answer = new Deferred<string>();
    this.#offer = { sdp, answer };
    try {
      await this.#signaling.request('soac', { id: this.#id, signaling: { type: 'offer', sdp } });
      return await within(answer.promise, this.#timeouts.answer, 'offer');
    } finally {
      this.#offer = undefined;
    }
  }

  /** What the server answered inactive it doesn't carry; a session of which it carries nothing can't become ready. */
  #accept(session: Session): void {
    if (session.ended) return;
    const carried = session.transceivers.some(
      ({ currentDirection }) => currentDirection === 'sendonly' || currentDirection === 'recvonly',
    );
    if (!carried) throw new ConferenceError('negotiation-failed', 'The server accepted no media of the offer.');
    session.negotiated();
  }

  /** Ends a session that came to nothing, here and at the server. */
  async #giveUp(operation: Operation, session: Session, error: ConferenceError): Promise<void> {
    this.#sessions.delete(session.id);
    if (session.ended) return;
    session.end(error);
    await this.#undo(operation, session.id);
  }

  async #undo(operation: Operation, id: string | undefined): Promise<void> {
    if (id !== undefined) await this.#signaling.request(operation.undo, { id }).catch(() => {});
  }

  /**
   * Takes back what a failed operation added, so that the next one starts clean. Its m-lines go with the next offer,
   * inactive: transceivers that were offered once can't be removed (Chromium gives the next m-lines to stopped ones).
   *
   * An offer that the server may have seen stays in place, because both sides must count the same m-lines, and the
   * next operation offers anew on top of it. Any other is rolled back. So is the very first, seen or not: with no
   * answer there is no transport yet, and the next operation asks for one.
   */
  async #withdraw(transceivers: readonly RTCRtpTransceiver[], offered: boolean): Promise<void> {
    if (this.#error) return;
    silence(transceivers);
    const first = this.#connection.remoteDescription === null;
    if (first) this.#id = undefined;
    if ((offered && !first) || this.#connection.signalingState !== 'have-local-offer') return;
    try {
      await this.#connection.setLocalDescription({ type: 'rollback' });
    } catch {
      // The next offer replaces this one.
      return;
    }
    // The first offer's candidates were gathered for nothing; those of an older one are as good as before.
    if (first) this.#localCandidates = [];
    this.#flushCandidates();
  }

  #onLocalCandidate(candidate: RTCIceCandidate | null): void {
    // The end-of-candidates marks (null, and the empty text) have no form in this protocol.
    if (!candidate || candidate.candidate === '') return;
    this.#localCandidates.push(candidate);
    this.#flushCandidates();
  }

  /** Candidates wait for the answer: before it the server may not know the transport or the m-line that they name. */
  #flushCandidates(): void {
    if (this.#connection.signalingState !== 'stable' || this.#connection.remoteDescription === null) return;
    for (const { candidate, sdpMid, sdpMLineIndex } of this.#localCandidates.splice(0)) {
      const signaling = { type: 'candidate', candidate: { candidate, sdpMid, sdpMLineIndex } };
      // A lost candidate costs one path of several; the connection's state tells if none was left.
      this.#signaling.request('soac', { id: this.#id, signaling }).catch(() => {});
    }
    for (const candidate of this.#remoteCandidates.splice(0)) this.#addRemoteCandidate(candidate);
  }

  #onRemoteCandidate(candidate: RTCIceCandidateInit): void {
    if (this.#connection.remoteDescription !== null) this.#addRemoteCandidate(candidate);
    else if (this.#remoteCandidates.length < MAX_EARLY_CANDIDATES) this.#remoteCandidates.push(candidate);
  }

  #addRemoteCandidate(candidate: RTCIceCandidateInit): void {
    this.#connection.addIceCandidate(candidate).catch(() => {});
  }

  #onConnectionState(state: string): void {
    if (state === 'failed') this.#fail(new ConferenceError('transport-failed', 'The media connection broke.'));
  }

  #endSession(id: string, error: ConferenceError): void {
    const session = this.#sessions.get(id);
    this.#sessions.delete(id);
    session?.end(error);
  }

  #fail(error: ConferenceError): void {
    if (this.#error) return;
    this.close(error);
    this.#closed(error);
  }

  #assertOpen(): void {
    if (this.#error) throw this.#error;
  }
}

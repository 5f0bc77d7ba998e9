import { Candidates } from './candidates.js';
import { Deferred, SerialQueue, within } from './deferred.js';
import { ConferenceError, toConferenceError } from './errors.js';
import { iceStateOf, IceWatch } from './ice-watch.js';
import { answers, hasData, isRestarted, withoutRefusedSimulcast } from './negotiation.js';
import { Session, silence } from './session.js';
import type { Signaling } from './signaling.js';
import { type Progress, readSessionAck } from './wire.js';

/** One publish or subscribe, as the transport needs to see it. */
export interface Operation {
  readonly request: 'publish' | 'subscribe';
  /** The request that ends what `request` began. */
  readonly undo: 'unpublish' | 'unsubscribe';
  /** How the session's data channel is opened; absent if it has none. */
  readonly data?: RTCDataChannelInit;
  /** Adds the transceivers that are this operation's own. */
  addTransceivers(connection: RTCPeerConnection): RTCRtpTransceiver[];
  /** The request's data, but for the transport. Called when the transceivers have mids. */
  describe(transceivers: readonly RTCRtpTransceiver[]): Record<string, unknown>;
}

/** How long the server may take, each in milliseconds. */
export interface Timeouts {
  /** From sending an offer to its answer. */
  answer: number;
  /** From the answer to the server's word that the session is ready; ICE and DTLS happen in it. */
  ready: number;
}

export const DEFAULT_TIMEOUTS: Timeouts = { answer: 10_000, ready: 20_000 };

export interface TransportHandlers {
  /** Media has stopped flowing; ICE is restarted, or the transport ends. May be told more than once. */
  interrupted(): void;
  /** Media flows, for the first time or again. */
  connected(): void;
  /** The transport ended by itself; all its sessions have ended before. Called once, and not by `close`. */
  closed(error: ConferenceError): void;
}

/** What the server says when the node at the other end of a transport is gone. */
const NODE_LOST = ['Node lost', 'Access node exited unexpectedly'];

/**
 * The id of a data channel that only makes offers have a line for data. It is agreed on beforehand, so nobody is told;
 * channels that are told have the lowest ids that are free.
 */
const PLACEHOLDER_CHANNEL = 254;

/**
 * One RTCPeerConnection that carries any number of sessions. The client always offers, one operation at a time.
 *
 * An operation adds its transceivers, makes an offer (which names their mids), sends its request, and only when that
 * is accepted the offer. The m-lines of a refused operation belong to nothing, which servers answer inactive.
 */
export class MediaTransport {
  readonly #connection: RTCPeerConnection;
  readonly #signaling: Pick<Signaling, 'request' | 'whenConnected' | 'connected'>;
  readonly #timeouts: Timeouts;
  readonly #handlers: TransportHandlers;
  readonly #queue = new SerialQueue();
  readonly #sessions = new Map<string, Session>();
  readonly #candidates: Candidates;
  readonly #watch: IceWatch;
  #id: string | undefined;
  #offer: { sdp: string; restarts: string | undefined; answer: Deferred<string> } | undefined;
  #dataLine = false;
  #error: ConferenceError | undefined;

  constructor(
    connection: RTCPeerConnection,
    signaling: Pick<Signaling, 'request' | 'whenConnected' | 'connected'>,
    timeouts: Timeouts,
    handlers: TransportHandlers,
  ) {
    this.#connection = connection;
    this.#signaling = signaling;
    this.#timeouts = timeouts;
    this.#handlers = handlers;
    // A lost candidate costs one path of several; the connection's state tells if none was left.
    this.#candidates = new Candidates(connection, (candidate) => {
      this.#signal({ type: 'candidate', candidate }).catch(() => {});
    });
    this.#watch = new IceWatch({
      restart: () => this.#restartIce(),
      interrupted: () => handlers.interrupted(),
      connected: () => handlers.connected(),
      lost: (cause) => this.#fail(new ConferenceError('transport-failed', 'The media connection broke.', { cause })),
    });
    connection.onicecandidate = ({ candidate }) => this.#candidates.onLocal(candidate);
    connection.onconnectionstatechange = () => this.#watch.onState(iceStateOf(connection));
    connection.oniceconnectionstatechange = () => this.#watch.onState(iceStateOf(connection));
  }

  /** The server's name for this transport: the id of its first session. Undefined before that is accepted. */
  get id(): string | undefined {
    return this.#id;
  }

  /** Whether an offer was answered: the server had this transport once. */
  get established(): boolean {
    return this.#connection.remoteDescription !== null;
  }

  carries(session: Session): boolean {
    return this.#sessions.get(session.id) === session;
  }

  /** Whether there are sessions on it. */
  get busy(): boolean {
    return this.#sessions.size > 0;
  }

  /** Performs an operation and resolves with its session, established. */
  async open(operation: Operation): Promise<Session> {
    const session = await this.#queue.run(() => this.#negotiate(operation));
    try {
      await this.#patiently(session.established, this.#timeouts.ready, operation.request);
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
    await this.#undo(undo, session.id);
  }

  /** The network changed: an interrupted connection doesn't wait any longer. */
  nudge(): void {
    this.#watch.nudge();
  }

  /** Takes a notification that names this transport. */
  onProgress(progress: Progress): void {
    switch (progress.status) {
      case 'answer': {
        const { sdp } = progress;
        const offer = this.#offer;
        if (offer && answers(sdp, offer.sdp) && isRestarted(sdp, offer.restarts)) offer.answer.resolve(sdp);
        break;
      }
      case 'candidate':
        this.#candidates.onRemote(progress.candidate);
        break;
      case 'ready':
        // Without a session it says that ICE and DTLS are up, which the connection knows by itself.
        if (progress.session !== undefined) this.#sessions.get(progress.session)?.ready();
        break;
      case 'moving':
        // A matter of what all its sessions belong to.
        break;
      case 'error':
        // A node doesn't take one session with it but all that it carries.
        if (progress.session === undefined || (NODE_LOST.includes(progress.reason) && this.#sessions.has(progress.session))) {
          this.#fail(new ConferenceError('transport-failed', progress.reason));
        } else {
          this.#endSession(progress.session, new ConferenceError('session-failed', progress.reason));
        }
        break;
    }
  }

  /** Ends everything on this transport; with no error, its sessions were asked to end. */
  close(error?: ConferenceError): void {
    if (this.#error) return;
    this.#error = error ?? new ConferenceError('disconnected', 'The media connection was closed.');
    this.#watch.close();
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
      const sdp = this.#needsOffer(operation, transceivers) ? await this.#makeOffer() : undefined;
      await this.#signaling.request(
        operation.request,
        {
          ...operation.describe(transceivers),
          transport: this.#id === undefined ? { type: 'webrtc' } : { type: 'webrtc', id: this.#id },
        },
        {
          accepted: (ack) => (session = this.#register(ack, operation, transceivers)),
          late: (ack) => void this.#undo(operation.undo, readSessionAck(ack)?.id),
        },
      );
      this.#assertOpen();
      if (sdp !== undefined) {
        offered = true;
        const answer = await this.#exchange(sdp);
        await this.#connection.setRemoteDescription({ type: 'answer', sdp: answer });
        this.#candidates.flush();
      }
      this.#accept(session!, operation);
      return session!;
    } catch (reason) {
      const error = this.#diagnose(toConferenceError(reason, 'negotiation-failed'), session);
      if (session) await this.#giveUp(operation, session, error);
      await this.#withdraw(transceivers, offered);
      if (error.code === 'transport-failed') this.#fail(error);
      throw error;
    }
  }

  /** Data alone needs no offer once there is a line for it. */
  #needsOffer(operation: Operation, transceivers: readonly RTCRtpTransceiver[]): boolean {
    if (operation.data && !this.#dataLine) {
      this.#connection.createDataChannel('', { negotiated: true, id: PLACEHOLDER_CHANNEL });
      this.#dataLine = true;
    }
    return transceivers.length > 0 || !hasData(this.#connection.remoteDescription?.sdp);
  }

  async #makeOffer(): Promise<string> {
    const offer = await this.#connection.createOffer();
    const sdp = withoutRefusedSimulcast(offer.sdp ?? '');
    await this.#connection.setLocalDescription({ type: 'offer', sdp });
    return sdp;
  }

  /**
   * A transport that worked before and that the server doesn't know any more is lost, although the connection may not
   * have noticed yet. The server says so when it is asked for another session, or when it is sent that one's offer.
   */
  #diagnose(error: ConferenceError, session: Session | undefined): ConferenceError {
    const lost = session ? error.code === 'refused' : error.message.startsWith(`Transport ${this.#id} `);
    return this.established && lost ? new ConferenceError('transport-failed', error.message, { cause: error }) : error;
  }

  /** Runs inside the acknowledgement, so that the session is known before any notification about it is read. */
  #register(ack: unknown, operation: Operation, transceivers: RTCRtpTransceiver[]): Session {
    const ids = readSessionAck(ack);
    if (!ids) throw new ConferenceError('negotiation-failed', 'The server named no session.');
    if (this.#id !== undefined && ids.transportId !== this.#id) {
      throw new ConferenceError('negotiation-failed', `The server moved the session to transport ${ids.transportId}.`);
    }
    this.#id = ids.transportId;
    const channel = operation.data && this.#connection.createDataChannel(ids.id, operation.data);
    const session = new Session(ids.id, transceivers, channel);
    this.#sessions.set(session.id, session);
    return session;
  }

  /** Sends an offer and resolves with its answer. `restarts` are the server's credentials that are to be replaced. */
  async #exchange(sdp: string, restarts?: string): Promise<string> {
    const answer = new Deferred<string>();
    this.#offer = { sdp, restarts, answer };
    try {
      await this.#signal({ type: 'offer', sdp });
      return await this.#patiently(answer.promise, this.#timeouts.answer, 'offer');
    } finally {
      this.#offer = undefined;
    }
  }

  /** A repeated offer is answered the same, a repeated candidate ignored. */
  async #signal(signaling: object): Promise<void> {
    await this.#signaling.request('soac', { id: this.#id, signaling }, { repeatable: true });
  }

  /** Like `within`, but what can't come because the client is cut off has the same time again when it is back. */
  async #patiently<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    for (;;) {
      try {
        return await within(promise, ms, what);
      } catch (error) {
        if (!(error instanceof ConferenceError) || error.code !== 'timeout' || this.#signaling.connected) throw error;
        await this.#signaling.whenConnected();
      }
    }
  }

  /** What the server answered inactive it doesn't carry; a session of which it carries nothing can't become ready. */
  #accept(session: Session, operation: Operation): void {
    if (session.ended) return;
    const carried = session.transceivers.some(
      ({ currentDirection }) => currentDirection === 'sendonly' || currentDirection === 'recvonly',
    );
    const dataRefused = operation.data !== undefined && !hasData(this.#connection.remoteDescription?.sdp);
    if (dataRefused || (!carried && operation.data === undefined)) {
      throw new ConferenceError('negotiation-failed', `The server accepted no ${dataRefused ? 'data' : 'media'} of the offer.`);
    }
    session.negotiated();
  }

  /** New credentials and candidates for the connection that is there: DTLS and SRTP go on. */
  async #restartIce(): Promise<void> {
    await this.#signaling.whenConnected();
    await this.#queue.run(async () => {
      this.#assertOpen();
      if (!this.#watch.inTrouble) return;
      const before = this.#connection.remoteDescription?.sdp;
      this.#candidates.forgetLocal();
      this.#connection.restartIce();
      try {
        const answer = await this.#exchange(await this.#makeOffer(), before);
        await this.#connection.setRemoteDescription({ type: 'answer', sdp: answer });
      } catch (error) {
        // The old credentials are good for what has healed by itself meanwhile.
        if (!this.#error) await this.#connection.setLocalDescription({ type: 'rollback' }).catch(() => {});
        throw error;
      }
      this.#candidates.flush();
    });
  }

  /** Ends a session that came to nothing, here and at the server. */
  async #giveUp(operation: Operation, session: Session, error: ConferenceError): Promise<void> {
    this.#sessions.delete(session.id);
    if (session.ended) return;
    session.end(error);
    await this.#undo(operation.undo, session.id);
  }

  async #undo(undo: Operation['undo'], id: string | undefined): Promise<void> {
    if (id !== undefined) await this.#signaling.request(undo, { id }, { repeatable: true }).catch(() => {});
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
    const first = !this.established;
    if (first) this.#id = undefined;
    if ((offered && !first) || this.#connection.signalingState !== 'have-local-offer') return;
    try {
      await this.#connection.setLocalDescription({ type: 'rollback' });
    } catch {
      // The next offer replaces this one.
      return;
    }
    // The first offer's candidates were gathered for nothing; those of an older one are as good as before.
    if (first) this.#candidates.forgetLocal();
    this.#candidates.flush();
  }

  #endSession(id: string, error: ConferenceError): void {
    const session = this.#sessions.get(id);
    this.#sessions.delete(id);
    session?.end(error);
  }

  #fail(error: ConferenceError): void {
    if (this.#error) return;
    this.#handlers.interrupted();
    this.close(error);
    this.#handlers.closed(error);
  }

  #assertOpen(): void {
    if (this.#error) throw this.#error;
  }
}

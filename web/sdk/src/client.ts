import { connectSocketIo, type NotificationName, type SocketFactory } from './connection.js';
import type { DataOptions } from './data.js';
import { within } from './deferred.js';
import { Emitter } from './emitter.js';
import type { Encryption } from './encryption/encryption.js';
import { connectionOptions, passThrough } from './encryption/support.js';
import { ConferenceError, toConferenceError } from './errors.js';
import { Media } from './media.js';
import { browserPage, type Page } from './page.js';
import type { Participant } from './participant.js';
import { Publication, type PublishOptions } from './publication.js';
import { type ConferenceInfo, loginOf, Room, type RoomEmit, type RoomEvents } from './room.js';
import { type DisconnectReason, Signaling, type TokenProvider } from './signaling.js';
import { LocalStream, type LocalStreamOptions, type RemoteStream } from './streams.js';
import { type SubscribeOptions, Subscription } from './subscription.js';
import { DEFAULT_TIMEOUTS, type Timeouts } from './transport.js';
import { readLayersMessage, readProgress } from './wire.js';

/** How a client gets over failures. */
export interface RecoveryOptions {
  /** For how long a lost connection to the server is tried to be replaced, in milliseconds; 300,000 if not said. */
  reconnectMs?: number;
  /** How often in a row a lost publication or subscription is made anew; 8 if not said, which takes about a minute. */
  attempts?: number;
}

/** What a {@link ConferenceClient} is made with. */
export interface ConferenceClientOptions {
  /** The bundle policy is `max-bundle` unless said otherwise, and the ICE servers are those that the server names. */
  rtcConfiguration?: RTCConfiguration;
  /**
   * Other addresses of the same cluster, to be tried when the one in the token can't be reached: `host:port`, as secure
   * as the token says, or URLs with `http` or `https`.
   */
  hosts?: readonly string[];
  /**
   * Gets a new token from the application's own server. With it, a client that isn't let back into its place joins
   * anew, and publishes and subscribes there what it had.
   */
  tokenProvider?: TokenProvider;
  /** Encrypts what is published end to end, and decrypts what is received of streams that are encrypted, unless said otherwise there. */
  encryption?: Encryption;
  /** `false` ends everything at the first failure: the conference with its connection, sessions with theirs. */
  recovery?: RecoveryOptions | false;
  /** @internal */
  createSocket?: SocketFactory;
  /** @internal */
  createPeerConnection?: (configuration: RTCConfiguration) => RTCPeerConnection;
  /** @internal */
  timeouts?: Timeouts;
  /** @internal */
  page?: Page;
}

/** The events of a {@link ConferenceClient}. */
export interface ConferenceClientEvents extends RoomEvents {
  /**
   * The connection to the server was lost, `attempt` (1, 2, …) to replace it begins. Media goes on meanwhile, and
   * requests wait, for up to 30 s and 128 of them.
   */
  reconnecting: { attempt: number; error: ConferenceError };
  /**
   * The connection is back. With `sameParticipant` everything is as before, and what was missed has been told or
   * follows; otherwise the client has joined as a new participant, and makes its publications and subscriptions anew.
   */
  reconnected: { sameParticipant: boolean };
  /** It is over. All sessions have ended; `join` may be called again. */
  disconnected: { reason: DisconnectReason; error: ConferenceError };
  /** Media has stopped flowing; its connection is being restarted or replaced. */
  mediainterrupted: Record<string, never>;
  /** Media flows again. */
  mediarecovered: Record<string, never>;
}

/**
 * Where a client is.
 *
 * - `idle`: in no conference
 * - `joining`: between the call of `join` and its end
 * - `joined`: in a conference
 * - `reconnecting`: in a conference, but cut off from its server
 */
export type ClientState = 'idle' | 'joining' | 'joined' | 'reconnecting';

/** The longest text message, in UTF-16 code units (as `String.length` counts). */
export const MAX_TEXT_LENGTH = 2_048;

/** How long `leave` waits for the server's acknowledgement, in milliseconds; after that leaving is the server's to notice. */
const LOGOUT_TIMEOUT_MS = 2_000;
const RECONNECT_MS = 300_000;
const ATTEMPTS = 8;

/** A conference from the first connection to the end. */
interface Visit {
  readonly signaling: Signaling;
  readonly media: Media;
  readonly publications: Set<Publication>;
  room?: Room;
}

/**
 * A client of one conference at a time.
 *
 * ```ts
 * const client = new ConferenceClient({ tokenProvider: getToken });
 * client.on('streamadded', ({ stream }) => …);
 * const { streams } = await client.join(await getToken());
 * const publication = await client.publish(new LocalStream(mediaStream));
 * const subscription = await client.subscribe([...streams.values()].find((s) => s.type === 'mixed')!);
 * subscription.attach(videoElement);
 * ```
 *
 * All media goes over one RTCPeerConnection. Calls may overlap; negotiations are made one after another, and one that
 * fails leaves the others unharmed. Every rejection is a {@link ConferenceError}.
 *
 * It gets over failures by itself. A lost connection to the server is replaced (`reconnecting`, `reconnected`), while
 * media goes on. A media connection that stops working is restarted, or if that doesn't help replaced, with everything
 * on it (`mediainterrupted`, `mediarecovered`; `recovering` and `recovered` of each publication and subscription).
 * What can't be got over ends with `disconnected`, or with `error` and `ended` of the publication or subscription.
 */
export class ConferenceClient extends Emitter<ConferenceClientEvents> {
  readonly #options: ConferenceClientOptions;
  readonly #page: Page;
  readonly #attempts: number;
  #visit: Visit | undefined;

  constructor(options: ConferenceClientOptions = {}) {
    super();
    this.#options = options;
    this.#page = options.page ?? browserPage;
    this.#attempts = options.recovery === false ? 0 : (options.recovery?.attempts ?? ATTEMPTS);
  }

  /** The conference, or undefined while not in one. */
  get info(): ConferenceInfo | undefined {
    return this.#visit?.room;
  }

  /** Where the client is. */
  get state(): ClientState {
    if (!this.#visit) return 'idle';
    if (!this.#visit.room) return 'joining';
    return this.#visit.signaling.connected ? 'joined' : 'reconnecting';
  }

  /**
   * Joins the conference that the token was made for. A token is good for one attempt.
   *
   * Rejects with `invalid-token`, `connect-failed`, `login-refused`, `timeout`, `disconnected` (also if `leave` is
   * called meanwhile), or `invalid-state` if the client is in a conference already.
   */
  async join(token: string): Promise<ConferenceInfo> {
    if (this.#visit) throw new ConferenceError('invalid-state', 'The client is in a conference already.');
    const visit = this.#begin();
    this.#visit = visit;
    try {
      await visit.signaling.login(token);
      return visit.room!;
    } catch (reason) {
      visit.signaling.close();
      if (this.#visit === visit) this.#visit = undefined;
      const error = toConferenceError(reason, 'connect-failed');
      throw error.code === 'refused' ? new ConferenceError('login-refused', error.message, { cause: error }) : error;
    }
  }

  /** Leaves the conference: ends all publications and subscriptions. Does nothing if the client isn't in one. */
  async leave(): Promise<void> {
    const visit = this.#visit;
    if (!visit) return;
    const told = visit.signaling.connected;
    this.#visit = undefined;
    visit.media.close();
    if (told) await within(visit.signaling.request('logout'), LOGOUT_TIMEOUT_MS, 'logout').catch(() => {});
    visit.signaling.close();
  }

  /**
   * Publishes a stream. Resolves when its media flows.
   *
   * Rejects with `refused` if the role or the room doesn't allow it, `invalid-argument` if there is nothing to publish,
   * `timeout`, `negotiation-failed`, `session-failed`, `transport-failed`, `disconnected` or `invalid-state` (also if
   * it is to be encrypted, and there is no key).
   */
  async publish(stream: LocalStream, options: PublishOptions = {}): Promise<Publication> {
    const visit = this.#joined();
    const publication = new Publication(stream, options, visit.media, this.#attempts, this.#options.encryption);
    visit.publications.add(publication);
    publication.once('ended', () => visit.publications.delete(publication));
    try {
      await publication.start();
    } catch (error) {
      visit.publications.delete(publication);
      throw error;
    }
    return publication;
  }

  /** Publishes data alone: a stream without audio and video. `publication.send` sends. Rejects as {@link publish} does. */
  publishData(options: DataOptions & Pick<LocalStreamOptions, 'attributes'> = {}): Promise<Publication> {
    const { attributes, ...data } = options;
    const stream = new LocalStream(new MediaStream(), attributes ? { attributes } : {});
    return this.publish(stream, { data });
  }

  /**
   * Subscribes a stream, given itself or by its id. Resolves when its media flows. Rejects as {@link publish} does;
   * `invalid-argument` also if there is no such stream, or it lacks what is asked for, or is encrypted without an
   * `encryption` here.
   */
  async subscribe(stream: RemoteStream | string, options: SubscribeOptions = {}): Promise<Subscription> {
    const { room, media } = this.#joined();
    const find = (wanted: RemoteStream | string): RemoteStream => {
      const found = typeof wanted === 'string' ? room.streams.get(wanted) : wanted;
      if (!found) throw new ConferenceError('invalid-argument', `There is no stream ${String(wanted)}.`);
      return found;
    };
    const { encryption } = this.#options;
    const subscription = new Subscription(find(stream), options, { media, page: this.#page, attempts: this.#attempts, find, encryption });
    await subscription.start();
    return subscription;
  }

  /**
   * Sends a text to one participant, or to everyone (who gets it back, too).
   *
   * Rejects with `invalid-argument` if it is longer than {@link MAX_TEXT_LENGTH}, `refused` if the receiver isn't there,
   * `timeout`, `disconnected` (it may have arrived or not) or `invalid-state`.
   */
  async send(message: string, to: Participant | string = 'all'): Promise<void> {
    const { signaling } = this.#joined();
    if (message.length > MAX_TEXT_LENGTH) {
      throw new ConferenceError('invalid-argument', `A text message has at most ${MAX_TEXT_LENGTH} characters; this one has ${message.length}.`);
    }
    await signaling.request('text', { to: typeof to === 'string' ? to : to.id, message });
  }

  #joined(): Visit & { room: Room } {
    if (!this.#visit?.room) throw new ConferenceError('invalid-state', 'The client is in no conference.');
    return this.#visit as Visit & { room: Room };
  }

  #begin(): Visit {
    const { createSocket, hosts, tokenProvider, recovery, createPeerConnection, rtcConfiguration, timeouts, encryption } = this.#options;
    const options = {
      createSocket: createSocket ?? connectSocketIo,
      hosts: hosts ?? [],
      tokenProvider,
      reconnectMs: recovery === false ? 0 : (recovery?.reconnectMs ?? RECONNECT_MS),
      page: this.#page,
    };
    // A visit that is being left may still speak while the next one begins.
    const current = () => this.#visit === visit;
    const signaling = new Signaling(options, {
      entered: (ack, again) => this.#enter(visit, ack, again),
      notification: (name, data) => current() && this.#onNotification(visit, name, data),
      reconnecting: (attempt, error) => current() && this.emit('reconnecting', { attempt, error }),
      reconnected: (sameParticipant) => {
        if (!current()) return;
        this.emit('reconnected', { sameParticipant });
        visit.media.nudge();
      },
      ended: (reason, error) => {
        if (!current()) return;
        // Media could go on without it, but a participant whose signaling is gone is leaving in the server's eyes.
        this.#visit = undefined;
        visit.media.close(new ConferenceError('disconnected', error.message, { cause: error }));
        if (visit.room) this.emit('disconnected', { reason, error });
      },
    });
    const create = createPeerConnection ?? ((configuration: RTCConfiguration) => new RTCPeerConnection(configuration));
    const media = new Media(signaling, {
      createPeerConnection: () => {
        const iceServers = visit.room?.iceServers ?? [];
        return create({ bundlePolicy: 'max-bundle', ...(iceServers.length > 0 && { iceServers }), ...(encryption && connectionOptions()), ...rtcConfiguration });
      },
      timeouts: timeouts ?? DEFAULT_TIMEOUTS,
      passThrough: (target) => encryption && passThrough(target),
      interrupted: () => current() && this.emit('mediainterrupted', {}),
      recovered: () => current() && this.emit('mediarecovered', {}),
    });
    const visit: Visit = { signaling, media, publications: new Set() };
    return visit;
  }

  /** Runs inside the acknowledgement: the notifications that follow need its streams and participants. */
  #enter(visit: Visit, ack: unknown, again: boolean): void {
    const login = loginOf(ack);
    if (!again) {
      visit.room = new Room(login, this.emit.bind(this) as RoomEmit);
      return;
    }
    // The transport belonged to the participant that is gone.
    visit.media.reset(new ConferenceError('transport-failed', 'The client had to join anew.'));
    visit.room?.reenter(login);
  }

  #onNotification(visit: Visit, name: NotificationName, data: unknown): void {
    if (!visit.room) return;
    if (name === 'progress') {
      const progress = readProgress(data);
      if (progress) visit.media.onProgress(progress);
      return;
    }
    if (name === 'layers') {
      const message = readLayersMessage(data);
      for (const publication of visit.publications) if (message && publication.id === message.id) publication.onLayers(message.wanted);
      return;
    }
    const changed = visit.room.onNotification(name, data);
    if (changed?.update.field !== 'status') return;
    const { kind, active } = changed.update;
    for (const publication of visit.publications) if (publication.id === changed.id) publication.onStatus(kind, active);
  }
}

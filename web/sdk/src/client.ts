import { Emitter } from './emitter.js';
import { ConferenceError, toConferenceError } from './errors.js';
import { within } from './deferred.js';
import { Participant } from './participant.js';
import { type PublishOptions, Publication, publishOperation } from './publication.js';
import { connectSocketIo, type NotificationName, Signaling, type SignalingEnd, type SocketFactory } from './signaling.js';
import { type LocalStream, RemoteStream, type StreamChange } from './streams.js';
import { type SubscribeOptions, Subscription, subscribeOperation } from './subscription.js';
import { serverUrl } from './token.js';
import { DEFAULT_TIMEOUTS, MediaTransport, type Timeouts } from './transport.js';
import {
  type LayoutEntry,
  type LoginFields,
  type Permission,
  readLogin,
  readParticipantMessage,
  readProgress,
  readStreamMessage,
  readText,
  type StreamFields,
  type StreamUpdate,
} from './wire.js';

export interface ConferenceClientOptions {
  /** For example ICE servers; the bundle policy is `max-bundle` unless said otherwise. */
  rtcConfiguration?: RTCConfiguration;
  /** @internal */
  createSocket?: SocketFactory;
  /** @internal */
  createPeerConnection?: (configuration: RTCConfiguration) => RTCPeerConnection;
  /** @internal */
  timeouts?: Timeouts;
}

/** The conference as this client sees it. The maps are live: they follow the server's notifications. */
export interface ConferenceInfo {
  readonly roomId: string;
  /** The labels of the views that the server mixes. */
  readonly views: readonly string[];
  /** This client. */
  readonly self: Participant;
  /** What this client's role allows. */
  readonly permission: Permission;
  /** Everyone in the room, this client included, by id. */
  readonly participants: ReadonlyMap<string, Participant>;
  /** All streams in the room, this client's own included, by id. */
  readonly streams: ReadonlyMap<string, RemoteStream>;
}

export interface ConferenceClientEvents {
  streamadded: { stream: RemoteStream };
  streamremoved: { stream: RemoteStream };
  streamupdated: { stream: RemoteStream; change: StreamChange };
  participantjoined: { participant: Participant };
  participantleft: { participant: Participant };
  /** A text message; `from` is undefined if its sender has left. Messages to `all` come back to their sender too. */
  messagereceived: { from: Participant | undefined; fromId: string; to: string; message: string };
  /** A mixed stream's picture was rearranged. */
  layoutchange: { stream: RemoteStream; layout: readonly LayoutEntry[] };
  /** Another input (a stream's id) of a mixed or active-audio stream is the loudest now. */
  activeaudioinputchange: { stream: RemoteStream; activeInput: string; volume: string | undefined };
  /** The server ended the conference for this client, or was lost. All sessions have ended; `join` may be called again. */
  serverdisconnected: { reason: SignalingEnd };
}

interface Joined {
  readonly info: ConferenceInfo;
  readonly participants: Map<string, Participant>;
  readonly streams: Map<string, RemoteStream>;
  readonly publications: Map<string, Publication>;
}

/** How long `leave` waits for the server's acknowledgement, in milliseconds; after that leaving is the server's to notice. */
const LOGOUT_TIMEOUT_MS = 2_000;

/**
 * A client of one conference at a time.
 *
 * ```ts
 * const client = new ConferenceClient();
 * client.on('streamadded', ({ stream }) => …);
 * const { streams } = await client.join(token);
 * const publication = await client.publish(new LocalStream(mediaStream));
 * const { stream } = await client.subscribe([...streams.values()].find((s) => s.type === 'mixed')!);
 * ```
 *
 * All media goes over one RTCPeerConnection. Calls may overlap; negotiations are made one after another, and one that
 * fails leaves the others unharmed. Every rejection is a {@link ConferenceError}.
 */
export class ConferenceClient extends Emitter<ConferenceClientEvents> {
  readonly #options: ConferenceClientOptions;
  #signaling: Signaling | undefined;
  #transport: MediaTransport | undefined;
  #joined: Joined | undefined;

  constructor(options: ConferenceClientOptions = {}) {
    super();
    this.#options = options;
  }

  /** The conference, or undefined while not in one. */
  get info(): ConferenceInfo | undefined {
    return this.#joined?.info;
  }

  /**
   * Joins the conference that the token was made for. A token is good for one attempt.
   *
   * Rejects with `invalid-token`, `connect-failed`, `login-refused`, `timeout`, `disconnected` (also if `leave` is
   * called meanwhile), or `invalid-state` if the client is in a conference already.
   */
  async join(token: string): Promise<ConferenceInfo> {
    if (this.#signaling) throw new ConferenceError('invalid-state', 'The client is in a conference already.');
    const socket = (this.#options.createSocket ?? connectSocketIo)(serverUrl(token));
    const signaling: Signaling = new Signaling(socket, {
      // A connection that is being left may still speak while the next one is joining.
      notification: (name, data) => this.#signaling === signaling && this.#onNotification(name, data),
      ended: (reason) => this.#signaling === signaling && this.#onServerLost(reason),
    });
    this.#signaling = signaling;
    try {
      await signaling.connect();
      // The notifications that follow the acknowledgement need its streams and participants.
      await signaling.request('login', loginRequest(token), (ack) => this.#enter(readLogin(ack)));
      return this.#required().info;
    } catch (reason) {
      signaling.close();
      if (this.#signaling === signaling) this.#forget();
      const error = toConferenceError(reason, 'connect-failed');
      throw error.code === 'refused' ? new ConferenceError('login-refused', error.message, { cause: error }) : error;
    }
  }

  /** Leaves the conference: ends all publications and subscriptions. Does nothing if the client isn't in one. */
  async leave(): Promise<void> {
    const signaling = this.#signaling;
    if (!signaling) return;
    const joined = this.#joined !== undefined;
    this.#forget();
    if (joined) await within(signaling.request('logout'), LOGOUT_TIMEOUT_MS, 'logout').catch(() => {});
    signaling.close();
  }

  /** Publishes a stream. Resolves when its media flows; rejects with `refused` if the role or the room doesn't allow it. */
  async publish(stream: LocalStream, options: PublishOptions = {}): Promise<Publication> {
    const operation = publishOperation(stream, options);
    const { transport, signaling, joined } = this.#media();
    const session = await transport.open(operation);
    const publication = new Publication(stream, session, transport, signaling);
    joined.publications.set(publication.id, publication);
    publication.once('ended', () => joined.publications.delete(publication.id));
    return publication;
  }

  /** Subscribes a stream, given itself or by its id. Resolves when its media flows. */
  async subscribe(stream: RemoteStream | string, options: SubscribeOptions = {}): Promise<Subscription> {
    const source = typeof stream === 'string' ? this.#required().streams.get(stream) : stream;
    if (!source) throw new ConferenceError('invalid-argument', `There is no stream ${String(stream)}.`);
    const operation = subscribeOperation(source, options);
    const { transport, signaling } = this.#media();
    return new Subscription(source, await transport.open(operation), transport, signaling);
  }

  /** Sends a text to one participant, or to everyone. */
  async send(message: string, to: Participant | string = 'all'): Promise<void> {
    this.#required();
    await this.#signaling?.request('text', { to: typeof to === 'string' ? to : to.id, message });
  }

  #required(): Joined {
    if (!this.#joined) throw new ConferenceError('invalid-state', 'The client is in no conference.');
    return this.#joined;
  }

  /** The transport is made when it is first needed, and anew after it broke. */
  #media(): { transport: MediaTransport; signaling: Signaling; joined: Joined } {
    const joined = this.#required();
    const signaling = this.#signaling!;
    this.#transport ??= this.#createTransport(signaling);
    return { transport: this.#transport, signaling, joined };
  }

  #createTransport(signaling: Signaling): MediaTransport {
    const create = this.#options.createPeerConnection ?? ((configuration) => new RTCPeerConnection(configuration));
    const connection = create({ bundlePolicy: 'max-bundle', ...this.#options.rtcConfiguration });
    const timeouts = this.#options.timeouts ?? DEFAULT_TIMEOUTS;
    const transport: MediaTransport = new MediaTransport(connection, signaling, timeouts, () => {
      if (this.#transport === transport) this.#transport = undefined;
    });
    return transport;
  }

  #enter(login: LoginFields | undefined): void {
    if (!login) throw new ConferenceError('login-refused', "The server's answer to the login can't be understood.");
    const participants = new Map(login.participants.map((fields) => [fields.id, new Participant(fields)]));
    const self = participants.get(login.id) ?? new Participant(login);
    participants.set(self.id, self);
    const streams = new Map(login.streams.map((fields) => [fields.id, new RemoteStream(fields)]));
    const { roomId, views, permission } = login;
    const info = { roomId, views, self, permission, participants, streams };
    this.#joined = { info, participants, streams, publications: new Map() };
  }

  /**
   * Signaling ended from the other side. Media could go on without it, but a participant whose signaling is gone is
   * leaving in the server's eyes, so everything ends here as well.
   */
  #onServerLost(reason: SignalingEnd): void {
    const joined = this.#joined !== undefined;
    this.#forget(new ConferenceError('disconnected', 'The connection to the server was lost.'));
    if (joined) this.emit('serverdisconnected', { reason });
  }

  #forget(error?: ConferenceError): void {
    this.#transport?.close(error);
    this.#transport = undefined;
    this.#signaling = undefined;
    this.#joined = undefined;
  }

  #onNotification(name: NotificationName, data: unknown): void {
    const joined = this.#joined;
    if (!joined) return;
    switch (name) {
      case 'participant':
        return this.#onParticipant(joined, data);
      case 'stream':
        return this.#onStream(joined, data);
      case 'progress': {
        const progress = readProgress(data);
        if (progress && progress.transport === this.#transport?.id) this.#transport.onProgress(progress);
        return;
      }
      case 'text': {
        const text = readText(data);
        if (!text) return;
        const { from: fromId, to, message } = text;
        return this.emit('messagereceived', { from: joined.participants.get(fromId), fromId, to, message });
      }
    }
  }

  #onParticipant({ participants }: Joined, data: unknown): void {
    const message = readParticipantMessage(data);
    if (message?.action === 'join' && !participants.has(message.participant.id)) {
      const participant = new Participant(message.participant);
      participants.set(participant.id, participant);
      this.emit('participantjoined', { participant });
    } else if (message?.action === 'leave') {
      const participant = participants.get(message.id);
      if (!participant) return;
      participants.delete(participant.id);
      participant.emit('left', {});
      this.emit('participantleft', { participant });
    }
  }

  #onStream(joined: Joined, data: unknown): void {
    const message = readStreamMessage(data);
    switch (message?.status) {
      case 'add':
        return this.#addStream(joined, message.stream);
      case 'update':
        return this.#updateStream(joined, message.id, message.update);
      case 'remove': {
        const stream = joined.streams.get(message.id);
        if (!stream) return;
        joined.streams.delete(stream.id);
        stream.end();
        return this.emit('streamremoved', { stream });
      }
    }
  }

  #addStream(joined: Joined, fields: StreamFields): void {
    if (joined.streams.has(fields.id)) return this.#updateStream(joined, fields.id, { field: 'stream', stream: fields });
    const stream = new RemoteStream(fields);
    joined.streams.set(stream.id, stream);
    this.emit('streamadded', { stream });
  }

  #updateStream({ streams, publications }: Joined, id: string, update: StreamUpdate): void {
    if (update.field === 'status') {
      publications.get(id)?.emit(update.active ? 'unmute' : 'mute', { kind: update.kind });
    }
    const stream = streams.get(id);
    if (!stream) return;
    stream.apply(update);
    this.emit('streamupdated', { stream, change: update.field });
    if (update.field === 'layout') this.emit('layoutchange', { stream, layout: update.layout });
    if (update.field === 'activeInput') {
      this.emit('activeaudioinputchange', { stream, activeInput: update.stream, volume: update.volume });
    }
  }
}

/**
 * The SDK names itself, not `JavaScript`: servers keep a participant of a type that can resume its session waiting
 * when its connection closes, and this client joins anew instead.
 */
function loginRequest(token: string): object {
  return { token, userAgent: { sdk: { type: 'Kaigi', version: '0.1.0' } }, protocol: '1.2' };
}

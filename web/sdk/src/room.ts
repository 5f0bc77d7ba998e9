import type { NotificationName } from './connection.js';
import { ConferenceError } from './errors.js';
import { Participant } from './participant.js';
import { RemoteStream, type StreamChange } from './streams.js';
import {
  type LayoutEntry,
  type LoginFields,
  type Permission,
  readLogin,
  readParticipantMessage,
  readStreamMessage,
  readText,
  type StreamFields,
  type StreamUpdate,
  type Volume,
} from './wire.js';

/** The conference as this client sees it. It is live: it follows the server's notifications. */
export interface ConferenceInfo {
  /** The room's id. */
  readonly roomId: string;
  /** The labels of the views that the server mixes. */
  readonly views: readonly string[];
  /** This client. Another object after the client had to join anew. */
  readonly self: Participant;
  /** What this client's role allows. */
  readonly permission: Permission;
  /** Everyone in the room, this client included, by id. */
  readonly participants: ReadonlyMap<string, Participant>;
  /** All streams in the room, this client's own included, by id. */
  readonly streams: ReadonlyMap<string, RemoteStream>;
}

/** What is told about people, streams and texts. */
export interface RoomEvents {
  /** A stream came into the room; it may be subscribed. */
  streamadded: { stream: RemoteStream };
  /** A stream left the room. */
  streamremoved: { stream: RemoteStream };
  /** Something about a stream changed; its properties hold the new values. */
  streamupdated: { stream: RemoteStream; change: StreamChange };
  /** Someone else joined. */
  participantjoined: { participant: Participant };
  /** Someone left. */
  participantleft: { participant: Participant };
  /**
   * A text message; `from` is undefined if its sender has left. `to` is `all` or `me`. Messages to `all` come back to
   * their sender too.
   */
  messagereceived: { from: Participant | undefined; fromId: string; to: string; message: string };
  /** A mixed stream's picture was rearranged. */
  layoutchange: { stream: RemoteStream; layout: readonly LayoutEntry[] };
  /**
   * Another input (a stream's id) of a mixed stream is the loudest now; or another is heard in a selecting stream, or leads the
   * conversation now (`major`), or does no more (`minor`).
   */
  activeaudioinputchange: { stream: RemoteStream; activeInput: string; volume: Volume | undefined };
}

export type RoomEmit = <Name extends keyof RoomEvents>(name: Name, event: RoomEvents[Name]) => void;

/** @internal Reads the acknowledgement of a login. Throws `login-refused` if it makes no sense. */
export function loginOf(ack: unknown): LoginFields {
  const login = readLogin(ack);
  if (!login) throw new ConferenceError('login-refused', "The server's answer to the login can't be understood.");
  return login;
}

/** @internal The people and streams of a conference, kept up to date by notifications. */
export class Room implements ConferenceInfo {
  readonly participants = new Map<string, Participant>();
  readonly streams = new Map<string, RemoteStream>();
  readonly #emit: RoomEmit;
  #login: LoginFields;
  #self: Participant;

  constructor(login: LoginFields, emit: RoomEmit) {
    this.#emit = emit;
    this.#login = login;
    for (const fields of login.participants) this.participants.set(fields.id, new Participant(fields));
    for (const fields of login.streams) this.streams.set(fields.id, new RemoteStream(fields));
    this.#self = this.#findSelf();
  }

  get roomId(): string {
    return this.#login.roomId;
  }

  /** @internal */
  get iceServers(): RTCIceServer[] {
    return this.#login.iceServers;
  }

  get views(): readonly string[] {
    return this.#login.views;
  }

  get permission(): Permission {
    return this.#login.permission;
  }

  get self(): Participant {
    return this.#self;
  }

  /** The client has joined anew: what is different from before is told as if it had just happened. */
  reenter(login: LoginFields): void {
    this.#login = login;
    const people = new Set(login.participants.map(({ id }) => id));
    const streams = new Set(login.streams.map(({ id }) => id));
    for (const id of [...this.streams.keys()]) if (!streams.has(id)) this.#removeStream(id);
    for (const id of [...this.participants.keys()]) if (!people.has(id)) this.#removeParticipant(id);
    // One's own arrival is no news.
    this.#self = this.#findSelf();
    for (const fields of login.participants) this.#addParticipant(new Participant(fields));
    for (const fields of login.streams) this.#addStream(fields);
  }

  /** Takes a notification. Returns the update of a track's status, which concerns publications too. */
  onNotification(name: Exclude<NotificationName, 'progress' | 'layers'>, data: unknown): { id: string; update: StreamUpdate } | undefined {
    switch (name) {
      case 'participant': {
        const message = readParticipantMessage(data);
        if (message?.action === 'join') this.#addParticipant(new Participant(message.participant));
        else if (message) this.#removeParticipant(message.id);
        return undefined;
      }
      case 'stream': {
        const message = readStreamMessage(data);
        if (message?.status === 'add') this.#addStream(message.stream);
        else if (message?.status === 'remove') this.#removeStream(message.id);
        else if (message) this.#updateStream(message.id, message.update);
        return message?.status === 'update' && message.update.field === 'status' ? message : undefined;
      }
      case 'text': {
        const text = readText(data);
        if (!text) return undefined;
        const { from: fromId, to, message } = text;
        this.#emit('messagereceived', { from: this.participants.get(fromId), fromId, to, message });
        return undefined;
      }
    }
  }

  #findSelf(): Participant {
    const self = this.participants.get(this.#login.id) ?? new Participant(this.#login);
    this.participants.set(self.id, self);
    return self;
  }

  #addParticipant(participant: Participant): void {
    if (this.participants.has(participant.id)) return;
    this.participants.set(participant.id, participant);
    this.#emit('participantjoined', { participant });
  }

  #removeParticipant(id: string): void {
    const participant = this.participants.get(id);
    if (!participant) return;
    this.participants.delete(id);
    participant.emit('left', {});
    this.#emit('participantleft', { participant });
  }

  #addStream(fields: StreamFields): void {
    if (this.streams.has(fields.id)) return this.#updateStream(fields.id, { field: 'stream', stream: fields });
    const stream = new RemoteStream(fields);
    this.streams.set(stream.id, stream);
    this.#emit('streamadded', { stream });
  }

  #removeStream(id: string): void {
    const stream = this.streams.get(id);
    if (!stream) return;
    this.streams.delete(id);
    stream.end();
    this.#emit('streamremoved', { stream });
  }

  #updateStream(id: string, update: StreamUpdate): void {
    const stream = this.streams.get(id);
    if (!stream) return;
    stream.apply(update);
    this.#emit('streamupdated', { stream, change: update.field });
    if (update.field === 'layout') this.#emit('layoutchange', { stream, layout: update.layout });
    if (update.field === 'activeInput') {
      this.#emit('activeaudioinputchange', { stream, activeInput: update.stream, volume: update.volume });
    }
  }
}

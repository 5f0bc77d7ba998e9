/**
 * Kaigi's browser SDK: join a conference, publish local media and data, subscribe to others' streams and to mixed ones.
 *
 * Start at {@link ConferenceClient}.
 *
 * @module
 */
export { ConferenceClient, MAX_TEXT_LENGTH } from './client.js';
export type { ClientState, ConferenceClientEvents, ConferenceClientOptions, RecoveryOptions } from './client.js';
export { MAX_DATA_BYTES } from './data.js';
export type { DataMessage, DataOptions } from './data.js';
export { Encryption } from './encryption/encryption.js';
export type { EncryptionOptions } from './encryption/encryption.js';
export type { DecryptionFailure } from './encryption/frame.js';
export type { Cipher, EncryptionKey } from './encryption/keys.js';
export type { EncryptionFailure } from './encryption/messages.js';
export { ConferenceError } from './errors.js';
export type { ConferenceErrorCode } from './errors.js';
export { Emitter } from './emitter.js';
export type { Listener } from './emitter.js';
export { Participant } from './participant.js';
export type { ParticipantEvents } from './participant.js';
export { Publication } from './publication.js';
export type { PublicationEvents, PublishOptions, PublishTrackOptions } from './publication.js';
export type { ConferenceInfo, RoomEvents } from './room.js';
export type { DisconnectReason, TokenProvider } from './signaling.js';
export { LocalStream, RemoteStream } from './streams.js';
export type { AudioSource, LocalStreamOptions, RemoteStreamEvents, StreamChange, VideoSource } from './streams.js';
export { Subscription } from './subscription.js';
export type {
  AttachOptions,
  AudioSubscribeOptions,
  DataSubscribeOptions,
  SubscribeOptions,
  SubscriptionEvents,
  SubscriptionUpdate,
  VideoSubscribeOptions,
  VideoSubscribeParameters,
} from './subscription.js';
export type {
  KindPermission,
  LayoutEntry,
  MediaKind,
  Permission,
  Region,
  Resolution,
  TrackFormat,
  TrackInfo,
  TrackKind,
  VideoParameterChoices,
  VideoParameters,
  Volume,
} from './wire.js';

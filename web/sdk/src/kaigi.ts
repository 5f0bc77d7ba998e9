/**
 * Kaigi's browser SDK: join a conference, publish local media, subscribe to others' streams and to mixed ones.
 *
 * Start at {@link ConferenceClient}.
 *
 * @module
 */
export { ConferenceClient } from './client.js';
export type { ConferenceClientEvents, ConferenceClientOptions, ConferenceInfo } from './client.js';
export { ConferenceError } from './errors.js';
export type { ConferenceErrorCode } from './errors.js';
export { Emitter } from './emitter.js';
export type { Listener } from './emitter.js';
export { Participant } from './participant.js';
export type { ParticipantEvents } from './participant.js';
export { Publication } from './publication.js';
export type { PublicationEvents, PublishOptions, PublishTrackOptions } from './publication.js';
export { LocalStream, RemoteStream } from './streams.js';
export type { AudioSource, LocalStreamOptions, RemoteStreamEvents, StreamChange, VideoSource } from './streams.js';
export { Subscription } from './subscription.js';
export type {
  AudioSubscribeOptions,
  SubscribeOptions,
  SubscriptionEvents,
  VideoSubscribeOptions,
  VideoSubscribeParameters,
} from './subscription.js';
export type { SignalingEnd } from './signaling.js';
export type {
  KindPermission,
  LayoutEntry,
  MediaKind,
  Permission,
  Resolution,
  TrackFormat,
  TrackInfo,
  TrackKind,
  VideoParameterChoices,
  VideoParameters,
} from './wire.js';

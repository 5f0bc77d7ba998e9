import { computed, signal } from '@preact/signals';
import type { Api } from '../api/client.js';
import { ApiError } from '../api/error.js';
import { type KaigiEvent, type StreamState, followEvents, sleep } from '../api/events.js';
import { type Participant, type RoomStats, type Stream, type Subscription, userName } from '../model/live.js';
import { History } from './history.js';

/** Events that are kept for the log. */
const MOST_EVENTS = 200;
/** Changes come in bursts: one look for all of one, after so many ms. */
const GATHER = 150;
/** Ms between two looks without events, and with them (to be sure). */
const POLL = 3000;
const POLL_WITH_EVENTS = 20_000;

/** Everything that is known of a room while it is looked at. */
export class LiveStore {
  readonly participants = signal<Participant[]>([]);
  readonly streams = signal<Stream[]>([]);
  readonly stats = signal<RoomStats | undefined>(undefined);
  readonly events = signal<KaigiEvent[]>([]);
  readonly eventState = signal<StreamState>('connecting');
  /** Whether the server counts: unknown until it was asked. */
  readonly counts = signal<boolean | undefined>(undefined);
  readonly error = signal('');
  readonly isLoaded = signal(false);
  /** Rises with each look at the statistics. */
  readonly round = signal(0);
  readonly history = new History();
  readonly mixed = computed(() => this.streams.value.filter((stream) => stream.type === 'mixed'));
  readonly forward = computed(() => this.streams.value.filter((stream) => stream.type !== 'mixed'));
  readonly subscriptions = computed<Subscription[]>(() => this.stats.value?.subscriptions ?? []);
  #wake: (() => void) | undefined;

  constructor(
    readonly api: Api,
    readonly room: string,
  ) {}

  /** The room's own part of the API's paths. */
  get path(): string {
    return `/v1/rooms/${this.room}`;
  }

  /** Follows the room until `signal` is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#follow(signal), this.#look(signal)]);
  }

  /** Follows the events while the page is seen: browsers have few connections to one server, for all pages together. */
  async #follow(signal: AbortSignal): Promise<void> {
    const cursor = { last: '' };
    const listener = { event: (event: KaigiEvent) => this.#onEvent(event), state: (state: StreamState) => this.#onState(state) };
    while (!signal.aborted) {
      const changed = new AbortController();
      const onChange = () => changed.abort();
      document.addEventListener('visibilitychange', onChange, { once: true });
      const end = AbortSignal.any([signal, changed.signal]);
      if (document.hidden) await aborted(end);
      else await followEvents(this.api, this.room, listener, end, cursor);
      document.removeEventListener('visibilitychange', onChange);
      // It ended by itself: there are no events.
      if (!end.aborted) return;
    }
  }

  #onEvent(event: KaigiEvent): void {
    this.events.value = [event, ...this.events.value].slice(0, MOST_EVENTS);
    this.refresh();
  }

  #onState(state: StreamState): void {
    const was = this.eventState.value;
    this.eventState.value = state;
    // Something may have been missed.
    if (state === 'live' && was !== 'live') this.refresh();
  }

  /** Looks at the lists again, soon. */
  refresh(): void {
    this.#wake?.();
  }

  async #look(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (!document.hidden) await this.#load(signal);
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await sleep(this.eventState.value === 'live' ? POLL_WITH_EVENTS : POLL, AbortSignal.any([signal, woken.signal]));
      this.#wake = undefined;
      if (woken.signal.aborted) await sleep(GATHER, signal);
    }
  }

  async #load(signal: AbortSignal): Promise<void> {
    try {
      const [participants, streams] = await Promise.all([
        this.api.get<Participant[]>(`${this.path}/participants`, signal),
        this.api.get<Stream[]>(`${this.path}/streams`, signal),
      ]);
      this.participants.value = participants;
      this.streams.value = streams;
      this.isLoaded.value = true;
      this.error.value = '';
    } catch (failure) {
      if (!signal.aborted) this.error.value = failure instanceof Error ? failure.message : String(failure);
    }
  }

  /** Looks at the statistics once; `false` if the server has none. */
  async count(signal: AbortSignal): Promise<boolean> {
    try {
      const stats = await this.api.get<RoomStats>(`${this.path}/stats`, signal);
      this.history.add(stats, Date.now());
      this.stats.value = stats;
      this.counts.value = true;
      this.round.value += 1;
      return true;
    } catch (failure) {
      const isAbsent = failure instanceof ApiError && failure.isAbsent;
      if (isAbsent) this.counts.value = false;
      return !isAbsent;
    }
  }

  /** Changes a stream, and shows the answer at once. */
  async patch(stream: string, operations: object[]): Promise<void> {
    const changed = await this.api.call<Stream>('PATCH', `${this.path}/streams/${encodeURIComponent(stream)}`, { body: operations });
    this.streams.value = this.streams.value.map((one) => (one.id === changed.id ? changed : one));
    this.refresh();
  }

  /** Changes a participant, and shows the answer at once. */
  async permit(participant: string, path: string, value: boolean): Promise<void> {
    const changed = await this.api.call<Participant>('PATCH', `${this.path}/participants/${encodeURIComponent(participant)}`, {
      body: [{ op: 'replace', path: `/permission/${path}`, value }],
    });
    this.participants.value = this.participants.value.map((one) => (one.id === changed.id ? changed : one));
    this.refresh();
  }

  /** What a participant is called. */
  nameOf(participant: string | undefined): string {
    const found = this.participants.value.find((one) => one.id === participant);
    return found ? userName(found.user) : (participant ?? '');
  }

  /** What a track is called: its kind, its layer, and whose it is. */
  trackName(id: string): string {
    for (const stream of this.stats.value?.streams ?? []) {
      const track = stream.tracks.find((one) => one.id === id);
      if (track) return `${track.rid ? `layer ${track.rid}` : track.kind} of ${this.streamName(stream.id)}`;
    }
    return id;
  }

  /** What a stream is called, given by its id or that of a track: who sends it and what, or the view. */
  streamName(id: string | undefined): string {
    const owner = this.stats.value?.streams.find((one) => one.tracks.some((track) => track.id === id))?.id;
    const stream = this.streams.value.find((one) => one.id === id) ?? this.streams.value.find((one) => one.id === owner);
    if (!stream) return id ?? '';
    if (stream.type === 'mixed') return `view ${stream.info.label ?? id}`;
    const source = stream.media.video?.source ?? stream.media.audio?.source;
    const who = stream.info.owner && stream.info.owner !== 'admin' ? this.nameOf(stream.info.owner) : (stream.info.type ?? 'server');
    return source && source !== 'camera' && source !== 'mic' ? `${who} (${source})` : who;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener('abort', () => resolve(), { once: true })));
}

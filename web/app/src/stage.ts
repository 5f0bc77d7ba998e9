import type { ConferenceClient, RemoteStream } from '../../sdk/src/kaigi.js';
import { h } from './dom.js';
import { Feed } from './feed.js';
import { bestGrid } from './grid.js';
import type { View } from './params.js';
import { Tile } from './tile.js';

/** The view that is shown if the server mixes several. */
const MAIN_VIEW = 'common';

export interface StageOptions {
  client: ConferenceClient;
  self: Tile;
  view: View;
  speaker: string;
  /** Only what is encrypted end to end is shown. */
  encrypted: boolean;
  /** The browser wants a gesture before it plays sound. */
  blocked: () => void;
  /** The view that is shown changed. */
  changed: (view: View, mixAvailable: boolean) => void;
}

/** The pictures: either the server's mix with one's own in the corner, or everyone's side by side. */
export class Stage {
  readonly element: HTMLElement;
  readonly feeds = new Map<string, Feed>();
  readonly #options: StageOptions;
  readonly #tiles = h('div', { class: 'tiles' });
  readonly #empty = h('p', { class: 'stage-empty' }, 'Nobody else is here yet.');
  readonly #observer = new ResizeObserver(() => this.#arrange());
  #wish: View;
  #selfHidden = false;

  constructor(options: StageOptions) {
    this.#options = options;
    this.#wish = options.view;
    this.element = h('section', { class: 'stage', 'aria-label': 'Pictures', 'data-testid': 'stage' }, this.#tiles, this.#empty);
    this.#observer.observe(this.element);
    for (const stream of options.client.info?.streams.values() ?? []) this.#addFeed(stream);
    this.update();
  }

  /** The view that is shown: the wished one, or the grid if the server mixes nothing. */
  get view(): View {
    return this.#mix() ? this.#wish : 'grid';
  }

  set view(view: View) {
    this.#wish = view;
    this.update();
  }

  /** Leaves one's own picture out, for those who send none. */
  hideSelf(): void {
    this.#selfHidden = true;
    this.update();
  }

  add(stream: RemoteStream): void {
    this.#addFeed(stream);
    this.update();
  }

  remove(stream: RemoteStream): void {
    this.feeds.get(stream.id)?.close();
    this.feeds.delete(stream.id);
    this.update();
  }

  refresh(stream: RemoteStream): void {
    this.feeds.get(stream.id)?.refresh();
  }

  /** Marks the one who is loudest now. */
  speaking(streamId: string | undefined): void {
    for (const [id, feed] of this.feeds) feed.tile.speaking = id === streamId;
  }

  /** Goes on with everything that waits for a gesture. */
  play(): void {
    for (const { tile } of this.feeds.values()) tile.play();
  }

  /** Shows what the view asks for. */
  update(): void {
    const mix = this.#mix();
    const { view } = this;
    for (const feed of this.feeds.values()) {
      const shown = view === 'mix' ? feed === mix : feed.stream.type === 'forward';
      feed.want(shown);
      this.#place(feed.tile, shown ? this.#tiles : undefined);
    }
    this.#place(this.#options.self, this.#selfHidden ? undefined : view === 'mix' ? this.element : this.#tiles);
    this.element.dataset.view = view;
    this.#empty.hidden = view === 'mix' || this.#tiles.children.length > (this.#selfHidden ? 0 : 1);
    this.#arrange();
    this.#options.changed(view, mix !== undefined);
  }

  close(): void {
    this.#observer.disconnect();
    for (const feed of this.feeds.values()) feed.close();
    this.feeds.clear();
  }

  #addFeed(stream: RemoteStream): void {
    const { client, blocked, speaker, encrypted } = this.#options;
    const own = stream.owner !== undefined && stream.owner === client.info?.self.id;
    // What has neither picture nor sound is not for a stage; nor are streams of whoever speaks, all of whom are heard here anyway.
    if (own || stream.isSelecting || stream.tracks.length === 0 || this.feeds.has(stream.id)) return;
    if (encrypted && stream.type === 'mixed') return;
    const screen = stream.source('video') === 'screen-cast';
    const owner = client.info?.participants.get(stream.owner ?? '')?.user;
    const given = stream.attributes.name;
    const name = owner || (typeof given === 'string' && given) || (stream.type === 'mixed' ? 'Everyone' : 'Guest');
    const kind = stream.type === 'mixed' ? 'mix' : screen ? 'screen' : 'camera';
    const tile = new Tile(kind, screen ? `${name}’s screen` : name, stream.id, blocked);
    tile.speaker = speaker;
    this.feeds.set(stream.id, new Feed(client, stream, tile, encrypted));
  }

  #mix(): Feed | undefined {
    const mixes = [...this.feeds.values()].filter(({ stream }) => stream.type === 'mixed');
    return mixes.find(({ stream }) => stream.label === MAIN_VIEW) ?? mixes[0];
  }

  /** Moves a tile only if it has to: a video that is moved stops playing. */
  #place(tile: Tile, parent: HTMLElement | undefined): void {
    if (tile.element.parentElement === (parent ?? null)) return;
    if (!parent) return tile.element.remove();
    parent.append(tile.element);
    tile.play();
  }

  #arrange(): void {
    const { width, height } = this.#tiles.getBoundingClientRect();
    const { columns, tileWidth } = bestGrid(this.#tiles.children.length, width, height);
    this.#tiles.style.setProperty('--columns', String(columns));
    this.#tiles.style.setProperty('--tile-width', `${tileWidth}px`);
  }
}

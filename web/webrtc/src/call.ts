import { Peer } from './peer.js';
import { type Signal, Signaling, type Told } from './signaling.js';
import { Tile, log, showState } from './view.js';

/** Who is not back so long after this page came back to the server has left, in ms. */
const GRACE = 8000;

interface Other {
  peer: Peer;
  tile: Tile;
}

/** One page in one room, and its connections to all others there. */
export class Call {
  readonly #signaling: Signaling;
  readonly #others = new Map<string, Other>();
  /** Those who are not back since this page is. */
  #missing = new Set<string>();
  #stream: MediaStream | undefined;
  #began = false;

  constructor(
    url: string,
    private readonly name: string,
    private readonly iceServers: RTCIceServer[],
    private readonly ended: () => void,
  ) {
    this.#signaling = new Signaling(url, {
      told: (message) => this.#told(message),
      state: (text, final) => {
        showState(text, final);
        log(text);
        if (final) this.ended();
      },
    });
  }

  #told(message: Told): void {
    switch (message.type) {
      case 'existing_peers':
        log(`there: ${message.peers.join(', ') || 'nobody'}`);
        for (const name of message.peers) this.#meet(name, true);
        this.#miss(message.peers);
        break;
      case 'peer_joined':
        if (!this.#others.has(message.peer_id)) log(`${message.peer_id} joined`);
        this.#meet(message.peer_id);
        break;
      case 'peer_left':
        log(`${message.peer_id} left`);
        this.#forget(message.peer_id);
        break;
      case 'error':
        log(`error: ${message.message}`);
        break;
      default:
        this.#signal(message.from_peer_id, message);
    }
  }

  /** Makes somebody known. Who comes offers to those who are there. */
  #meet(name: string, offers = false): Other {
    this.#missing.delete(name);
    const known = this.#others.get(name);
    if (known) return known;
    const tile = new Tile(name, false);
    const peer = new Peer(this.iceServers, this.name < name, {
      send: (signal) => this.#signaling.send(name, signal),
      stream: (stream) => tile.show(stream),
      state: (state) => {
        tile.state(state);
        log(`${name}: ${state}`);
      },
      problem: (what) => log(`${name}: ${what}`),
    });
    const other = { peer, tile };
    this.#others.set(name, other);
    if (offers) peer.begin(this.#stream);
    return other;
  }

  #signal(from: string, signal: Signal): void {
    const { peer } = this.#meet(from);
    if (signal.type !== 'ice_candidate') log(`${from}: ${signal.type}`);
    peer.take(signal, async () => {
      if (this.#began) await peer.show(this.#stream);
    });
  }

  #forget(name: string): void {
    const other = this.#others.get(name);
    this.#others.delete(name);
    other?.peer.close();
    other?.tile.remove();
  }

  /** After a break of signaling others come back as this page did: their calls go on meanwhile. */
  #miss(there: string[]): void {
    const missing = new Set([...this.#others.keys()].filter((name) => !there.includes(name)));
    this.#missing = missing;
    if (missing.size === 0) return;
    setTimeout(() => {
      for (const name of missing) {
        log(`${name} is not back`);
        this.#forget(name);
      }
    }, GRACE);
  }

  /** Shows this stream to everybody, those to come included; nothing: picture and sound of this page end. */
  async show(stream: MediaStream | undefined): Promise<void> {
    this.#stream = stream;
    this.#began = true;
    await Promise.all([...this.#others.values()].map(({ peer }) => peer.show(stream)));
  }

  close(): void {
    this.#missing.clear();
    this.#signaling.close();
    for (const name of [...this.#others.keys()]) this.#forget(name);
  }
}

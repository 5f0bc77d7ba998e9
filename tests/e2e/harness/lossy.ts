import dgram from 'node:dgram';

/** A direction of media: from clients to Kaigi, or to them. */
type Direction = 'up' | 'down';

/** What becomes of the media of one direction. */
interface Way {
  /** Each so-manieth RTP packet is lost; 0 = none. */
  losesEach: number;
  /** The share of the RTP packets that is lost, at random. */
  loses: number;
  /** ms. */
  delay: number;
  /** RTP packets that came, and those that were lost. */
  came: number;
  lost: number;
}

const way = (): Way => ({ losesEach: 0, loses: 0, delay: 0, came: 0, lost: 0 });

/** A client's way: what is done to its media, both ways. */
export interface Network {
  /** bit/s from Kaigi; infinite = as much as comes. */
  capacity: number;
  /** What waits longer for a narrow way is lost, in ms. */
  queue: number;
  /** Share of the datagrams of RTP and RTCP that are lost at random, each way. */
  loss: number;
  /** ms, each way. */
  delay: number;
}

/** Most waits that are remembered, some minutes'. */
const MAX_WAITS = 100_000;

const PERFECT: Network = { capacity: Infinity, queue: 300, loss: 0, delay: 0 };

/** What has happened on a client's way from Kaigi. */
interface Client extends Network {
  /** RTP packets that it was sent. */
  packets: number;
  /** When what waits will have gone, in ms. */
  freeAt: number;
  /** When packets came to a narrow way, and how long they waited for it, in ms. */
  waits: { at: number; wait: number }[];
  /** For {@link Network.loss}: the same losses each time. */
  random: number;
}

/**
 * A piece of network between clients and the media port that loses and delays, by UDP. What is not RTP is delayed only. The way to one
 * client can be made narrow.
 */
export class MediaRelay {
  readonly up = way();
  readonly down = way();
  readonly #sockets: dgram.Socket[] = [];
  readonly #clients = new Map<string, Client>();

  private constructor(readonly address: string) {}

  /** Listens at an address of this machine other than Kaigi's, which is to announce it, with the same port. */
  static async start(port: number, address: string): Promise<MediaRelay> {
    const relay = new MediaRelay(address);
    const outside = relay.#socket();
    const inside = new Map<string, dgram.Socket>();
    outside.on('message', (datagram, client) => {
      const key = `${client.address}:${client.port}`;
      let socket = inside.get(key);
      if (!socket) {
        socket = relay.#socket();
        const one: Client = { ...PERFECT, packets: 0, freeAt: 0, waits: [], random: 1 };
        relay.#clients.set(key, one);
        const deliver = (reply: Buffer): void => outside.send(reply, client.port, client.address, () => undefined);
        socket.on('message', (reply) => {
          if (isLost(one, reply)) return;
          relay.#pass('down', reply, one.delay, () => queue(one, reply, deliver));
        });
        inside.set(key, socket);
      }
      const [to, one] = [socket, relay.#clients.get(key)];
      if (!one || isLost(one, datagram)) return;
      relay.#pass('up', datagram, one.delay, () => to.send(datagram, port, '127.0.0.1', () => undefined));
    });
    await new Promise<void>((resolve, reject) => {
      outside.once('error', reject);
      outside.bind(port, address, resolve);
    });
    return relay;
  }

  /** The clients that have been sent media so far. */
  receivers(): string[] {
    return [...this.#clients].filter(([, { packets }]) => packets > 0).map(([key]) => key);
  }

  /** Lets a client have so many bit/s and no more. */
  narrow(client: string, capacity: number): void {
    this.change(client, { capacity });
  }

  /** Makes a client's way another. */
  change(client: string, network: Partial<Network>): void {
    Object.assign(this.#client(client), network);
  }

  /** How long each packet waited for a client's narrow way since this was last asked. */
  takeWaits(client: string): { at: number; wait: number }[] {
    return this.#client(client).waits.splice(0);
  }

  #client(client: string): Client {
    const one = this.#clients.get(client);
    if (!one) throw new Error(`no client ${client}`);
    return one;
  }

  /** Nothing is lost any more, and nothing delayed or narrow. */
  heal(): void {
    for (const client of this.#clients.values()) Object.assign(client, PERFECT);
    Object.assign(this.up, { losesEach: 0, loses: 0, delay: 0 });
    Object.assign(this.down, { losesEach: 0, loses: 0, delay: 0 });
  }

  stop(): void {
    for (const socket of this.#sockets) socket.close();
  }

  #socket(): dgram.Socket {
    const socket = dgram.createSocket('udp4');
    this.#sockets.push(socket);
    return socket;
  }

  #pass(direction: Direction, datagram: Buffer, delay: number, send: () => void): void {
    const one = this[direction];
    if (isRtp(datagram) && (++one.came % one.losesEach === 0 || Math.random() < one.loses)) {
      one.lost++;
      return;
    }
    const guarded = (): void => {
      // What is under way when the relay stops goes nowhere.
      try {
        send();
      } catch {}
    };
    if (one.delay + delay > 0) setTimeout(guarded, one.delay + delay);
    else guarded();
  }
}

/** Sends a datagram when those before have gone, or never. */
function queue(client: Client, datagram: Buffer, deliver: (datagram: Buffer) => void): void {
  client.packets += Number(isRtp(datagram));
  if (client.capacity === Infinity) return deliver(datagram);
  const now = performance.now();
  const wait = Math.max(client.freeAt - now, 0);
  if (client.waits.length < MAX_WAITS) client.waits.push({ at: now, wait });
  if (wait > client.queue) return;
  client.freeAt = now + wait + ((datagram.length + 28) * 8000) / client.capacity;
  setTimeout(() => {
    // What is under way when the relay stops goes nowhere.
    try {
      deliver(datagram);
    } catch {}
  }, client.freeAt - now);
}

/** Whether a datagram is one of those that are lost at random. */
function isLost(client: Client, datagram: Buffer): boolean {
  const [first = 0] = datagram;
  if (client.loss === 0 || first < 128 || first >= 192) return false;
  client.random = (Math.imul(client.random, 1_664_525) + 1_013_904_223) >>> 0;
  return client.random / 2 ** 32 < client.loss;
}

/** RTP, and not RTCP (RFC 5761 §4), STUN or DTLS (RFC 7983 §7). */
function isRtp(datagram: Buffer): boolean {
  const [first = 0, second = 0] = datagram;
  return first >= 128 && first < 192 && !(second >= 192 && second < 224);
}

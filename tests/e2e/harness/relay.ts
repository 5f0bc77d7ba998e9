import net from 'node:net';

/** How a relay behaves: it passes everything on; it ends and refuses connections; or it swallows whatever is sent. */
type Mode = 'open' | 'cut' | 'silent';

interface Pair {
  client: net.Socket;
  server: net.Socket;
}

/** A piece of network between a client and a server that can be cut, by TCP. */
export class Relay {
  readonly #server = net.createServer({ pauseOnConnect: true }, (client) => this.#accept(client));
  readonly #pairs = new Set<Pair>();
  #mode: Mode = 'open';
  /** Where connections go: the first of these ports that takes them. */
  upstream: number[];
  /** For how long requests for a WebSocket are held back, in ms. */
  webSocketsAfter = 0;

  private constructor(
    private readonly port: number,
    readonly address: string,
  ) {
    this.upstream = [port];
  }

  /** Listens at an address of this machine other than the server's, with the same port; tokens name a host by its address alone. */
  static async start(port: number, address: string): Promise<Relay> {
    const relay = new Relay(port, address);
    await new Promise<void>((resolve, reject) => {
      relay.#server.once('error', reject);
      relay.#server.listen(port, address, resolve);
    });
    return relay;
  }

  /** The `Host` of one who comes this way. */
  get host(): string {
    return `${this.address}:${this.port}`;
  }

  /** Ends all connections at both ends, and all new ones at once. */
  cut(): void {
    this.#mode = 'cut';
    this.#end();
  }

  /** Swallows what is sent from now on, without either end noticing. New connections hang. */
  silence(): void {
    this.#mode = 'silent';
  }

  /** Everything works again. Of the connections that were swallowed, the client's end is told; the server still takes them for open. */
  restore(): void {
    if (this.#mode === 'silent') for (const { client } of this.#pairs) client.destroy();
    this.#mode = 'open';
  }

  async stop(): Promise<void> {
    this.#end();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #end(): void {
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server.destroy();
    }
    this.#pairs.clear();
  }

  #accept(client: net.Socket): void {
    client.on('error', () => undefined);
    if (this.#mode === 'cut') {
      client.destroy();
      return;
    }
    const [first = this.port, second] = this.upstream;
    const server = net.connect(first, '127.0.0.1');
    server.on('error', () => undefined);
    if (second !== undefined) {
      // Refused: as a balancer does, it goes to another.
      server.once('error', () => {
        if (server.bytesRead === 0 && server.remoteAddress === undefined) this.upstream = [second, first];
      });
    }
    const pair = { client, server };
    this.#pairs.add(pair);
    const swallowed = { is: this.#mode === 'silent' };
    const pass = (from: net.Socket, to: net.Socket): void => {
      from.setNoDelay(true);
      from.on('data', (chunk) => {
        // What was begun in silence goes on in silence: half a message helps nobody.
        swallowed.is ||= this.#mode === 'silent';
        if (!swallowed.is) to.write(chunk);
      });
      from.on('close', () => {
        if (swallowed.is || this.#mode === 'silent') return;
        to.destroy();
        this.#pairs.delete(pair);
      });
    };
    pass(server, client);
    client.once('data', (chunk) => {
      const held = /^upgrade: websocket/im.test(chunk.toString('latin1')) ? this.webSocketsAfter : 0;
      client.pause();
      client.unshift(chunk);
      setTimeout(() => {
        pass(client, server);
        client.resume();
      }, held);
    });
    client.resume();
  }
}

import { createRequire } from 'node:module';

interface Socket {
  on(event: string, listener: (data: never) => void): void;
  emit(event: string, ...args: unknown[]): void;
  close(): void;
}
type Connect = (url: string, options: object) => Socket;

const MODULES = { 2: 'socket.io-client-2', 3: 'socket.io-client', 4: 'socket.io-client-4' } as const;

export interface Heard {
  from: string;
  data: string;
}

/** Clients of OWT's peer server that do what its sample's signaling channel does, with a Socket.IO client of one generation. */
export class OwtPeers {
  readonly #sockets: Socket[] = [];

  private constructor(
    private readonly url: string,
    private readonly io: Connect,
  ) {}

  static open(url: string, generation: keyof typeof MODULES): OwtPeers {
    const module = createRequire(import.meta.url)(MODULES[generation]) as Connect | { io: Connect };
    return new OwtPeers(url, typeof module === 'function' ? module : module.io);
  }

  /** One who is known; what it heard, and how it speaks: with what the server acknowledged, if anything. */
  async connect(token: string): Promise<{ heard: Heard[]; say(to: string, data: string): Promise<unknown> }> {
    const socket = this.io(this.url, { forceNew: true, reconnection: false });
    this.#sockets.push(socket);
    const heard: Heard[] = [];
    socket.on('owt-message', (data: never) => heard.push(data));
    await new Promise<void>((resolve, reject) => {
      socket.on('connect', () => {
        socket.emit('authentication', { token }, ({ uid, error }: { uid?: string; error?: number }) =>
          uid === token ? resolve() : reject(new Error(`${uid} ${error}`)),
        );
      });
      socket.on('connect_error', reject);
    });
    return { heard, say: (to, data) => new Promise((resolve) => socket.emit('owt-message', { to, data }, resolve)) };
  }

  close(): void {
    for (const socket of this.#sockets) socket.close();
  }
}

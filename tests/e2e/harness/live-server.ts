import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { until } from './until';

/** A live server on loopback: nginx with its RTMP module, which also keeps files that are put to it by HTTP. */
export class LiveServer {
  #process: ChildProcess | undefined;

  private constructor(
    readonly folder: string,
    readonly port: number,
    readonly httpPort: number,
  ) {}

  static async start(): Promise<LiveServer> {
    const folder = mkdtempSync(path.join(tmpdir(), 'kaigi-live-'));
    const server = new LiveServer(folder, await freePort(), await freePort());
    writeFileSync(
      path.join(folder, 'nginx.conf'),
      `load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
user root;
daemon off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log info;
worker_processes 1;
events { worker_connections 64; }
rtmp { server { listen 127.0.0.1:${server.port}; application live { live on; } } }
http {
  client_body_temp_path ${folder}/body;
  access_log off;
  types { application/vnd.apple.mpegurl m3u8; application/dash+xml mpd; video/mp2t ts; video/mp4 mp4 m4s; text/html html; text/javascript js; }
  server {
    listen 127.0.0.1:${server.httpPort};
    location / { root ${folder}/www; dav_methods PUT DELETE; create_full_put_path on; client_max_body_size 64m; add_header Access-Control-Allow-Origin *; }
  }
}
`,
    );
    await server.run();
    return server;
  }

  /** Of the stream with that key, for those who push and those who watch. */
  url(key: string): string {
    return `rtmp://127.0.0.1:${this.port}/live/${key}`;
  }

  /** Of a file that can be put there, and fetched. */
  fileUrl(name: string): string {
    return `http://127.0.0.1:${this.httpPort}/${name}`;
  }

  /** Names of what is kept. */
  files(): string[] {
    const folder = path.join(this.folder, 'www');
    return existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: 'utf8' }) : [];
  }

  async run(): Promise<void> {
    this.#process = spawn('nginx', ['-p', this.folder, '-c', path.join(this.folder, 'nginx.conf')], { stdio: 'ignore' });
    await until('the live server listens', () => isOpen(this.port), 10_000);
  }

  /** Ends it at once, as a crash would. Its worker is a process of its own. */
  async kill(): Promise<void> {
    const server = this.#process;
    this.#process = undefined;
    if (!server) return;
    const ended = once(server, 'exit');
    // SIGINT is nginx's fast shutdown, which takes its worker with it.
    server.kill('SIGINT');
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

export function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

import dgram from 'node:dgram';
import net from 'node:net';

function freeTcp(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function isFree(port: number): Promise<boolean> {
  const tcp = new Promise<boolean>((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
  const udp = new Promise<boolean>((resolve) => {
    const socket = dgram.createSocket('udp4');
    socket.once('error', () => {
      socket.close();
      resolve(false);
    });
    socket.bind(port, '127.0.0.1', () => socket.close(() => resolve(true)));
  });
  return Promise.all([tcp, udp]).then((both) => both.every(Boolean));
}

export interface Ports {
  http: number;
  management: number;
  /** First of the media ports; as many as there are cores may be used, by UDP and TCP. */
  media: number;
}

/** Ports that nobody uses at the moment. */
export async function freePorts(): Promise<Ports> {
  const [http, management] = await Promise.all([freeTcp(), freeTcp()]);
  for (;;) {
    const media = 20_000 + Math.floor(Math.random() * 10_000);
    const range = Array.from({ length: 16 }, (_, i) => media + i);
    if ((await Promise.all(range.map(isFree))).every(Boolean)) return { http, management, media };
  }
}

import type { Protocol } from '../page/wire';
import type { ConnectOptions, LoginOptions, Transport } from './signaling';

/** A way in which clients speak: a Socket.IO client, a version of the protocol, a transport. */
export interface Dialect {
  protocol: Protocol;
  connect: ConnectOptions;
  login: LoginOptions;
}

const CLIENTS = [
  ['2.5.0', 2],
  ['3.1.2', 3],
  ['4.8', 4],
] as const;
const PROTOCOLS: Protocol[] = ['1.0', '1.1', '1.2'];
const TRANSPORTS: Transport[] = ['websocket', 'polling'];

/** Each client with each version of the protocol on each transport, for `describe.each`. */
export const DIALECTS: [string, Dialect][] = CLIENTS.flatMap(([name, generation]) =>
  PROTOCOLS.flatMap((protocol) =>
    TRANSPORTS.map((transport): [string, Dialect] => [
      `socket.io-client ${name}, protocol ${protocol}, ${transport}`,
      { protocol, connect: { generation, transports: [transport] }, login: { protocol } },
    ]),
  ),
);

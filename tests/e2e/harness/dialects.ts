import type { ConnectOptions, LoginOptions, Protocol, Transport } from './signaling';

/** A way in which clients speak: a Socket.IO client, a version of the protocol, a transport. */
export interface Dialect {
  protocol: Protocol;
  connect: ConnectOptions;
  login: LoginOptions;
}

type Kind = 'audio' | 'video';

/** A subscription's wish for one kind. */
export interface Wish {
  from: string;
  format?: object;
  parameters?: object;
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

/** What is asked for to publish these kinds. */
export function publishing(protocol: Protocol, kinds: Kind[], more: object = {}): object {
  const source = { audio: 'mic', video: 'camera' };
  if (protocol === '1.2') {
    const tracks = kinds.map((type, i) => ({ type, mid: String(i), source: source[type] }));
    return { media: { tracks }, transport: { type: 'webrtc' }, ...more };
  }
  const of = (kind: Kind): object | false => kinds.includes(kind) && { source: source[kind] };
  return { media: { audio: of('audio'), video: of('video') }, ...more };
}

/** What is asked for to subscribe these kinds. */
export function subscribing(protocol: Protocol, wishes: Partial<Record<Kind, Wish>>, more: object = {}): object {
  if (protocol === '1.2') {
    const kinds = (['audio', 'video'] as const).filter((kind) => wishes[kind]);
    const tracks = kinds.map((type, i) => ({ type, mid: String(i), ...wishes[type] }));
    return { media: { tracks }, transport: { type: 'webrtc' }, ...more };
  }
  return { media: { audio: wishes.audio ?? false, video: wishes.video ?? false }, ...more };
}

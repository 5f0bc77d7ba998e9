// Neither version brings types that its package exports.
declare module 'socket.io-client' {
  import type { Emitter } from './signaling';
  export const io: (url: string, options: object) => Emitter;
}
declare module 'socket.io-client-2' {
  import type { Emitter } from './signaling';
  const io: (url: string, options: object) => Emitter;
  export default io;
}

// Only what is used of them, and the same of each version.
declare module 'socket.io-client' {
  import type { Emitter } from './signaling';
  export const io: (url: string, options: object) => Emitter;
}
declare module 'socket.io-client-2' {
  import type { Emitter } from './signaling';
  const io: (url: string, options: object) => Emitter;
  export default io;
}
declare module 'socket.io-client-4' {
  import type { Emitter } from './signaling';
  export const io: (url: string, options: object) => Emitter;
}

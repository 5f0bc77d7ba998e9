// The worker in which frames are encrypted and decrypted.

import { Host } from './host.js';
import type { ToWorker, TransformOptions } from './messages.js';

/** What is used of a worker's global scope (W3C WebRTC Encoded Transform §6). */
interface Scope {
  postMessage(message: unknown): void;
  onmessage: ((event: { data: ToWorker }) => void) | null;
  onrtctransform: ((event: { transformer: Transformer }) => void) | null;
}

interface Transformer {
  readonly options: TransformOptions;
  readonly readable: ReadableStream;
  readonly writable: WritableStream;
  sendKeyFrameRequest(): Promise<unknown>;
}

const scope = globalThis as unknown as Scope;
const host = new Host((message) => scope.postMessage(message));
scope.onmessage = ({ data }) => host.onMessage(data);
scope.onrtctransform = ({ transformer }) => {
  const { options, readable, writable } = transformer;
  // It may be refused, by a receiver of audio for instance.
  host.begin(options, readable, writable, () => void transformer.sendKeyFrameRequest().catch(() => {}));
};

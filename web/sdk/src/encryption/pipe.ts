import { FrameDecryptor, FrameEncryptor } from './frame.js';
import type { KeyRing } from './keys.js';
import { ENCRYPTABLE, type EncryptableCodec } from './layout.js';
import type { PayloadTypes, TransformState } from './messages.js';

/** What is used of an encoded audio or video frame (W3C WebRTC Encoded Transform). */
export interface EncodedFrame {
  data: ArrayBuffer;
  /** Of video. */
  readonly type?: string;
  getMetadata(): { mimeType?: string; payloadType?: number };
}

/** A transform while it runs; the page may change it. */
export interface Settings {
  codecs: PayloadTypes;
  required: boolean;
}

export interface PipeHandlers {
  /** Told at the first frame, and then whenever it is different. */
  state(state: TransformState): void;
  /** Frames were lost here, and now they would be good for something. */
  requestKeyFrame(): void;
}

type Transform = (frame: EncodedFrame, controller: Pick<TransformStreamDefaultController, 'enqueue'>) => Promise<void>;

/** Tells of states that differ from the one before. */
function teller(tell: (state: TransformState) => void): (state: TransformState) => void {
  let last: string | undefined;
  return (state) => {
    const now = JSON.stringify(state);
    if (now !== last) tell(state);
    last = now;
  };
}

/** Lets through what could be encrypted, and nothing else. */
export function encrypting(ring: KeyRing, settings: Settings, handlers: PipeHandlers): Transform {
  const encryptor = new FrameEncryptor(ring);
  const tell = teller((state) => handlers.state(state));
  return async (frame, controller) => {
    const codec = codecOf(frame, settings.codecs);
    if (!codec) return tell({ works: false, failure: 'unsupported-codec', keyId: undefined });
    const encrypted = await encryptor.encrypt(codec, new Uint8Array(frame.data));
    if (!encrypted) {
      if (ring.current === undefined) tell({ works: false, failure: 'no-key', keyId: undefined });
      return;
    }
    frame.data = encrypted.buffer;
    controller.enqueue(frame);
    tell({ works: true });
  };
}

/** So many frames in a row that look encrypted are. One alone may be any frame whose end happens to look so. */
const LOOKS_IN_A_ROW = 5;

/** Lets through what could be decrypted; where nothing is required to be encrypted also what doesn't look it. */
export function decrypting(ring: KeyRing, settings: Settings, handlers: PipeHandlers): Transform {
  const decryptor = new FrameDecryptor(ring);
  const tell = teller((state) => handlers.state(state));
  let lost = false;
  let looks = 0;
  return async (frame, controller) => {
    const decrypted = await decryptor.decrypt(new Uint8Array(frame.data));
    if ('frame' in decrypted) {
      looks = 0;
      frame.data = decrypted.frame.buffer;
      if (lost && frame.type !== undefined && frame.type !== 'key') handlers.requestKeyFrame();
      lost = false;
    } else if (decrypted.failure === 'replayed') {
      return;
    } else if (settings.required || (decrypted.failure !== 'not-encrypted' && ++looks >= LOOKS_IN_A_ROW)) {
      lost = true;
      return tell({ works: false, ...decrypted });
    } else if (decrypted.failure === 'not-encrypted') {
      looks = 0;
    }
    controller.enqueue(frame);
    tell({ works: true });
  };
}

function codecOf(frame: EncodedFrame, codecs: PayloadTypes): EncryptableCodec | undefined {
  const { mimeType, payloadType } = frame.getMetadata();
  const name = (mimeType ?? (payloadType === undefined ? undefined : codecs[payloadType]))?.toLowerCase().split('/')[1];
  return ENCRYPTABLE.find((codec) => codec === name);
}

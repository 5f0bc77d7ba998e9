import type { ConferenceError } from './errors.js';

/** What an ICE connection can be in, as far as something has to be done about it. */
export type IceState = 'connected' | 'disconnected' | 'failed' | 'other';

export interface IceWatchHandlers {
  /** Negotiates new credentials and candidates. Rejects if the server has none to give. */
  restart(): Promise<void>;
  /** Media doesn't flow any more; restarts may help. */
  interrupted(): void;
  /** Media flows, for the first time or again. */
  connected(): void;
  /** Nothing helped, or the connection never came to be. Nothing is called after it. */
  lost(error?: ConferenceError): void;
}

/** A connection may heal by itself for so long, in milliseconds: a lost packet or two, a change of cells. */
const HEAL_MS = 2_000;
/** How long a restarted connection has for its checks, in milliseconds. */
const CHECKS_MS = 8_000;
/** How many restarts are tried before the connection is given up. */
const MAX_RESTARTS = 2;

/** Restarts ICE when a connection that worked has stopped working, and tells when that is of no use. */
export class IceWatch {
  readonly #handlers: IceWatchHandlers;
  #worked = false;
  #trouble = false;
  #restarting = false;
  #restarts = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(handlers: IceWatchHandlers) {
    this.#handlers = handlers;
  }

  /** Whether media has stopped flowing. */
  get inTrouble(): boolean {
    return this.#trouble;
  }

  onState(state: IceState): void {
    if (this.#closed) return;
    if (state === 'connected') {
      clearTimeout(this.#timer);
      this.#worked = true;
      this.#restarts = 0;
      this.#trouble = false;
      this.#handlers.connected();
    } else if (state === 'disconnected' && this.#worked && !this.#trouble) {
      this.#begin();
      this.#timer = setTimeout(() => void this.#restart(), HEAL_MS);
    } else if (state === 'failed') {
      // What never worked does not get better by being tried the same way again.
      if (!this.#worked) return this.#lose();
      if (!this.#trouble) this.#begin();
      if (!this.#restarting) void this.#restart();
    }
  }

  /** The network changed: a connection in trouble is restarted at once. */
  nudge(): void {
    if (this.#trouble && !this.#restarting && this.#restarts === 0) void this.#restart();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #begin(): void {
    this.#trouble = true;
    this.#handlers.interrupted();
  }

  async #restart(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#restarts >= MAX_RESTARTS) return this.#lose();
    this.#restarts++;
    this.#restarting = true;
    try {
      await this.#handlers.restart();
    } catch (error) {
      // What healed by itself meanwhile needs no restart any more.
      if (this.#trouble) this.#lose(error as ConferenceError);
      return;
    } finally {
      this.#restarting = false;
    }
    if (this.#trouble && !this.#closed) this.#timer = setTimeout(() => void this.#restart(), CHECKS_MS);
  }

  #lose(error?: ConferenceError): void {
    if (this.#closed) return;
    this.close();
    this.#handlers.lost(error);
  }
}

/** The state of a connection; browsers without `connectionState` tell that of ICE only. */
export function iceStateOf(connection: RTCPeerConnection): IceState {
  const ice = connection.iceConnectionState;
  const whole = connection.connectionState ?? (ice === 'completed' ? 'connected' : ice);
  if (whole === 'failed' || ice === 'failed') return 'failed';
  if (whole === 'disconnected' || ice === 'disconnected') return 'disconnected';
  return whole === 'connected' ? 'connected' : 'other';
}

/**
 * What went wrong, for programs.
 *
 * - `invalid-argument`: the call's arguments make no sense (nothing was sent)
 * - `invalid-state`: the call isn't possible now, for example `publish` before `join`
 * - `invalid-token`: the token can't be decoded
 * - `connect-failed`: the server's signaling can't be reached
 * - `login-refused`: the server refused the token
 * - `refused`: the server refused a request; the message is the server's reason
 * - `timeout`: the server didn't answer in time
 * - `negotiation-failed`: offer and answer couldn't be exchanged
 * - `session-failed`: the server ended a publication or subscription
 * - `transport-failed`: the media connection broke
 * - `disconnected`: signaling was lost, or the client left, while something was under way; of a request that had been
 *   sent it is not known whether it took effect
 * - `unsupported`: this browser can't do it, or the page doesn't let it
 * - `overloaded`: too much waits already: requests for the connection, or bytes on a data channel
 */
export type ConferenceErrorCode =
  | 'invalid-argument'
  | 'invalid-state'
  | 'invalid-token'
  | 'connect-failed'
  | 'login-refused'
  | 'refused'
  | 'timeout'
  | 'negotiation-failed'
  | 'session-failed'
  | 'transport-failed'
  | 'disconnected'
  | 'unsupported'
  | 'overloaded';

/** Every promise of this SDK that rejects, rejects with one of these. */
export class ConferenceError extends Error {
  override readonly name = 'ConferenceError';

  constructor(
    /** What went wrong, for programs. */
    readonly code: ConferenceErrorCode,
    /** What went wrong, for people. */
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** @internal Passes a `ConferenceError` through and wraps anything else. */
export function toConferenceError(reason: unknown, code: ConferenceErrorCode): ConferenceError {
  if (reason instanceof ConferenceError) return reason;
  const message = reason instanceof Error ? reason.message : String(reason);
  return new ConferenceError(code, message, { cause: reason });
}

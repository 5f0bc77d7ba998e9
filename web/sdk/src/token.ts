import { ConferenceError } from './errors.js';

/** Where a login token sends its bearer: the URL of the signaling server. */
export function serverUrl(token: string): string {
  let fields: unknown;
  try {
    fields = JSON.parse(atob(token.trim()));
  } catch (cause) {
    throw new ConferenceError('invalid-token', 'The token is not a base64 text of JSON.', { cause });
  }
  const { host, secure } = (typeof fields === 'object' && fields !== null ? fields : {}) as Record<string, unknown>;
  if (typeof host !== 'string' || host === '') {
    throw new ConferenceError('invalid-token', 'The token names no host.');
  }
  const url = /^https?:\/\//.test(host) ? host : `${secure === true ? 'https' : 'http'}://${host}`;
  try {
    return new URL(url).origin;
  } catch (cause) {
    throw new ConferenceError('invalid-token', `The token's host is not a host: ${host}`, { cause });
  }
}

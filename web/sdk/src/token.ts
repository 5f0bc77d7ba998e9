import { ConferenceError } from './errors.js';

/** Where a login token sends its bearer: the URL of the signaling server. */
export function serverUrl(token: string): string {
  return serverUrls(token, [])[0]!;
}

/** The URL of the server that a login token names, and those of the other `hosts`, each once. */
export function serverUrls(token: string, hosts: readonly string[]): string[] {
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
  const named = urlOf(host, secure === true, 'invalid-token', "The token's host");
  const others = hosts.map((other) => urlOf(other, secure === true, 'invalid-argument', 'An entry of `hosts`'));
  return [...new Set([named, ...others])];
}

/** A host without a scheme is as secure as the token says. */
function urlOf(host: string, secure: boolean, code: 'invalid-token' | 'invalid-argument', what: string): string {
  const url = /^https?:\/\//.test(host) ? host : `${secure ? 'https' : 'http'}://${host}`;
  try {
    return new URL(url).origin;
  } catch (cause) {
    throw new ConferenceError(code, `${what} is not a host: ${host}`, { cause });
  }
}

import { createHmac } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { base64url, bearer, Signer } from '../src/api/sign.js';

const CREDENTIALS = { id: 'service-1', key: 'kéy+/=' };
const NOW = 1_700_000_000_500;

const claims = (token: string) => JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as { iss: string; exp: number };

function isSigned(token: string, key: string): boolean {
  const [head, body, signature] = token.split('.');
  return createHmac('sha256', key).update(`${head}.${body}`).digest('base64url') === signature;
}

afterEach(() => vi.unstubAllGlobals());

describe('requests', () => {
  it('are signed with the service’s key, which is not in them', async () => {
    const token = await bearer(CREDENTIALS, NOW);
    expect(isSigned(token, CREDENTIALS.key)).toBe(true);
    expect(claims(token)).toEqual({ iss: 'service-1', exp: 1_700_000_300 });
    expect(Buffer.from(token.split('.').join(''), 'base64url').includes(CREDENTIALS.key)).toBe(false);
  });

  it('are signed the same on pages without WebCrypto', async () => {
    const here = await bearer(CREDENTIALS, NOW);
    vi.stubGlobal('crypto', {});
    expect(await bearer(CREDENTIALS, NOW)).toBe(here);
  });

  it('of the same minute have the same token, later ones a new one', async () => {
    const signer = new Signer(CREDENTIALS);
    const first = await signer.header(NOW);
    expect(first).toMatch(/^Bearer /);
    expect(await signer.header(NOW + 59_000)).toBe(first);
    expect(await signer.header(NOW + 61_000)).not.toBe(first);
    // A clock that was put back, too.
    expect(await signer.header(NOW - 600_000)).not.toBe(first);
  });

  it('are written for URLs', () => {
    expect(base64url(Uint8Array.from([251, 255, 254, 0]))).toBe('-__-AA');
  });
});

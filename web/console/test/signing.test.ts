import { afterEach, describe, expect, it, vi } from 'vitest';
import { base64url, bearer, Signer } from '../src/api/sign.js';

const CREDENTIALS = { id: 'service-1', key: 'kéy+/=' };
const NOW = 1_700_000_000_500;

/** As OpenSSL signs it. */
const EXPECTED =
  'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzZXJ2aWNlLTEiLCJleHAiOjE3MDAwMDAzMDB9.ACEprBY0TbTX3p8eppNVv31C9qqdxyBGUuu2av4pVAk';

afterEach(() => vi.unstubAllGlobals());

describe('requests', () => {
  it('are signed with the service’s key, which is not in them', async () => {
    expect(await bearer(CREDENTIALS, NOW)).toBe(EXPECTED);
    expect(JSON.parse(atob(EXPECTED.split('.')[1] ?? ''))).toEqual({ iss: 'service-1', exp: 1_700_000_300 });
  });

  it('are signed the same on pages without WebCrypto', async () => {
    vi.stubGlobal('crypto', {});
    expect(await bearer(CREDENTIALS, NOW)).toBe(EXPECTED);
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

// What RFC 9605 gives as examples (appendix C).
import { describe, expect, it } from 'vitest';
import { decodeHeader, encodeHeader } from '../../src/encryption/header.js';
import { baseKeyOf, type Cipher, deriveFrameKey, nonceOf } from '../../src/encryption/keys.js';
import { bytes, hex } from './frames.js';
import examples from './rfc9605.json';

describe('a header', () => {
  it.each(examples.header)('of key $kid and counter $counter is $encoded', ({ kid, counter, encoded }) => {
    const header = { kid: BigInt(kid), counter: BigInt(counter) };
    expect(hex(encodeHeader(header))).toBe(encoded);
    expect(decodeHeader(bytes(encoded))).toEqual(header);
  });

  it.each(['', '99', '990123', '9901234567ff'])('is not read from %j, which is less or more', (encoded) => {
    expect(decodeHeader(bytes(encoded))).toBeUndefined();
  });
});

describe('a frame', () => {
  it.each(examples.frames)('is sealed with $cipher as in the standard', async ({ cipher, kid, counter, baseKey, salt, nonce, aad, plain, sealed }) => {
    const base = await baseKeyOf({ raw: bytes(baseKey) });
    const derived = await deriveFrameKey(cipher as Cipher, base, BigInt(kid));
    expect(hex(derived.salt)).toBe(salt);
    const iv = nonceOf(derived.salt, BigInt(counter));
    expect(hex(iv)).toBe(nonce);
    const encrypted = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: bytes(aad) }, derived.key, bytes(plain));
    const header = encodeHeader({ kid: BigInt(kid), counter: BigInt(counter) });
    expect(hex(header) + hex(encrypted)).toBe(sealed);
  });
});

describe('a passphrase', () => {
  it('makes the same keys everywhere, and others with another salt', async () => {
    const made = async (passphrase: string, salt: string) => {
      const base = await baseKeyOf({ passphrase, salt });
      const { salt: derived } = await deriveFrameKey('AES-128-GCM', base, 1n);
      return hex(derived);
    };
    // In two ways to write the same letter (Unicode NFC and NFD).
    expect(await made('caf\u00e9', 'a')).toBe(await made('cafe\u0301', 'a'));
    expect(await made('café', 'a')).not.toBe(await made('café', 'b'));
  });
});

/**
 * The attribute of a publication that says that it is encrypted, and how. Rooms know it: they neither mix nor convert nor record what has it, unless
 * it is null or false.
 */
const ATTRIBUTE = 'e2ee';
/** How this SDK encrypts: SFrame (RFC 9605) with the header behind the frame. */
const SCHEME = 'sframe';

/** The attributes of a publication that is encrypted. */
export function withEncryption(attributes: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return { ...attributes, [ATTRIBUTE]: SCHEME };
}

/** What attributes say of encryption; undefined if nothing is encrypted. */
export function encryptionOf(attributes: Readonly<Record<string, unknown>>): string | undefined {
  const value = attributes[ATTRIBUTE];
  if (value === undefined || value === null || value === false) return undefined;
  return typeof value === 'string' ? value : 'unknown';
}

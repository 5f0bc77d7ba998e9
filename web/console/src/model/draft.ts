// A document that is being edited, and what of it has changed.

export type Path = (string | number)[];

/** The value at a path, if it is there. */
export function at(document: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, key) => (value === null || value === undefined ? undefined : (value as Record<string | number, unknown>)[key]), document);
}

/** A copy with another value at a path; `undefined` takes a member away. */
export function put<T>(document: T, path: Path, value: unknown): T {
  const [key, ...rest] = path;
  if (key === undefined) return value as T;
  const copy: Record<string | number, unknown> = Array.isArray(document)
    ? ([...document] as unknown as Record<string | number, unknown>)
    : { ...(document as Record<string, unknown>) };
  const inner = rest.length === 0 ? value : put(copy[key] ?? {}, rest, value);
  if (inner === undefined) delete copy[key];
  else copy[key] = inner;
  return copy as T;
}

/** Whether two documents say the same; the order of members does not matter. */
export function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false;
  const [one, other] = [Object.entries(a).filter(([, v]) => v !== undefined), b as Record<string, unknown>];
  const count = Object.values(other).filter((v) => v !== undefined).length;
  return one.length === count && one.every(([key, value]) => same(value, other[key]));
}

/** Members that the server sets by itself. */
const FIXED = new Set(['_id', 'id', '__v', 'service']);

/** The top-level attributes that differ from `base`, as `draft` has them: what a PUT replaces. */
export function changes<T extends object>(base: T, draft: T): Partial<T> {
  const entries = Object.entries(draft).filter(([key, value]) => !FIXED.has(key) && !same(value, (base as Record<string, unknown>)[key]));
  return Object.fromEntries(entries) as Partial<T>;
}

/** The names of those among `keys` that have been changed between two states of a document. */
export function changedMeanwhile(base: object, current: object, keys: string[]): string[] {
  return keys.filter((key) => !same((base as Record<string, unknown>)[key], (current as Record<string, unknown>)[key]));
}

/** The top-level attributes of `base` that `draft` has not any more. */
export function removed(base: object, draft: object): string[] {
  const members = draft as Record<string, unknown>;
  return Object.keys(base).filter((key) => !FIXED.has(key) && members[key] === undefined);
}

/** What makes `draft` of `base` (JSON Merge Patch, RFC 7396): lists are replaced, `null` takes away. */
export function mergePatch(base: unknown, draft: unknown): unknown {
  const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject(base) || !isObject(draft)) return draft;
  const patch: Record<string, unknown> = {};
  for (const key of new Set([...Object.keys(base), ...Object.keys(draft)])) {
    if (FIXED.has(key) || same(base[key], draft[key])) continue;
    patch[key] = draft[key] === undefined ? null : mergePatch(base[key], draft[key]);
  }
  return patch;
}

/**
 * An exact part of a picture's side. The server takes `n/d`, whole numbers and decimals of at most nine digits, each number below
 * 2³²; here they are kept reduced, so that thirds stay thirds.
 */
export interface Fraction {
  readonly n: number;
  /** More than 0. */
  readonly d: number;
}

const MAX = 2 ** 32 - 1;
const MAX_DECIMALS = 9;

export const ZERO: Fraction = { n: 0, d: 1 };
export const ONE: Fraction = { n: 1, d: 1 };

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** Reduced; the numerator may be negative. */
export function fraction(n: number, d = 1): Fraction {
  const divisor = gcd(Math.abs(n), d) || 1;
  return { n: n / divisor, d: d / divisor };
}

/** Reads `1/3`, `0`, `1` or `0.25`. Nothing for anything else, and for what is no part of a picture. */
export function parseFraction(text: string): Fraction | undefined {
  const match = /^\s*(?:(\d+)\s*\/\s*(\d+)|(\d*)\.(\d*)|(\d+))\s*$/.exec(text);
  if (!match) return undefined;
  const [, numerator, denominator, whole, decimals, integer] = match;
  let n: number;
  let d: number;
  if (numerator !== undefined && denominator !== undefined) [n, d] = [Number(numerator), Number(denominator)];
  else if (decimals !== undefined) {
    const digits = decimals.replace(/0+$/, '');
    if ((whole === '' && decimals === '') || digits.length > MAX_DECIMALS) return undefined;
    d = 10 ** digits.length;
    n = Number(whole || 0) * d + Number(digits || 0);
  } else [n, d] = [Number(integer), 1];
  return d === 0 || n > d || d > MAX ? undefined : fraction(n, d);
}

/** As the server reads it: `1/3`, `0`, `1`. */
export function formatFraction({ n, d }: Fraction): string {
  return d === 1 ? String(n) : `${n}/${d}`;
}

export function valueOf({ n, d }: Fraction): number {
  return n / d;
}

export function add(a: Fraction, b: Fraction): Fraction {
  return fraction(a.n * b.d + b.n * a.d, a.d * b.d);
}

export function subtract(a: Fraction, b: Fraction): Fraction {
  return add(a, { n: -b.n, d: b.d });
}

export function compare(a: Fraction, b: Fraction): number {
  return a.n * b.d - b.n * a.d;
}

export function clamp(a: Fraction, low: Fraction, high: Fraction): Fraction {
  return compare(a, low) < 0 ? low : compare(a, high) > 0 ? high : a;
}

/** The nearest line of a grid of so many parts. */
export function snap(value: number, parts: number): Fraction {
  return fraction(Math.round(value * parts), parts);
}

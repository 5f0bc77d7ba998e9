import { describe, expect, it } from 'vitest';
import { add, clamp, compare, formatFraction, fraction, ONE, parseFraction, snap, subtract, ZERO } from '../src/model/fraction.js';

const read = (text: string) => {
  const value = parseFraction(text);
  return value && formatFraction(value);
};

describe('fractions of a picture', () => {
  it('are read as the server reads them', () => {
    expect(['0', '1', '1/3', '2/4', '0.25', '.5', '1.0', ' 1 / 2 ', '0/7'].map(read)).toEqual(['0', '1', '1/3', '1/2', '1/4', '1/2', '1', '1/2', '0']);
  });

  it('are refused where they are no part of it', () => {
    for (const text of ['', 'a', '1/0', '3/2', '-1/2', '1.5', '1/2/3', '0.1234567891', '٣', '.', '1/', '1e-1']) expect(parseFraction(text), text).toBeUndefined();
  });

  it('stay exact', () => {
    const third = fraction(1, 3);
    expect(formatFraction(add(add(third, third), third))).toBe('1');
    expect(formatFraction(add(third, fraction(1, 12)))).toBe('5/12');
    expect(formatFraction(subtract(ONE, third))).toBe('2/3');
    expect(compare(fraction(333333, 1000000), third)).toBeLessThan(0);
  });

  it('come to rest on the lines of a grid', () => {
    expect(formatFraction(snap(0.34, 12))).toBe('1/3');
    expect(formatFraction(snap(0.04, 12))).toBe('0');
    expect(formatFraction(clamp(snap(1.2, 4), ZERO, ONE))).toBe('1');
  });
});

import type { UsageError } from '@shootdown/machine';
import { expect, test } from 'vitest';
import { random } from './random.ts';

test('the same seed gives the same numbers', () => {
  const [one, other] = [random(7), random(7)];
  for (let i = 0; i < 100; i++) expect(one(1000)).toBe(other(1000));
});

test('neighbouring seeds give first numbers that have nothing to do with each other', () => {
  const firsts = [...Array(400).keys()].map((seed) => random(seed)(1_000));
  const mean = firsts.reduce((sum, value) => sum + value, 0) / firsts.length;
  // Uniform on 0..999: the mean of 400 is within 5 standard errors (289 / 20) of 500.
  expect(Math.abs(mean - 499.5)).toBeLessThan(72);
  expect(new Set(firsts).size).toBeGreaterThan(300);
  // As often rising as falling.
  const rises = firsts.filter((value, index) => value > (firsts[index - 1] ?? 0)).length;
  expect(Math.abs(rises - 200)).toBeLessThan(50);
});

test('one of one needs no dice', () => {
  expect(random(1)(1)).toBe(0);
});

test('a seed is an integer', () => {
  expect(() => random(0.5)).toThrowError(
    expect.objectContaining({ code: 'ERR_OPTION' }) as UsageError,
  );
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Histogram } from './histogram.ts';

const of = (values: readonly number[]): Histogram => {
  const histogram = new Histogram();
  for (const value of values) histogram.add(value);
  return histogram;
};

test('quantiles are nearest ranks', () => {
  const values = Array.from({ length: 200 }, (_, i) => i + 1);
  expect(of(values).quantiles()).toEqual({
    count: 200,
    min: 1,
    p50: 100,
    p90: 180,
    p99: 198,
    max: 200,
  });
  expect(of([7]).quantiles()).toEqual({ count: 1, min: 7, p50: 7, p90: 7, p99: 7, max: 7 });
});

test('nothing has no quantiles', () => {
  expect(of([]).quantiles()).toBeNull();
  expect(of([]).groupedMedian()).toBeNull();
});

test('the grouped median lies where half of the values would, were each step filled evenly', () => {
  // 3 of 10 below the step of the median, 4 in it: half is 2 quarters of the way through.
  expect(of([0, 0, 0, 1, 1, 1, 1, 2, 2, 2]).groupedMedian()).toBe(1);
  // 1 below, 9 in the step: 4 ninths of the way from 0.5.
  expect(of([0, 1, 1, 1, 1, 1, 1, 1, 1, 1]).groupedMedian()).toBeCloseTo(0.5 + 4 / 9);
  expect(of([5, 5, 5]).groupedMedian()).toBe(5);
});

test('a quantile is exact below 2048 and at most a thousandth too low above', () => {
  const value = fc.oneof(fc.nat(4096), fc.maxSafeNat());
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 60 }), (values) => {
      const found = of(values).quantiles();
      const sorted = values.toSorted((a, b) => a - b);
      for (const [share, got] of [
        [0.5, found?.p50],
        [0.9, found?.p90],
        [0.99, found?.p99],
      ] as const) {
        const exact = sorted[Math.ceil(share * values.length) - 1] ?? 0;
        expect(got).toBeLessThanOrEqual(exact);
        expect(got).toBeGreaterThanOrEqual(exact < 2048 ? exact : exact * (1 - 1 / 1024));
      }
      expect([found?.min, found?.max]).toEqual([sorted[0], sorted.at(-1)]);
    }),
  );
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Strip } from './strip.ts';

test('no call is lost however long the axis grows, and each stays within a slot of where it was', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(10_000_000), { minLength: 1, maxLength: 200 }), (times) => {
      const sorted = times.toSorted((a, b) => a - b);
      const strip = new Strip(144, 1);
      for (const time of sorted) strip.add(time, 0);
      const first = sorted[0] ?? 0;
      const last = sorted.at(-1) ?? 0;
      const buckets = strip.buckets(72, last).map((bucket) => bucket[0] ?? 0);
      expect(buckets.reduce((sum, n) => sum + n, 0)).toBe(times.length);
      // Cumulative counts may differ from the exact ones by what one slot (two buckets at most)
      // holds.
      const width = (last - first + 1) / 72;
      let seen = 0;
      for (const [bucket, n] of buckets.entries()) {
        seen += n;
        const until = first + (bucket + 1) * width;
        expect(seen).toBeGreaterThanOrEqual(
          sorted.filter((time) => time < until - 2 * width).length,
        );
        expect(seen).toBeLessThanOrEqual(sorted.filter((time) => time < until + 2 * width).length);
      }
    }),
    { numRuns: 200 },
  );
});

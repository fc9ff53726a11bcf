/** Laws of calibration: what it does not look at changes nothing, and time is only a scale. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Calibration } from './calibrate.ts';
import { calibrated, calibratedText, type Shape, shootdown } from './shootdown.testlib.ts';

const shape: fc.Arbitrary<Shape> = fc.record({
  send: fc.integer({ min: 1, max: 30 }),
  flight: fc.integer({ min: 1, max: 60 }),
  flush: fc.integer({ min: 1, max: 40 }),
  pages: fc.constantFrom(-1, 1, 2, 8, 33),
});
const shapes = fc.array(shape, { minLength: 1, maxLength: 25 });

const linesOf = (some: readonly Shape[]): readonly string[] =>
  some.flatMap((one, i) => shootdown(100 + 1000 * i, one));

const UNRELATED = ['reschedule_entry: vector=253', 'mm_page_alloc: page=1', 'sys_futex(uaddr: 1)'];

test('events of CPUs that take no part change nothing', async () => {
  await fc.assert(
    fc.asyncProperty(
      shapes,
      fc.array(fc.tuple(fc.nat(1000), fc.nat(2)), { maxLength: 20 }),
      async (some, others) => {
        const lines = linesOf(some);
        const noise = others.map(
          ([place, which]) => [place % lines.length, UNRELATED[which] ?? ''] as const,
        );
        const mixed = lines.flatMap((line, i) => [
          line,
          ...noise
            .filter(([place]) => place === i)
            .map(([, event]) => `x-99 2 ${line.split(' ')[2]} ${event}`),
        ]);
        const [alone, noisy] = [await calibrated(lines), await calibrated(mixed)];
        expect(noisy.intervals).toEqual(alone.intervals);
        expect(noisy.entries).toEqual(alone.entries);
      },
    ),
    { numRuns: 30 },
  );
});

/** Lines as text of a clock that counts ticks. */
const ticks = (lines: readonly string[]): string =>
  `# tracer: nop\n${lines
    .map((line) => {
      const [, cpu = '', us = '', event = ''] = /^\S+ (\d+) (\d+) (.*)$/.exec(line) ?? [];
      return `          a-1       [00${cpu}] ..... ${us.padStart(12)}: ${event}`;
    })
    .join('\n')}\n`;

const medians = ({ intervals }: Calibration): readonly (number | undefined)[] =>
  intervals.flatMap(({ lengths }) => [lengths?.min, lengths?.p50, lengths?.p99, lengths?.max]);

test('a clock that ticks k times slower makes every length and every cost k times as long', async () => {
  await fc.assert(
    fc.asyncProperty(shapes, fc.integer({ min: 2, max: 50 }), async (some, k) => {
      const text = ticks(linesOf(some));
      // One tick is 1000 ns, and k times that; nothing is subtracted of a table that is free.
      const table = {
        sendIpi: { ns: 0 },
        invlpg: { ns: 0 },
        irqEntry: { ns: 0 },
        ipiFlight: { ns: 0 },
      };
      const one = await calibratedText(text, { tscMhz: 1, table });
      const scaled = await calibratedText(text, { tscMhz: 1 / k, table });
      expect(medians(scaled)).toEqual(medians(one).map((ns) => (ns === undefined ? ns : ns * k)));
      expect(scaled.entries.map(({ name }) => name)).toEqual(one.entries.map(({ name }) => name));
      for (const [i, { ns }] of one.entries.entries())
        expect(Math.abs((scaled.entries[i]?.ns ?? 0) - ns * k)).toBeLessThanOrEqual(k);
    }),
    { numRuns: 30 },
  );
});

/**
 * A recording that begins anywhere, or has a hole anywhere, may leave decisions open. It must not make
 * any of them different: what was not seen is not known.
 */
import { expect, test } from 'vitest';
import type { Depth } from './fields.ts';
import { linesOf, SHIPPED, validateLines } from './recordings.testlib.ts';
import type { ValidationResult } from './result.ts';

const lines = linesOf(SHIPPED);
const header = lines.filter((line) => line.startsWith('#'));
const events = lines.filter((line) => line !== '' && !line.startsWith('#'));

const wrong = ({ differences }: ValidationResult): readonly string[] =>
  differences
    .filter(({ learned }) => !learned)
    .map(({ kind, record, ours, recorded }) => `${kind} at ${record}: ${ours}, not ${recorded}`);

const decided = ({ scores }: ValidationResult): number =>
  Object.values(scores).reduce((sum, { equal, different }) => sum + equal + different, 0);

const DEPTHS: readonly Depth[] = ['probes', 'csd', 'tlb_flush'];
const STARTS = [1, 57, 200, 1311, 2718, 5000, 7919, 10_007, 13_000];

test.each(DEPTHS)(
  '%s: it begins anywhere',
  async (depth) => {
    const whole = await validateLines(lines, { kernel: '6.12.117', depth });
    for (const start of STARTS) {
      const cut = await validateLines([...header, ...events.slice(start)], {
        kernel: '6.12.117',
        depth,
      });
      expect([start, wrong(cut)]).toEqual([start, []]);
      // What is not seen any more does not come out as decided.
      expect(decided(cut)).toBeLessThanOrEqual(decided(whole));
    }
  },
  60_000,
);

/** `events` without those of `cpu` between two places, as the reader of a full ring buffer says it. */
function lose(cpu: number, from: number, count: number): readonly string[] {
  const on = `[00${cpu}]`;
  const before = events.slice(0, from);
  const hole = events.slice(from, from + count).filter((line) => !line.includes(on));
  const after = events.slice(from + count);
  const next = after.findIndex((line) => line.includes(on));
  const marker = `CPU:${cpu} [LOST ${count} EVENTS]`;
  return [...header, ...before, ...hole, ...after.slice(0, next), marker, ...after.slice(next)];
}

test.each(DEPTHS)(
  '%s: events of a CPU are missing anywhere',
  async (depth) => {
    for (const [index, from] of STARTS.slice(0, -1).entries()) {
      const holed = await validateLines(lose(index % 8, from, 150), { kernel: '6.12.117', depth });
      expect([from, wrong(holed)]).toEqual([from, []]);
      expect(holed.lost).toBeGreaterThan(0);
    }
  },
  60_000,
);

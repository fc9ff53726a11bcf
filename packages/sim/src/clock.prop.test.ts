/** The same seed gives the same bytes: on random worlds. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { runByClock } from './clock.ts';
import { build, optionsOf, type Plan, plans } from './programs.testlib.ts';

/** What a run emitted, and how it ended. */
function recordsOf(plan: Plan): readonly [records: readonly string[], end: string] {
  const { machine, records } = build(plan);
  const before = records.length;
  let end: string;
  try {
    end = JSON.stringify(runByClock(machine, optionsOf(plan)));
  } catch (error) {
    end = String(error);
  }
  return [records.slice(before), end];
}

const bytes = (plan: Plan): string => recordsOf(plan).flat().join('\n');

test('the same world with the same seed gives the same bytes', () => {
  fc.assert(
    fc.property(plans, (plan) => {
      expect(bytes(plan)).toBe(bytes(plan));
    }),
    { numRuns: 300 },
  );
});

test('another seed gives other bytes where there is a choice, and only there', () => {
  let differ = 0;
  fc.assert(
    fc.property(plans, (plan) => {
      const one = bytes(plan);
      if (one === bytes({ ...plan, seed: plan.seed + 1 })) return;
      expect(one).toMatch(/mayFail|choose/);
      differ++;
    }),
    { numRuns: 500 },
  );
  expect(differ).toBeGreaterThan(20);
});

test('records come in the order of time, and at one time of CPUs', () => {
  let compared = 0;
  fc.assert(
    fc.property(plans, (plan) => {
      const [records] = recordsOf({ ...plan, costs: 'default' });
      const keys = records.map((record) => {
        const { time, cpu } = JSON.parse(record) as { time: number; cpu: number };
        return time * 8 + cpu;
      });
      expect(keys).toEqual(keys.toSorted((a, b) => a - b));
      compared += keys.length;
    }),
    { numRuns: 500 },
  );
  expect(compared).toBeGreaterThan(1000);
});

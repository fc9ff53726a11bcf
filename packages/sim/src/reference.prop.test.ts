/** The clock against a slow and plain one (reference.testlib.ts), on random worlds. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Clock, type ClockRun } from './clock.ts';
import { build, optionsOf, type Plan, plans } from './programs.testlib.ts';
import { runSlowly, type SlowRun } from './reference.testlib.ts';

interface Told {
  readonly run: SlowRun | string;
  readonly records: readonly string[];
  readonly touchers: readonly string[];
}

const told = (plan: Plan, drive: (world: ReturnType<typeof build>) => SlowRun): Told => {
  const world = build(plan);
  const { records, machine } = world;
  let run: SlowRun | string;
  try {
    run = drive(world);
  } catch (error) {
    run = String(error);
  }
  const touchers = machine.cells
    .filter(({ toucher }) => toucher !== -1)
    .map(({ name, toucher }) => `${name} ${toucher}`)
    .toSorted();
  return { run, records, touchers };
};

const fast = (plan: Plan): Told =>
  told(plan, ({ machine }) => {
    const clock = new Clock(machine, optionsOf(plan));
    const run: ClockRun = clock.run();
    return { ...run, free: clock.lines.map(({ freeAt }) => freeAt) };
  });

const slow = (plan: Plan): Told => told(plan, ({ machine }) => runSlowly(machine, optionsOf(plan)));

test('the clock is the plain clock, only faster', () => {
  let ended = 0;
  let stopped = 0;
  let stuck = 0;
  let recs = 0;
  fc.assert(
    fc.property(plans, (plan) => {
      const one = fast(plan);
      expect(one).toEqual(slow(plan));
      recs += one.records.length;
      if (typeof one.run === 'string') {
        stuck++;
        if (!one.run.includes('nothing can end it')) throw new Error(one.run);
      } else if (one.run.ended) ended++;
      else stopped++;
    }),
    { numRuns: Number(process.env['RUNS'] ?? 500) },
  );
  console.log({ ended, stopped, stuck, recs });
});

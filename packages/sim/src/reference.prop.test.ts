/** The clock against a slow and plain one (reference.testlib.ts), on random worlds. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Clock } from './clock.ts';
import { build, optionsOf, type Plan, plans, type World } from './programs.testlib.ts';
import { runSlowly, type SlowRun } from './reference.testlib.ts';

/** What a world came to. */
interface Told {
  /** How it went, or the error it ended with. */
  readonly run: SlowRun | string;
  readonly records: readonly string[];
  readonly touchers: readonly string[];
}

function told(plan: Plan, drive: (world: World) => SlowRun): Told {
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
}

const fast = (plan: Plan): Told =>
  told(plan, ({ machine }) => {
    const clock = new Clock(machine, optionsOf(plan));
    const run = clock.run();
    // Nobody is left behind as a waiter, and no computation as interrupted.
    if (run.ended) {
      for (const { name, waiters } of machine.cells)
        if (waiters !== null && waiters.size > 0) throw new Error(`somebody still watches ${name}`);
      for (const { left } of clock.lines)
        if (left.size > 0) throw new Error('a computation that has ended is kept');
    }
    return { ...run, free: clock.lines.map(({ freeAt }) => freeAt) };
  });

const slow = (plan: Plan): Told => told(plan, ({ machine }) => runSlowly(machine, optionsOf(plan)));

function endOf(run: Told['run']): 'ended' | 'cut' | 'stuck' {
  if (typeof run !== 'string') return run.ended ? 'ended' : 'cut';
  if (!run.includes('nothing can end it')) throw new Error(run);
  return 'stuck';
}

test('the clock is the plain clock, only faster', () => {
  const ends = { ended: 0, cut: 0, stuck: 0 };
  fc.assert(
    fc.property(plans, (plan) => {
      const { run, ...rest } = fast(plan);
      expect({ run, ...rest }).toEqual(slow(plan));
      ends[endOf(run)]++;
    }),
    { numRuns: 2000 },
  );
  // Worlds that end in every way.
  expect(Math.min(...Object.values(ends))).toBeGreaterThan(100);
});

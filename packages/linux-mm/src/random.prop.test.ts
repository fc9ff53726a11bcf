/** Random programs: whatever they do to each other, nobody reaches what is not theirs. */
import { KERNEL_COSTS } from '@shootdown/mmu-gather';
import { pct, randomScheduler, runByClock, schedule } from '@shootdown/sim';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Action, KINDS, programOf, RandomRun } from './random.testlib.ts';

/** Those that need no time to pass, and do not visit 512 pages. */
const QUICK: readonly Action['kind'][] = KINDS.filter(
  (kind) => !['sleep', 'hugepage', 'collapse'].includes(kind),
);

test('by the clock: two or three processes that do everything', () => {
  fc.assert(
    fc.property(programOf(KINDS, { processes: 3, actions: 14 }), (program) => {
      const run = new RandomRun(program);
      const { machine } = run.scene.k;
      const { seed } = program;
      expect(run.run(() => runByClock(machine, { costs: KERNEL_COSTS, seed }).ended)).toEqual([]);
    }),
    { numRuns: 400 },
  );
});

test('by random schedules: the same without huge pages', () => {
  fc.assert(
    fc.property(programOf(QUICK, { processes: 2, actions: 10 }), (program) => {
      const run = new RandomRun(program);
      const { machine } = run.scene.k;
      const scheduler = randomScheduler(program.seed);
      expect(run.run(() => schedule(machine, scheduler).ended)).toEqual([]);
    }),
    { numRuns: 400 },
  );
});

test('by schedules with few changes of turn', () => {
  fc.assert(
    fc.property(programOf(QUICK, { processes: 2, actions: 10 }), (program) => {
      const run = new RandomRun(program);
      const { machine } = run.scene.k;
      const scheduler = pct({ seed: program.seed, depth: 4, steps: 4000 });
      expect(run.run(() => schedule(machine, scheduler).ended)).toEqual([]);
    }),
    { numRuns: 250 },
  );
});

test('by random schedules: huge pages that are made, split, shared and collapsed', () => {
  const kinds: readonly Action['kind'][] = [
    'touch',
    'hugepage',
    'collapse',
    'dontneed',
    'dontneedAll',
    'protect',
    'fork',
    'hold',
    'letGo',
  ];
  fc.assert(
    fc.property(programOf(kinds, { processes: 2, actions: 10 }), (program) => {
      const run = new RandomRun(program);
      const { machine } = run.scene.k;
      const scheduler = randomScheduler(program.seed);
      expect(run.run(() => schedule(machine, scheduler).ended)).toEqual([]);
    }),
    { numRuns: 150 },
  );
});

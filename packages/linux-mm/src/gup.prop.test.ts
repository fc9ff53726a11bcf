/** Laws of GUP-fast, over random threads and random interleavings. */
import { randomScheduler, schedule } from '@shootdown/sim';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Action, programOf, RandomRun } from './random.testlib.ts';

/** Against what it has to hold. */
const OPPONENTS: Readonly<Record<string, readonly Action['kind'][]>> = {
  zap: ['dontneed', 'dontneedAll', 'unmap', 'map'],
  reclaim: ['pageout'],
  fork: ['fork'],
  mprotect: ['protect'],
  mremap: ['move', 'moveBack'],
};

test.each(Object.entries(OPPONENTS))(
  'a page that was got is not freed before it is let go: against %s',
  (_name, kinds) => {
    const all: readonly Action['kind'][] = ['touch', 'hold', 'hold', 'letGo', ...kinds];
    fc.assert(
      fc.property(programOf(all, { processes: 1, actions: 8 }), (program) => {
        const [process = { cpu: 0, threads: [] }] = program.processes;
        const [mine = [], other = mine] = process.threads;
        const run = new RandomRun({
          ...program,
          processes: [{ ...process, threads: [mine, other] }],
        });
        const { machine } = run.scene.k;
        const scheduler = randomScheduler(program.seed);
        expect(run.run(() => schedule(machine, scheduler).ended)).toEqual([]);
      }),
      { numRuns: 120 },
    );
  },
);

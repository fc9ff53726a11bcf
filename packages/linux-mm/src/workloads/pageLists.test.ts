/** Workloads over lists of pages. */
import { call } from '@shootdown/machine';
import { KERNEL_COSTS } from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import { expect, test } from 'vitest';
import { testKernel } from '../kernel.testlib.ts';
import { vmasIn } from '../vma.ts';
import { overPages } from './pageLists.ts';
import { setUpWorkload } from './workload.ts';

test('regions of any length stay out of each other’s way', () => {
  // 16,385 pages are one more than fit into 64 MiB.
  const list = [1, 16_385, 16_384, 8];
  const { k } = testKernel({ frames: 65_536 });
  const mapped: number[][] = [];
  const look = overPages({
    name: 'look',
    title: 'looks at what is mapped',
    framesPerPage: 1,
    *once(user) {
      mapped.push(vmasIn(user.mm, 0, 2 ** 47).map(({ start, end }) => (end - start) / 4096));
      yield* call(user.compute(1));
    },
  });
  setUpWorkload(k, look, { threads: 1, values: { list, iterations: 1 } });
  expect(runByClock(k.machine, { costs: KERNEL_COSTS }).ended).toBe(true);
  expect(mapped.at(-1)).toEqual(list);
});

/** exec: the old address space goes, and its CPU is in the mask of the new one. */
import { call } from '@shootdown/machine';
import { currentTask, KERNEL_COSTS, startCpus } from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import { expect, test } from 'vitest';
import { findings, mapTouched } from './callers.testlib.ts';
import { execMmap } from './exec.ts';
import { mmAlloc } from './fork.ts';
import { testKernel } from './kernel.testlib.ts';
import { newProcess } from './user.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

test('the task goes on in the new one, and the last user of the old one has torn it down', () => {
  const { k } = testKernel({ kernel: '6.12.117' });
  const old = emptyMm(k);
  newProcess(k, { comm: 'test', cpu: 0, mm: old }, function* (user) {
    yield* call(mapTouched(user, BASE, 4));
    const mm = yield* call(mmAlloc(k, 'fresh'));
    if (mm === null) throw new Error('there is memory');
    yield* call(execMmap(k, mm));
    expect(currentTask(k).mm).toBe(mm);
    expect(mm.cpumask.value.members()).toEqual([0]);
    expect(old.vmas).toEqual([]);
    expect(old.cpumask.value.members()).toEqual([]);
    expect(old.count.value).toBe(0);
    yield* call(mapTouched(user, BASE, 1));
  });
  startCpus(k);
  runByClock(k.machine, { costs: KERNEL_COSTS });
  expect(findings(k)).toEqual([]);
});

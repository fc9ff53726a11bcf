/** The workload hugetlb-unshare, on native x86 with 4 CPUs. */
import { UsageError } from '@shootdown/machine';
import { KERNEL_COSTS, type Release } from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import { expect, test } from 'vitest';
import { testKernel } from '../kernel.testlib.ts';
import { hugetlbUnshare } from './hugetlbUnshare.ts';
import type { PhaseCounts } from './phases.ts';
import { setUpWorkload, type Values } from './workload.ts';

const SYNC = 'tlb_remove_table_smp_sync';

const run = (values: Values, threads = 1, kernel?: Release): readonly PhaseCounts[] => {
  const { k } = testKernel(kernel === undefined ? {} : { kernel });
  const phases = setUpWorkload(k, hugetlbUnshare, { threads, values: { pages: 4, ...values } });
  expect(runByClock(k.machine, { costs: KERNEL_COSTS }).ended).toBe(true);
  expect([...k.warnings]).toEqual([]);
  return phases.counts;
};

/** By phase: times the walkers were waited for, and CPUs interrupted for it. */
const syncs = (phases: readonly PhaseCounts[]): readonly (readonly number[])[] =>
  phases.map(({ ipis }) => {
    const sync = ipis.find(({ func }) => func === SYNC);
    return [sync?.sends ?? 0, sync?.interrupts ?? 0];
  });

test('two sharers: the first to leave is the last to unshare, and interrupts all other CPUs', () => {
  const phases = run({ sharers: 2, tables: 1 });
  expect(phases.map(({ name }) => name)).toEqual([
    'unshare sharers=2 remaining=1',
    'unshare sharers=2 remaining=0',
  ]);
  expect(syncs(phases)).toEqual([
    [1, 3],
    [0, 0],
  ]);
});

test('three sharers, two tables: one wait for both tables, by the second to leave', () => {
  expect(syncs(run({ sharers: 3, tables: 2 }))).toEqual([
    [0, 0],
    [1, 3],
    [0, 0],
  ]);
});

test('6.18: everybody who unshares waits, for each table', () => {
  expect(syncs(run({ sharers: 3, tables: 2 }, 1, '6.18'))).toEqual([
    [2, 6],
    [2, 6],
    [0, 0],
  ]);
});

test('every leaver flushes its own mm as a whole, where it runs', () => {
  // Thread 1 of the main process spins on CPU 1; the others are alone, on CPUs 2 and 3.
  const [main, second, owner] = run({ sharers: 3, tables: 1 }, 2);
  // A local one of all (reason 3), one sent (4) and received (1).
  expect(main?.flushes).toMatchObject({ '3:-1': 1, '4:-1': 1, '1:-1': 1 });
  expect(main?.ipis.find(({ func }) => func === 'flush_tlb_func')?.origin).toBe('munmap');
  // Of one thread: nobody to send it to. The PUD table's flush is the 0.
  expect(second?.flushes).toEqual({ '3:-1': 1, '3:0': 1 });
  // The owner flushes the 4 huge pages, and the tables by the same flush.
  expect(owner?.flushes).toEqual({ '3:4': 1 });
  expect(owner?.ipis).toEqual([]);
});

const codeOf = (body: () => unknown): string => {
  try {
    body();
  } catch (error) {
    if (error instanceof UsageError) return error.code;
    throw error;
  }
  return 'nothing was thrown';
};

test.each<[string, Values, number]>([
  ['ERR_CPU_RANGE', { sharers: 5, tables: 1 }, 1],
  ['ERR_CPU_RANGE', { sharers: 2, tables: 1 }, 4],
  ['ERR_WORKLOAD', { sharers: 2, tables: 1, pages: 513 }, 1],
])('%s: %o with %i threads on 4 CPUs', (code, values, threads) => {
  expect(codeOf(() => run(values, threads))).toBe(code);
});

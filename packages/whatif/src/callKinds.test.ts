/** Names of the kernel, old and new, and what they are for. */
import { expect, test } from 'vitest';
import { callKind, countsInTlbRow, SCHEDULER_CALLSITES } from './callKinds.ts';

test.each([
  ['flush_tlb_func', 'user-flush'],
  ['flush_tlb_func_remote', 'user-flush'],
  ['do_flush_tlb_all', 'flush-all'],
  ['do_kernel_range_flush', 'kernel-range'],
  ['__cpa_flush_tlb', 'cpa-flush'],
  ['__cpa_flush_all', 'cpa-flush'],
  ['tlb_remove_table_smp_sync', 'table-sync'],
  ['do_sync_core', 'text-patching'],
  ['sched_ttwu_pending', 'scheduler'],
  ['nohz_full_kick_func', 'scheduler'],
  ['rcu_exp_handler', 'rcu'],
  ['ipi_mb', 'membarrier'],
  ['anything_else', 'other'],
])('%s is for %s', (func, kind) => {
  expect(callKind(func)).toBe(kind);
});

test('the TLB row counts the user flush handler, under both its names, and nothing else', () => {
  const names = ['flush_tlb_func', 'flush_tlb_func_remote', 'do_flush_tlb_all', 'do_sync_core'];
  expect(names.filter(countsInTlbRow)).toEqual(['flush_tlb_func', 'flush_tlb_func_remote']);
});

test('wake-ups and ticks are sent from these places', () => {
  expect([...SCHEDULER_CALLSITES].toSorted((a, b) => (a < b ? -1 : 1))).toEqual([
    '__smp_call_single_queue',
    'irq_work_queue_on',
    'ttwu_queue_wakelist',
  ]);
});

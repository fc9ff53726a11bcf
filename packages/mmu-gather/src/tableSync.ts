/**
 * Waiting for those who walk page tables without a lock. A walker has interrupts off, so an
 * interrupt that every CPU has taken proves that every walk that began before it has ended. RCU
 * freeing keeps a table's memory for a walker; it does not keep the table's contents, so whoever
 * reuses a table in place waits here.
 *
 * Follows mm/mmu_gather.c and tlb_flush_unshared_tables() of include/asm-generic/tlb.h.
 */
import { call, type CallFunction } from '@shootdown/machine';
import type { Kernel, Kthread } from './kernel.ts';
import { smpCallFunction } from './kernel/smp.ts';
import { synchronizeRcu } from './kernel/rcu.ts';
import { type MmuGather, tlbFlushMmuTlbonly } from './mmuGather.ts';
import type { MmStruct } from './mmStruct.ts';

/** tlb_remove_table_smp_sync: to be interrupted is all there is to do. */
export const tlbRemoveTableSmpSync: CallFunction<null> = {
  name: 'tlb_remove_table_smp_sync',
  *run() {},
  leaf: { ops: [] },
};

/**
 * Interrupts every CPU and waits: not a grace period, but enough for walkers that have interrupts
 * off. Without RCU freeing the flush has interrupted them already, and this is nothing.
 *
 * @kernel mm/mmu_gather.c tlb_remove_table_sync_one
 */
export function* tlbRemoveTableSyncOne(k: Kernel): Kthread {
  if (!k.kconfig.MMU_GATHER_RCU_TABLE_FREE) return;
  k.probe?.({ kind: 'sync', by: 'ipi' });
  yield* call(smpCallFunction(k, tlbRemoveTableSmpSync, null));
}

/**
 * Waits for walkers of `mm`, as the callers ask for it that seed 000 (Lance Yang, 2 Feb 2026)
 * converts. Mainline has no such function: everybody is interrupted.
 */
export function* tlbRemoveTableSyncMm(k: Kernel, _mm: MmStruct | null): Kthread {
  yield* call(k.fn.tlbRemoveTableSyncOne(k));
}

/** tlb_remove_table_sync_rcu: the same by a grace period. Interrupts nobody, takes milliseconds. */
export function* tlbRemoveTableSyncRcu(k: Kernel): Kthread {
  k.probe?.({ kind: 'sync', by: 'rcu' });
  yield* call(synchronizeRcu(k));
}

/**
 * Before the lock goes that keeps others from using a table that was shared: translations by it go,
 * and if it has one owner now, who may change it and reuse it for something else, so do walkers. An
 * earlier leaver may skip that, because the last one waits for walkers of whichever mm.
 *
 * @kernel include/asm-generic/tlb.h tlb_flush_unshared_tables
 */
export function* tlbFlushUnsharedTables(k: Kernel, tlb: MmuGather): Kthread {
  if (tlb.unsharedTables) yield* call(tlbFlushMmuTlbonly(k, tlb));
  if (tlb.fullyUnsharedTables) {
    yield* call(k.fn.tlbRemoveTableSyncMm(k, tlb.mm));
    tlb.fullyUnsharedTables = false;
  }
}

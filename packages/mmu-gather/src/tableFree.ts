/**
 * Freeing page tables. Hardware walkers are kept out by the invalidation. Software walkers that take
 * no lock are kept out by one of three: the interrupts by which the invalidation works, if it does
 * (a walker has them off); an RCU grace period; or, for a single table without memory for a batch,
 * waiting for every walker.
 *
 * Follows mm/mmu_gather.c. Seed 003 (Peter Zijlstra, "asm-generic/tlb: Provide
 * MMU_GATHER_TABLE_FREE") split the table batch from its RCU freeing.
 */
import { call, PAGE_SIZE } from '@shootdown/machine';
import type { Kernel, Kthread } from './kernel.ts';
import { allocPages, freeFrames, type Page } from './kernel/pageAlloc.ts';
import { freeTable } from './kernel/pgtable.ts';
import { callRcu } from './kernel/rcu.ts';
import { type MmuGather, tlbFlushMmuTlbonly, tlbRemoveTablePage } from './mmuGather.ts';
import type { TableFreeing } from './probe.ts';

/** struct mmu_table_batch. */
export interface TableBatch {
  readonly tables: Page[];
  /** The page that it occupies. */
  readonly backing: Page;
}

/** MAX_TABLE_BATCH: a page behind an rcu_head (16 bytes) and a count (8): (4096 - 24) / 8. */
export const MAX_TABLE_BATCH: number = (PAGE_SIZE - 24) / 8;

/** __tlb_remove_table: the allocator has it back. */
function* __tlbRemoveTable(k: Kernel, table: Page, by: TableFreeing): Kthread {
  k.probe?.({ kind: 'free-table', table, by });
  yield* call(freeTable(k, table));
}

/** __tlb_remove_table_free */
function* __tlbRemoveTableFree(
  k: Kernel,
  { tables, backing }: TableBatch,
  by: TableFreeing,
): Kthread {
  for (const table of tables) yield* call(__tlbRemoveTable(k, table, by));
  yield* call(freeFrames(k, backing));
}

/** tlb_remove_table_free: after a grace period, or at once where interrupts did the waiting. */
function* tlbRemoveTableFree(k: Kernel, batch: TableBatch): Kthread {
  if (k.kconfig.MMU_GATHER_RCU_TABLE_FREE)
    yield* call(callRcu(k, () => __tlbRemoveTableFree(k, batch, 'rcu')));
  else yield* call(__tlbRemoveTableFree(k, batch, 'batch'));
}

/**
 * tlb_table_invalidate: hardware walkers first, then RCU for the software walkers, never the other
 * way round.
 */
function* tlbTableInvalidate(k: Kernel, tlb: MmuGather): Kthread {
  // tlb_needs_table_invalidate()
  if (k.claims.needsTableInvalidate && !k.kconfig.MMU_GATHER_NO_TABLE_INVALIDATE)
    yield* call(tlbFlushMmuTlbonly(k, tlb));
}

/**
 * tlb_remove_table_one: no memory for a batch, so this table goes alone.
 *
 * @kernel mm/mmu_gather.c tlb_remove_table_one, __tlb_remove_table_one
 */
export function* tlbRemoveTableOne(k: Kernel, tlb: MmuGather, table: Page): Kthread {
  if (k.kconfig.PT_RECLAIM) {
    // The table's own descriptor has room for the callback: no allocation and no waiting.
    yield* call(callRcu(k, () => __tlbRemoveTable(k, table, 'one-rcu')));
    return;
  }
  if (k.rules.tableOneByRcu && k.kconfig.MMU_GATHER_RCU_TABLE_FREE)
    yield* call(k.fn.tlbRemoveTableSyncRcu(k));
  else yield* call(k.fn.tlbRemoveTableSyncMm(k, tlb.mm));
  yield* call(__tlbRemoveTable(k, table, 'one'));
}

/** tlb_table_flush: hands the batch over. */
export function* tlbTableFlush(k: Kernel, tlb: MmuGather): Kthread {
  const { batch } = tlb;
  if (batch === null) return;
  yield* call(tlbTableInvalidate(k, tlb));
  tlb.batch = null;
  yield* call(tlbRemoveTableFree(k, batch));
}

/**
 * tlb_remove_table: adds a table that was unhooked.
 *
 * @kernel mm/mmu_gather.c tlb_remove_table
 */
export function* tlbRemoveTable(k: Kernel, tlb: MmuGather, table: Page): Kthread {
  if (!k.kconfig.MMU_GATHER_TABLE_FREE) {
    // A table is a page like others, and waits for nobody but the flush.
    yield* call(tlbRemoveTablePage(k, tlb, table));
    return;
  }
  if (tlb.batch === null) {
    const backing = yield* call(allocPages(k, { gfp: 'GFP_NOWAIT', purpose: 'tlb_remove_table' }));
    if (backing === null) {
      yield* call(tlbTableInvalidate(k, tlb));
      yield* call(k.fn.tlbRemoveTableOne(k, tlb, table));
      return;
    }
    tlb.batch = { tables: [], backing };
  }
  tlb.batch.tables.push(table);
  if (tlb.batch.tables.length === MAX_TABLE_BATCH) yield* call(tlbTableFlush(k, tlb));
}

/**
 * Flushes that an unmapper puts off: a task collects which CPUs have to forget something, of
 * whichever mms, and tells them all at once. Until then those CPUs may read and write the pages, so
 * nothing is freed, moved or, where an entry was dirty, written out before the flush.
 *
 * Follows mm/rmap.c. Not modelled: pte_accessible()'s other half, an entry of PROT_NONE that a gather
 * has not flushed yet.
 */
import { call, CpuMask, Pte, pteHas } from '@shootdown/machine';
import { currentTask, type Kernel, type Kthread, type MmStruct } from '@shootdown/mmu-gather';
import { noteBatchedPending } from './batched.ts';

/** enum ttu_flags, as far as it is modelled. */
export interface TtuFlags {
  /** TTU_BATCH_FLUSH: the caller calls tryToUnmapFlush() before it relies on the unmapping. */
  readonly batchFlush: boolean;
}

/**
 * The entry `pteval` of `mm` was cleared and not flushed. Under the page-table lock.
 *
 * @kernel mm/rmap.c set_tlb_ubc_flush_pending
 */
export function* setTlbUbcFlushPending(
  k: Kernel,
  mm: MmStruct,
  pteval: number,
  addr: number,
): Kthread {
  // pte_accessible(): what was not present is in no TLB.
  if (!pteHas(pteval, Pte.present)) return;
  const task = currentTask(k);
  task.tlbUbc ??= {
    cpumask: new CpuMask(k.machine.count),
    unmappedPages: false,
    flushRequired: false,
    writable: false,
  };
  const ubc = task.tlbUbc;
  yield* call(k.backend.batchAddPending(k, ubc, mm, addr));
  ubc.flushRequired = true;
  // After the entry was cleared, under its lock: who takes the lock next and finds the entry gone
  // finds the note too. Pairs with flushTlbBatchedPending().
  yield* call(noteBatchedPending(mm));
  // A dirty entry is best taken for a writable one.
  if (pteHas(pteval, Pte.dirty)) ubc.writable = true;
}

/**
 * Whether the flush for an entry of `mm` can wait for the end of the batch.
 *
 * @kernel mm/rmap.c should_defer_flush
 */
export function* shouldDeferFlush(k: Kernel, mm: MmStruct, flags: TtuFlags): Kthread<boolean> {
  if (!flags.batchFlush) return false;
  return yield* call(k.backend.batchShouldDefer(k, mm));
}

/**
 * Flushes what this task has put off, if anything.
 *
 * @kernel mm/rmap.c try_to_unmap_flush
 */
export function* tryToUnmapFlush(k: Kernel): Kthread {
  const ubc = currentTask(k).tlbUbc;
  if (ubc === null || !ubc.flushRequired) return;
  yield* call(k.backend.batchFlush(k, ubc));
  ubc.flushRequired = false;
  ubc.writable = false;
}

/**
 * Before a page is written out: flushes if a CPU may still write to what was unmapped.
 *
 * @kernel mm/rmap.c try_to_unmap_flush_dirty
 */
export function* tryToUnmapFlushDirty(k: Kernel): Kthread {
  if (currentTask(k).tlbUbc?.writable === true) yield* call(tryToUnmapFlush(k));
}

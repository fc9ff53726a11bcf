/**
 * mm->tlb_flush_batched: an unmapper that puts off its flush leaves a note, so that whoever next
 * takes a page-table lock of the mm and relies on what it reads can catch up.
 *
 * Follows mm/rmap.c.
 */
import { atomicUpdate, call, cmpxchg, readOnce } from '@shootdown/machine';
import { flushTlbMm, type Kernel, type Kthread, type MmStruct } from '@shootdown/mmu-gather';

/** Above this `pending` starts over: TLB_FLUSH_BATCH_PENDING_LARGE, half of 15 bits. */
const PENDING_LARGE = 0x3fff;

/** The part of set_tlb_ubc_flush_pending() that concerns the mm: one more is pending. */
export function* noteBatchedPending(mm: MmStruct): Kthread {
  yield* atomicUpdate(mm.tlbFlushBatched, (batch) =>
    batch.pending > PENDING_LARGE
      ? { pending: 1, flushed: 0 }
      : { pending: batch.pending + 1, flushed: batch.flushed },
  );
}

/**
 * Under the page-table lock, before entries are relied on.
 *
 * @kernel mm/rmap.c flush_tlb_batched_pending
 */
export function* flushTlbBatchedPending(k: Kernel, mm: MmStruct): Kthread {
  const batch = yield* readOnce(mm.tlbFlushBatched);
  if (batch.pending === batch.flushed) return;
  yield* call(flushTlbMm(k, mm));
  // What has come meanwhile was not flushed: then the note stays.
  yield* cmpxchg(mm.tlbFlushBatched, batch, { pending: batch.pending, flushed: batch.pending });
}

/**
 * mmu_gather: tearing down mappings safely. For everything that hardware or a lockless walker can
 * reach the order is: unhook it, invalidate the translations, free it. A gather collects what was
 * unhooked over a range, invalidates once, and then frees in bulk.
 *
 * Follows mm/mmu_gather.c; range tracking, from include/asm-generic/tlb.h, is in gatherRange.ts, page
 * tables are in tableFree.ts.
 */
import { assert, atomicUpdate, call, readOnce } from '@shootdown/machine';
import type { Kernel, Kthread } from './kernel.ts';
import { warnOnce } from './kernel.ts';
import { allocPages, freeFrames, type Page, putPage } from './kernel/pageAlloc.ts';
import { PMD_SIZE, taskSize } from './kernel/pgtable.ts';
import { tlbResetRange } from './gatherRange.ts';
import { isVmHugetlb, type MmStruct, type VmArea } from './mmStruct.ts';
import { type TableBatch, tlbTableFlush } from './tableFree.ts';
import { PAGE_SIZE } from '@shootdown/machine';

/** MMU_GATHER_BUNDLE: slots of the batch that is embedded in the gather. */
export const MMU_GATHER_BUNDLE = 8;
/** MAX_GATHER_BATCH: what fits a page behind a header of next, nr and max: (4096 - 16) / 8. */
export const MAX_GATHER_BATCH: number = (PAGE_SIZE - 16) / 8;
/** MAX_GATHER_BATCH_COUNT: about 10000 pages in all, so that freeing them does not take too long. */
export const MAX_GATHER_BATCH_COUNT: number = Math.floor(10000 / MAX_GATHER_BATCH);

/** A slot: a page, with the low bits of its pointer. */
export interface EncodedPage {
  readonly page: Page;
  /** ENCODED_PAGE_BIT_DELAY_RMAP: its reverse mapping is removed after the flush. */
  readonly delayRmap: boolean;
  /** It is a page table that leaves by this batch, for lack of another. */
  readonly table: boolean;
}

/** struct mmu_gather_batch. */
export interface GatherBatch {
  next: GatherBatch | null;
  readonly pages: EncodedPage[];
  readonly max: number;
  /** The page that it occupies; null if it is the embedded one. */
  readonly backing: Page | null;
}

/** struct mmu_gather: lives on the stack of whoever tears down. */
export interface MmuGather {
  readonly mm: MmStruct;
  /** CONFIG_MMU_GATHER_TABLE_FREE: tables that wait. */
  batch: TableBatch | null;
  start: number;
  end: number;
  /** The whole mm goes: no range, and nothing runs in it. */
  fullmm: boolean;
  needFlushAll: boolean;
  freedTables: boolean;
  delayedRmap: boolean;
  clearedPtes: boolean;
  clearedPmds: boolean;
  clearedPuds: boolean;
  clearedP4ds: boolean;
  vmaHuge: boolean;
  vmaPfn: boolean;
  /** A shared PMD table was let go. */
  unsharedTables: boolean;
  /** One was let go that now has one owner, who may change it. */
  fullyUnsharedTables: boolean;
  batchCount: number;
  active: GatherBatch;
  readonly local: GatherBatch;
  /** CONFIG_MMU_GATHER_PAGE_SIZE; 0 before the first page. */
  pageSize: number;
}

/** tlb_next_batch: a batch with room, or false: the caller has to flush. */
function* tlbNextBatch(k: Kernel, tlb: MmuGather): Kthread<boolean> {
  // Delayed rmaps are looked for in two batches only.
  if (tlb.delayedRmap && tlb.active !== tlb.local) return false;
  if (tlb.active.next !== null) {
    tlb.active = tlb.active.next;
    return true;
  }
  if (tlb.batchCount === MAX_GATHER_BATCH_COUNT) return false;
  const backing = yield* call(allocPages(k, { gfp: 'GFP_NOWAIT', purpose: 'tlb_next_batch' }));
  if (backing === null) return false;
  tlb.batchCount++;
  const batch: GatherBatch = { next: null, pages: [], max: MAX_GATHER_BATCH, backing };
  tlb.active.next = batch;
  tlb.active = batch;
  return true;
}

/** What a delayed reverse-mapping removal does: linux-mm's. */
export type RemoveRmap = (k: Kernel, page: Page) => Kthread;

/** tlb_flush_rmaps: the reverse mappings whose removal waited for the flush. */
export function* tlbFlushRmaps(k: Kernel, tlb: MmuGather, removeRmap: RemoveRmap): Kthread {
  if (!tlb.delayedRmap) return;
  const batches = tlb.active === tlb.local ? [tlb.local] : [tlb.local, tlb.active];
  for (const { pages } of batches)
    for (const { page, delayRmap } of pages) if (delayRmap) yield* call(removeRmap(k, page));
  tlb.delayedRmap = false;
}

/** tlb_batch_pages_flush: frees what the batches hold, and begins at the embedded one again. */
function* tlbBatchPagesFlush(k: Kernel, tlb: MmuGather): Kthread {
  for (let batch: GatherBatch | null = tlb.local; batch !== null; batch = batch.next) {
    if (batch.pages.length === 0) break;
    for (const { page, table } of batch.pages.splice(0)) {
      if (table) {
        k.probe?.({ kind: 'free-table', table: page, by: 'page-batch' });
        k.ptLocks.delete(page.pfn);
        yield* call(freeFrames(k, page));
      } else yield* call(putPage(k, page));
    }
  }
  tlb.active = tlb.local;
}

/** tlb_batch_list_free: gives back the pages that the batches themselves occupy. */
function* tlbBatchListFree(k: Kernel, tlb: MmuGather): Kthread {
  for (let batch = tlb.local.next; batch !== null; batch = batch.next)
    if (batch.backing !== null) yield* call(freeFrames(k, batch.backing));
  tlb.local.next = null;
}

/**
 * Adds a page that was unhooked; true: the batch is full, flush before you add more.
 *
 * @kernel mm/mmu_gather.c __tlb_remove_page_size
 */
export function* __tlbRemovePageSize(
  k: Kernel,
  tlb: MmuGather,
  page: Page,
  delayRmap: boolean,
  pageSize: number,
): Kthread<boolean> {
  return yield* call(addPage(k, tlb, { page, delayRmap, table: false }, pageSize));
}

function* addPage(
  k: Kernel,
  tlb: MmuGather,
  slot: EncodedPage,
  pageSize: number,
): Kthread<boolean> {
  assert(tlb.end !== 0, 'a page is removed after its entry was noted');
  if (k.kconfig.MMU_GATHER_NO_GATHER) {
    // Clearing the entry has invalidated it: there is nothing to collect for.
    yield* call(putPage(k, slot.page));
    return false;
  }
  if (k.kconfig.MMU_GATHER_PAGE_SIZE)
    warnOnce(k, tlb.pageSize !== pageSize, 'a page of another size than the batch is removed');
  tlb.active.pages.push(slot);
  // One slot stays free: a folio of several pages takes two.
  if (tlb.active.pages.length >= tlb.active.max - 1)
    if (!(yield* call(tlbNextBatch(k, tlb)))) return true;
  return false;
}

/** tlb_remove_page_size: as above, and flushes by itself. */
export function* tlbRemovePageSize(
  k: Kernel,
  tlb: MmuGather,
  page: Page,
  pageSize: number,
): Kthread {
  if (yield* call(__tlbRemovePageSize(k, tlb, page, false, pageSize)))
    yield* call(tlbFlushMmu(k, tlb));
}

/** tlb_remove_page of a page table: what tlb_remove_table() is without a table batch. */
export function* tlbRemoveTablePage(k: Kernel, tlb: MmuGather, table: Page): Kthread {
  const slot: EncodedPage = { page: table, delayRmap: false, table: true };
  if (yield* call(addPage(k, tlb, slot, PAGE_SIZE))) yield* call(tlbFlushMmu(k, tlb));
}

/** tlb_flush_mmu_tlbonly: invalidates what was noted since the last time, if anything was. */
export function* tlbFlushMmuTlbonly(k: Kernel, tlb: MmuGather): Kthread {
  const cleared = tlb.clearedPtes || tlb.clearedPmds || tlb.clearedPuds || tlb.clearedP4ds;
  if (!(tlb.freedTables || cleared || tlb.unsharedTables)) return;
  const { mm, start, end, freedTables } = tlb;
  k.probe?.({ kind: 'flush', mm, start, end, freedTables });
  yield* call(k.fn.tlbFlush(k, tlb));
  k.probe?.({ kind: 'flushed', mm, start, end, freedTables });
  tlbResetRange(tlb, taskSize(k));
}

/**
 * tlb_flush: the range that was noted, or everything.
 *
 * @kernel include/asm-generic/tlb.h tlb_flush
 */
export function* tlbFlush(k: Kernel, tlb: MmuGather): Kthread {
  const { mm, start, end } = tlb;
  if (k.backend.tlbFlush !== undefined) {
    yield* call(k.backend.tlbFlush(k, tlb));
    return;
  }
  if (k.kconfig.MMU_GATHER_NO_RANGE || tlb.fullmm || tlb.needFlushAll) {
    if (end !== 0) yield* call(flushTlbMm(k, mm));
    return;
  }
  if (end === 0) return;
  const shift = tlb.vmaHuge ? Math.log2(PMD_SIZE) : Math.log2(PAGE_SIZE);
  yield* call(k.backend.flushTlbRange(k, mm, start, end, shift));
}

/** flush_tlb_mm: everything of `mm`, lazy CPUs and structure caches included. */
export const flushTlbMm = (k: Kernel, mm: MmStruct): Kthread =>
  k.backend.flushTlbRange(k, mm, 0, Infinity, 0);

/** tlb_flush_mmu_free: tables first, then pages. */
function* tlbFlushMmuFree(k: Kernel, tlb: MmuGather): Kthread {
  yield* call(tlbTableFlush(k, tlb));
  if (!k.kconfig.MMU_GATHER_NO_GATHER) yield* call(tlbBatchPagesFlush(k, tlb));
}

/** tlb_flush_mmu: invalidates, then frees. */
export function* tlbFlushMmu(k: Kernel, tlb: MmuGather): Kthread {
  yield* call(tlbFlushMmuTlbonly(k, tlb));
  yield* call(tlbFlushMmuFree(k, tlb));
}

function* __tlbGatherMmu(k: Kernel, mm: MmStruct, fullmm: boolean): Kthread<MmuGather> {
  const local: GatherBatch = { next: null, pages: [], max: MMU_GATHER_BUNDLE, backing: null };
  const tlb: MmuGather = {
    mm,
    batch: null,
    start: 0,
    end: 0,
    fullmm,
    needFlushAll: false,
    freedTables: false,
    delayedRmap: false,
    clearedPtes: false,
    clearedPmds: false,
    clearedPuds: false,
    clearedP4ds: false,
    vmaHuge: false,
    vmaPfn: false,
    unsharedTables: false,
    fullyUnsharedTables: false,
    batchCount: 0,
    active: local,
    local,
    pageSize: 0,
  };
  tlbResetRange(tlb, taskSize(k));
  yield* call(incTlbFlushPending(mm));
  return tlb;
}

/** tlb_gather_mmu: begins to tear down parts of `mm`. */
export const tlbGatherMmu = (k: Kernel, mm: MmStruct): Kthread<MmuGather> =>
  __tlbGatherMmu(k, mm, false);

/** tlb_gather_mmu_fullmm: begins to tear down all of `mm`, which has no users left. */
export const tlbGatherMmuFullmm = (k: Kernel, mm: MmStruct): Kthread<MmuGather> =>
  __tlbGatherMmu(k, mm, true);

/** tlb_gather_mmu_vma: begins to work on one VMA, without tlb_start_vma(). */
export function* tlbGatherMmuVma(k: Kernel, vma: VmArea): Kthread<MmuGather> {
  const tlb = yield* call(tlbGatherMmu(k, vma.mm));
  tlbUpdateVmaFlags(tlb, vma);
  if (isVmHugetlb(vma)) yield* call(tlbChangePageSize(k, tlb, PMD_SIZE));
  return tlb;
}

/**
 * inc_tlb_flush_pending: who reads entries under the page-table lock from now on knows that what it
 * reads may still be cached elsewhere. The lock, taken afterwards, orders this before the change.
 */
export function* incTlbFlushPending(mm: MmStruct): Kthread {
  yield* atomicUpdate(mm.tlbFlushPending, (pending) => pending + 1);
}

/** dec_tlb_flush_pending: the flush has completed. */
export function* decTlbFlushPending(mm: MmStruct): Kthread {
  yield* atomicUpdate(mm.tlbFlushPending, (pending) => pending - 1);
}

/** mm_tlb_flush_nested: another gather is in between too. */
function* mmTlbFlushNested(mm: MmStruct): Kthread<boolean> {
  return (yield* readOnce(mm.tlbFlushPending)) > 1;
}

/**
 * tlb_finish_mmu: flushes and frees what is left. If another gather works on the mm too, it may have
 * changed entries that this one passed over as none: then everything is flushed, and as tables may
 * have gone with them, lazy CPUs too.
 *
 * @kernel mm/mmu_gather.c tlb_finish_mmu
 */
export function* tlbFinishMmu(k: Kernel, tlb: MmuGather): Kthread {
  warnOnce(k, tlb.fullyUnsharedTables, 'unshared tables were not flushed before tlb_finish_mmu');
  if (yield* call(mmTlbFlushNested(tlb.mm))) {
    tlb.fullmm = true;
    tlbResetRange(tlb, taskSize(k));
    tlb.freedTables = true;
  }
  yield* call(tlbFlushMmu(k, tlb));
  if (!k.kconfig.MMU_GATHER_NO_GATHER) yield* call(tlbBatchListFree(k, tlb));
  yield* call(decTlbFlushPending(tlb.mm));
}

/** tlb_update_vma_flags */
function tlbUpdateVmaFlags(tlb: MmuGather, vma: VmArea): void {
  tlb.vmaHuge = isVmHugetlb(vma);
  tlb.vmaPfn ||= vma.flags.pfnmap;
}

/** tlb_start_vma. Not modelled: flush_cache_range, which x86 and arm64 do not need. */
export function tlbStartVma(tlb: MmuGather, vma: VmArea): void {
  if (!tlb.fullmm) tlbUpdateVmaFlags(tlb, vma);
}

/** tlb_end_vma: with ranges per VMA the flush is here, so that they do not grow over the gaps. */
export function* tlbEndVma(k: Kernel, tlb: MmuGather): Kthread {
  if (tlb.fullmm) return;
  const pfnmap = tlb.vmaPfn && !k.rules.pfnmapFlushInFreeVmas;
  if (pfnmap || !k.kconfig.MMU_GATHER_MERGE_VMAS) yield* call(tlbFlushMmuTlbonly(k, tlb));
  // Where it is flushed here, it is a matter of this VMA alone.
  if (pfnmap) tlb.vmaPfn = false;
}

/**
 * tlb_free_vmas: before VMAs with raw frames become invisible to unmap_mapping_range(), which would
 * return too early, their translations go.
 */
export function* tlbFreeVmas(k: Kernel, tlb: MmuGather): Kthread {
  if (tlb.fullmm || !tlb.vmaPfn || !k.rules.pfnmapFlushInFreeVmas) return;
  yield* call(tlbFlushMmuTlbonly(k, tlb));
}

/** tlb_change_page_size: a batch holds pages of one size. */
export function* tlbChangePageSize(k: Kernel, tlb: MmuGather, pageSize: number): Kthread {
  if (!k.kconfig.MMU_GATHER_PAGE_SIZE) return;
  const changes = tlb.pageSize !== 0 && tlb.pageSize !== pageSize;
  if (changes && !tlb.fullmm && !tlb.needFlushAll) yield* call(tlbFlushMmu(k, tlb));
  tlb.pageSize = pageSize;
}

/**
 * Reclaim, as far as MADV_PAGEOUT drives it: anonymous pages go to swap. A dirty page is flushed
 * before it is written, because a CPU that could still write to it would do so behind the device's
 * back; a page that needs no flush for that waits for one of the whole list before it is freed.
 *
 * Follows mm/vmscan.c and the walk of mm/madvise.c. Not modelled: LRU lists beyond who has taken a
 * page off, huge pages (they stay), shared memory (it stays), large folios, memory cgroups,
 * writeback that goes on afterwards (as with a RAM disk, a write has ended when it returns). As there
 * is no swap cache, a page with a reference that is not an entry's is mapped again at once, where the
 * kernel, unless it is pinned, keeps it in that cache until somebody faults on it.
 */
import {
  atomicUpdate,
  call,
  type Cell,
  cmpxchg,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readOnce,
  readWord,
  smpStoreRelease,
  writeWord,
  xchg,
} from '@shootdown/machine';
import {
  entryOf,
  freeFrames,
  getPage,
  isAnonymous,
  isVmHugetlb,
  type Kernel,
  type Kthread,
  Level,
  type MmuGather,
  type Page,
  pageOf,
  pageToNid,
  ptepGetAndClear,
  putPage,
  spinUnlock,
  swapPte,
  tlbChangePageSize,
  tlbEndVma,
  tlbGatherMmu,
  tlbRemoveTlbEntry,
  tlbStartVma,
  type VmArea,
  work,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { flushTlbBatchedPending } from './batched.ts';
import { pteOffsetMapLock, walkPageRange } from './pagewalk.ts';
import { clearFlag } from './pteOf.ts';
import { allocSwap, freeSwap, swapDuplicate } from './swap.ts';
import { tryToUnmapFlush, tryToUnmapFlushDirty } from './tlbUbc.ts';
import { isHeldOtherwise, isUnmapped, tryToUnmap } from './unmap.ts';

/** Pages that a folio_batch holds: PAGEVEC_SIZE. */
const PAGEVEC_SIZE = 31;

/** Whether somebody has taken a page off its LRU list: PG_lru, the other way round. */
const ISOLATED = new WeakMap<Page, Cell<boolean>>();

function isolatedOf(k: Kernel, page: Page): Cell<boolean> {
  let cell = ISOLATED.get(page);
  if (cell === undefined) {
    cell = k.machine.cell(`page[${page.pfn}].isolated`, false);
    ISOLATED.set(page, cell);
  }
  return cell;
}

/**
 * Takes a page off its list, with a reference; false: somebody else has it. Under the lock of an
 * entry that maps it.
 *
 * @kernel mm/vmscan.c folio_isolate_lru
 */
export function* isolateLru(k: Kernel, page: Page): Kthread<boolean> {
  if (yield* xchg(isolatedOf(k, page), true)) return false;
  yield* call(getPage(page));
  return true;
}

/**
 * Puts it back.
 *
 * @kernel mm/vmscan.c folio_putback_lru
 */
export function* putbackLru(k: Kernel, page: Page): Kthread {
  yield* smpStoreRelease(isolatedOf(k, page), false);
  yield* call(putPage(k, page));
}

/** folio_trylock */
export function* trylockPage({ lock }: Page): Kthread<boolean> {
  return !(yield* cmpxchg(lock, false, true));
}

/**
 * MADV_PAGEOUT of a range of a VMA, with mmap_lock held for reading. What cannot go stays.
 *
 * @kernel mm/madvise.c madvise_pageout
 */
export function* reclaimPageRange(k: Kernel, vma: VmArea, start: number, end: number): Kthread {
  // can_madv_lru_vma(), and what is not modelled.
  if (isVmHugetlb(vma) || vma.flags.pfnmap) return;
  if (!isAnonymous(vma) || vma.flags.shared) return;
  // The walk may clear accessed bits: that is what its gather is for.
  const tlb = yield* call(tlbGatherMmu(k, vma.mm));
  tlbStartVma(tlb, vma);
  yield* call(
    walkPageRange(k, vma.mm, start, end, (pmd, from, to) =>
      madvisePageoutPteRange(k, tlb, pmd, from, to),
    ),
  );
  yield* call(tlbEndVma(k, tlb));
  yield* call(k.fn.tlbFinishMmu(k, tlb));
}

/**
 * The pages of one PTE table: first all are taken, then all go.
 *
 * Not modelled: giving the lock up in between when somebody wants the CPU.
 *
 * @kernel mm/madvise.c madvise_cold_or_pageout_pte_range
 */
function* madvisePageoutPteRange(
  k: Kernel,
  tlb: MmuGather,
  pmd: PhysAddr,
  start: number,
  end: number,
): Kthread {
  yield* call(tlbChangePageSize(k, tlb, PAGE_SIZE));
  const locked = yield* call(pteOffsetMapLock(k, pmd));
  if (locked === null) return;
  yield* call(flushTlbBatchedPending(k, tlb.mm));
  const pages: Page[] = [];
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const page = yield* call(pageoutPte(k, tlb, entryOf(locked.table, addr, Level.pte), addr));
    if (page !== null) pages.push(page);
  }
  yield* spinUnlock(locked.lock);
  yield* call(reclaimPages(k, pages));
}

/** The page of one entry, taken off its list; null: it does not go. */
function* pageoutPte(k: Kernel, tlb: MmuGather, pte: PhysAddr, addr: number): Kthread<Page | null> {
  const ptent = yield* readWord(pte);
  if (!pteHas(ptent, Pte.present) || ptePfn(ptent) === ZERO_PFN) return null;
  const page = pageOf(k, ptePfn(ptent));
  // What others map is left alone.
  if ((yield* readOnce(page.mappings)).length !== 1) return null;
  if (k.rules.pageoutClearsYoung && pteHas(ptent, Pte.accessed)) {
    // Cleared in between, so that no dirty bit is lost.
    const old = yield* call(ptepGetAndClear(k, tlb.mm, addr, pte));
    yield* writeWord(pte, clearFlag(old, Pte.accessed));
    tlbRemoveTlbEntry(tlb, addr);
  }
  return (yield* call(isolateLru(k, page))) ? page : null;
}

/**
 * Runs of pages of one node each.
 *
 * @kernel mm/vmscan.c reclaim_pages
 */
function* reclaimPages(k: Kernel, pages: readonly Page[]): Kthread {
  let run: Page[] = [];
  for (const page of pages) {
    const [first = page] = run;
    if (pageToNid(k, first.pfn) !== pageToNid(k, page.pfn)) {
      yield* call(shrinkFolioList(k, run));
      run = [];
    }
    run.push(page);
  }
  if (run.length > 0) yield* call(shrinkFolioList(k, run));
}

/**
 * Writes isolated pages, each mapped by one entry at most, to swap and frees them; who cannot go is
 * put back. Gives how many went.
 *
 * @kernel mm/vmscan.c shrink_folio_list
 */
export function* shrinkFolioList(k: Kernel, pages: readonly Page[]): Kthread<number> {
  let reclaimed = 0;
  const keep: Page[] = [];
  let freeFolios: Page[] = [];
  for (const page of pages) {
    if (!(yield* call(trylockPage(page)))) {
      keep.push(page);
      continue;
    }
    const gone = yield* call(pageOut(k, page));
    yield* spinUnlock(page.lock);
    if (!gone) {
      keep.push(page);
      continue;
    }
    reclaimed++;
    freeFolios.push(page);
    if (freeFolios.length < PAGEVEC_SIZE) continue;
    yield* call(freeUnrefFolios(k, freeFolios));
    freeFolios = [];
  }
  yield* call(freeUnrefFolios(k, freeFolios));
  for (const page of keep) yield* call(putbackLru(k, page));
  return reclaimed;
}

/** What shrink_folio_list() does with one page, locked; true: it is in swap, and nobody has it. */
function* pageOut(k: Kernel, page: Page): Kthread<boolean> {
  // folio_maybe_dma_pinned(), of every reference that is not an entry's.
  if (yield* call(isHeldOtherwise(page))) return false;
  const slot = yield* call(addToSwap(k, page));
  yield* call(tryToUnmap(k, page, { batchFlush: true }));
  const unmapped = yield* call(isUnmapped(page));
  if (unmapped) {
    // add_to_swap() has made the page dirty, so it is always written. What may be dirty still is a
    // translation: no CPU writes to the page once the device reads it.
    yield* call(tryToUnmapFlushDirty(k));
    yield* work('swapOut');
  }
  page.swapEntry = null;
  yield* call(freeSwap(k, swapPte(slot)));
  return unmapped && (yield* call(removeMapping(page)));
}

/** A slot that is the page's until it is in no table any more: add_to_swap. */
function* addToSwap(k: Kernel, page: Page): Kthread<number> {
  const slot = yield* call(allocSwap(k));
  // The swap cache's own reference.
  yield* call(swapDuplicate(k, slot));
  page.swapEntry = slot;
  return slot;
}

/**
 * Takes the last reference, so that nobody gets another: folio_ref_freeze. Whoever holds one now is
 * GUP-fast, which is about to notice that the entry has changed. Then the page goes when both have
 * let it go, and we do so after the last flush.
 *
 * @kernel mm/vmscan.c __remove_mapping
 */
function* removeMapping({ refcount }: Page): Kthread<boolean> {
  return (yield* atomicUpdate(refcount, (count) => (count === 1 ? 0 : count))) === 1;
}

/**
 * Frees pages that nobody has a reference to. The frames are anybody's from here on, so the flush for
 * their entries comes first.
 *
 * @kernel mm/page_alloc.c free_unref_folios
 */
function* freeUnrefFolios(k: Kernel, pages: readonly Page[]): Kthread {
  yield* call(tryToUnmapFlush(k));
  for (const page of pages) {
    k.probe?.({ kind: 'free-page', page });
    yield* call(freeFrames(k, page));
  }
}

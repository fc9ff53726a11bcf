/**
 * Collapsing 512 small pages into a huge one, in place: the page table is unhooked, its pages are
 * copied, and it is kept for the day the huge page is split. Nothing is freed that a walker might be
 * in; but the table is read and changed as nobody's, so walkers have to be out of it: the sync.
 *
 * Follows mm/khugepaged.c. Not modelled: swapping in, shared memory and files, the scan's other
 * limits, anon_vma locks.
 */
import {
  call,
  makePte,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readOnce,
  readWord,
  writeWord,
  xchgWord,
} from '@shootdown/machine';
import {
  allocPages,
  downRead,
  downWrite,
  entryOf,
  findEntry,
  HPAGE_PMD_NR,
  HPAGE_PMD_ORDER,
  HPAGE_PMD_SIZE,
  isAnonymous,
  isTable,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  type Page,
  PAGE_SHIFT,
  pageOf,
  pmdLock,
  ptLock,
  putPage,
  spinLock,
  spinUnlock,
  upRead,
  upWrite,
  type VmArea,
  work,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { deposit, fitsHuge, isHuge } from './hugeMemory.ts';
import type { CollapseResult, MmKernel } from './mm.ts';
import { flagsFor } from './pteOf.ts';
import { pteOffsetMapLock } from './pagewalk.ts';
import { addRmap, removeRmap } from './rmap.ts';
import { vmaLookup } from './vma.ts';

/** hugepage_vma_revalidate: the VMA, as it is now that the lock is held again. */
function revalidate(mm: MmStruct, addr: number): VmArea | null {
  const vma = vmaLookup(mm, addr);
  return vma !== null && isAnonymous(vma) && fitsHuge(vma, addr) ? vma : null;
}

/**
 * Collapses the 2 MiB at `addr`. Takes and drops mmap_lock itself.
 *
 * @kernel mm/khugepaged.c hpage_collapse_scan_pmd, collapse_huge_page
 */
export function* collapseHugePage(
  k: MmKernel,
  mm: MmStruct,
  addr: number,
): Kthread<CollapseResult> {
  yield* downRead(mm.mmapLock);
  const scanned = yield* call(scanPmd(k, mm, addr));
  yield* upRead(mm.mmapLock);
  if (scanned !== 'succeeded') return scanned;
  const huge = yield* call(
    allocPages(k, { gfp: 'GFP_KERNEL', purpose: 'collapse', order: HPAGE_PMD_ORDER }),
  );
  if (huge === null) return 'alloc-huge-page-fail';
  k.stats.vmstat.thp_collapse_alloc++;
  // Nobody faults, maps or unmaps from here on; a lockless walker may still be anywhere.
  yield* downWrite(mm.mmapLock);
  const result = yield* call(collapseLocked(k, mm, addr, huge));
  yield* upWrite(mm.mmapLock);
  if (result !== 'succeeded') yield* call(putPage(k, huge));
  return result;
}

function* scanPmd(k: Kernel, mm: MmStruct, addr: number): Kthread<CollapseResult> {
  if (revalidate(mm, addr) === null) return 'vma-check';
  const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
  if (pmd === null) return 'pmd-null';
  const entry = yield* readWord(pmd);
  if (isHuge(entry)) return 'pmd-mapped';
  if (!isTable(entry, Level.pmd)) return 'pmd-null';
  const locked = yield* call(pteOffsetMapLock(k, pmd));
  if (locked === null) return 'pmd-null';
  const result = yield* call(checkPages(k, locked.table, addr));
  yield* spinUnlock(locked.lock);
  return result;
}

/** Whether every page of a table is present or none, and held by its entries alone. Under its lock. */
function* checkPages(k: Kernel, table: number, addr: number): Kthread<CollapseResult> {
  let result: CollapseResult = 'succeeded';
  for (let n = 0; n < HPAGE_PMD_NR && result === 'succeeded'; n++) {
    const pte = yield* readWord(entryOf(table, addr + n * PAGE_SIZE, Level.pte));
    if (pte === 0) continue;
    // Before its frame is looked at: what a swap entry has there is another number.
    if (!pteHas(pte, Pte.present)) result = 'pte-non-present';
    else if (ptePfn(pte) === ZERO_PFN) continue;
    else if (!(yield* call(isHeldByMappings(pageOf(k, ptePfn(pte)))))) result = 'page-count';
  }
  return result;
}

/** is_refcount_suitable: nobody has a reference beside the entries, GUP for example. */
function* isHeldByMappings(page: Page): Kthread<boolean> {
  return (yield* readOnce(page.refcount)) === (yield* readOnce(page.mappings)).length;
}

/** collapse_huge_page, from where mmap_lock is held for writing. */
function* collapseLocked(
  k: MmKernel,
  mm: MmStruct,
  addr: number,
  huge: Page,
): Kthread<CollapseResult> {
  const vma = revalidate(mm, addr);
  if (vma === null) return 'vma-check';
  const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
  if (pmd === null) return 'pmd-null';
  const still = yield* readWord(pmd);
  // Somebody else was faster.
  if (isHuge(still)) return 'pmd-mapped';
  if (!isTable(still, Level.pmd)) return 'pmd-null';
  const lock = pmdLock(k, pmd);
  yield* spinLock(lock);
  const old = yield* call(pmdpCollapseFlush(k, mm, addr, pmd));
  yield* spinUnlock(lock);
  // The flush has made hardware forget the table. Now software walkers leave it.
  yield* call(k.fn.tlbRemoveTableSyncMm(k, mm));
  const table = pageOf(k, ptePfn(old));
  const pteLock = ptLock(k, entryOf(table.pfn, addr, Level.pte));
  yield* spinLock(pteLock);
  const isolated = yield* call(checkPages(k, table.pfn, addr));
  yield* spinUnlock(pteLock);
  if (isolated !== 'succeeded') {
    // The same table goes back: a walker that has it finds the entries that it would have found.
    yield* spinLock(lock);
    yield* writeWord(pmd, old);
    yield* spinUnlock(lock);
    return isolated;
  }
  yield* work('copyHugePage');
  yield* call(copySucceeded(k, mm, addr, table));
  huge.anonExclusive = true;
  yield* spinLock(lock);
  yield* call(addRmap(huge, mm, addr));
  deposit(mm, pmd, table);
  yield* writeWord(pmd, makePte(huge.pfn, flagsFor(vma, true) | Pte.huge));
  yield* spinUnlock(lock);
  return 'succeeded';
}

/**
 * Unhooks the table, and flushes its pages' translations: small ones, though it is a PMD that went.
 *
 * @kernel mm/pgtable-generic.c pmdp_collapse_flush
 */
function* pmdpCollapseFlush(k: Kernel, mm: MmStruct, addr: number, pmd: PhysAddr): Kthread<number> {
  const old = yield* xchgWord(pmd, 0);
  k.probe?.({ kind: 'unhook-table', mm, table: pageOf(k, ptePfn(old)) });
  yield* call(k.backend.flushTlbRange(k, mm, addr, addr + HPAGE_PMD_SIZE, PAGE_SHIFT));
  return old;
}

/** __collapse_huge_page_copy_succeeded: the table is emptied, and its pages go. */
function* copySucceeded(k: Kernel, mm: MmStruct, addr: number, table: Page): Kthread {
  const lock = ptLock(k, entryOf(table.pfn, addr, Level.pte));
  for (let n = 0; n < HPAGE_PMD_NR; n++) {
    const at = entryOf(table.pfn, addr + n * PAGE_SIZE, Level.pte);
    const pte = yield* readWord(at);
    if (pte === 0) continue;
    yield* spinLock(lock);
    yield* writeWord(at, 0);
    const page = ptePfn(pte) === ZERO_PFN ? null : pageOf(k, ptePfn(pte));
    if (page !== null) yield* call(removeRmap(page, mm, addr + n * PAGE_SIZE));
    yield* spinUnlock(lock);
    if (page !== null) yield* call(putPage(k, page));
  }
}

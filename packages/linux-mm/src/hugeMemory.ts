/**
 * Transparent huge pages: a PMD entry that maps 2 MiB, with a page table kept aside for the day it
 * is split.
 *
 * Follows mm/huge_memory.c. Not modelled: huge pages of files, PUD-sized pages.
 */
import {
  assert,
  atomicUpdate,
  call,
  makePte,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readOnce,
  readWord,
  updateWord,
  writeWord,
} from '@shootdown/machine';
import {
  __tlbRemovePageSize,
  allocPages,
  allocTable,
  alignDown,
  entryOf,
  freeTable,
  HPAGE_PMD_NR,
  HPAGE_PMD_ORDER,
  HPAGE_PMD_SIZE,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  type MmuGather,
  newPage,
  type Page,
  PAGE_SHIFT,
  pageOf,
  pmdLock,
  putPage,
  ptepGetAndClear,
  spinLock,
  spinUnlock,
  tableEntry,
  tlbChangePageSize,
  tlbFlushMmu,
  tlbRemovePmdTlbEntry,
  type VmArea,
  work,
} from '@shootdown/mmu-gather';
import { flagsFor } from './pteOf.ts';
import { addRmap, removeRmap } from './rmap.ts';

/** pgtable_trans_huge_deposit: the tables that wait under huge entries, newest last. */
const DEPOSITS = new WeakMap<MmStruct, Map<PhysAddr, Page[]>>();

/** Keeps `table` for the entry at `pmd`. Under the lock of the PMD. */
export function deposit(mm: MmStruct, pmd: PhysAddr, table: Page): void {
  let deposits = DEPOSITS.get(mm);
  if (deposits === undefined) {
    deposits = new Map();
    DEPOSITS.set(mm, deposits);
  }
  deposits.set(pmd, [...(deposits.get(pmd) ?? []), table]);
}

/** pgtable_trans_huge_withdraw. Under the lock of the PMD. */
export function withdraw(mm: MmStruct, pmd: PhysAddr): Page {
  const deposits = DEPOSITS.get(mm);
  const tables = deposits?.get(pmd) ?? [];
  const table = tables.pop();
  assert(table !== undefined, 'a huge entry has a table in deposit');
  if (tables.length === 0) deposits?.delete(pmd);
  return table;
}

/** Whether an entry maps a huge page. */
export const isHuge = (pmd: number): boolean => pteHas(pmd, Pte.present) && pteHas(pmd, Pte.huge);

/** Whether the 2 MiB around `addr` are inside `vma`: thp_vma_suitable_order. */
export const fitsHuge = (vma: VmArea, addr: number): boolean => {
  const start = alignDown(addr, Level.pmd);
  return start >= vma.start && start + HPAGE_PMD_SIZE <= vma.end;
};

/**
 * Maps a fresh huge page; false: there is none, try a small one.
 *
 * @kernel mm/huge_memory.c do_huge_pmd_anonymous_page
 */
export function* doHugePmdAnonymousPage(
  k: Kernel,
  vma: VmArea,
  addr: number,
  pmd: PhysAddr,
): Kthread<boolean> {
  const start = alignDown(addr, Level.pmd);
  const page = yield* call(
    allocPages(k, { gfp: 'GFP_KERNEL', purpose: 'thp_fault', order: HPAGE_PMD_ORDER }),
  );
  if (page === null) return false;
  const table = yield* call(allocTable(k, 'thp_fault', Level.pte));
  if (table === null) {
    yield* call(putPage(k, page));
    return false;
  }
  yield* work('clearHugePage');
  const lock = pmdLock(k, pmd);
  yield* spinLock(lock);
  const raced = (yield* readWord(pmd)) !== 0;
  if (!raced) {
    page.anonExclusive = true;
    yield* call(addRmap(page, vma.mm, start));
    deposit(vma.mm, pmd, table);
    yield* writeWord(pmd, makePte(page.pfn, flagsFor(vma, true) | Pte.huge));
  }
  yield* spinUnlock(lock);
  if (raced) {
    yield* call(freeTable(k, table));
    yield* call(putPage(k, page));
  }
  return !raced;
}

/**
 * Takes a huge page out; false: the entry has changed meanwhile.
 *
 * @kernel mm/huge_memory.c zap_huge_pmd
 */
export function* zapHugePmd(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  pmd: PhysAddr,
  addr: number,
): Kthread<boolean> {
  yield* call(tlbChangePageSize(k, tlb, HPAGE_PMD_SIZE));
  const lock = pmdLock(k, pmd);
  yield* spinLock(lock);
  if (!isHuge(yield* readWord(pmd))) {
    yield* spinUnlock(lock);
    return false;
  }
  // pmdp_huge_get_and_clear(): where clearing an entry invalidates it, it does so here too.
  const entry = yield* call(ptepGetAndClear(k, vma.mm, addr, pmd));
  k.probe?.({ kind: 'unmap-page', mm: vma.mm, addr, pfn: ptePfn(entry) });
  tlbRemovePmdTlbEntry(tlb, addr);
  const page = pageOf(k, ptePfn(entry));
  yield* call(removeRmap(page, vma.mm, addr));
  // The table in deposit was never reachable: no walker can be in it.
  const table = withdraw(vma.mm, pmd);
  yield* spinUnlock(lock);
  yield* call(freeTable(k, table));
  if (yield* call(__tlbRemovePageSize(k, tlb, page, false, HPAGE_PMD_SIZE)))
    yield* call(tlbFlushMmu(k, tlb));
  return true;
}

/**
 * Replaces a huge entry by 512 small ones that map the same frames. The old entry is made invalid
 * and flushed first: a CPU must not have translations of both sizes for one address.
 *
 * @kernel mm/huge_memory.c __split_huge_pmd_locked
 */
export function* splitHugePmd(k: Kernel, vma: VmArea, pmd: PhysAddr, addr: number): Kthread {
  const { mm } = vma;
  const start = alignDown(addr, Level.pmd);
  const lock = pmdLock(k, pmd);
  yield* spinLock(lock);
  if (!isHuge(yield* readWord(pmd))) {
    yield* spinUnlock(lock);
    return;
  }
  // pmdp_invalidate(): without the present bit, which software still takes for a huge page.
  const old = yield* updateWord(pmd, (entry) => entry - Pte.present);
  yield* call(k.backend.flushTlbRange(k, mm, start, start + HPAGE_PMD_SIZE, PAGE_SHIFT));
  const table = withdraw(mm, pmd);
  const head = pageOf(k, ptePfn(old));
  const flags = (old % PAGE_SIZE) - Pte.huge;
  yield* call(splitPage(k, head, mm, start));
  for (let n = 0; n < HPAGE_PMD_NR; n++)
    yield* writeWord(
      entryOf(table.pfn, start + n * PAGE_SIZE, Level.pte),
      makePte(head.pfn + n, flags),
    );
  yield* writeWord(pmd, tableEntry(table.pfn));
  yield* spinUnlock(lock);
}

/**
 * The mappings of the huge page by `mm` become 512. If nobody else maps it or holds a reference, it
 * becomes 512 pages of their own; else it stays whole, and every entry has a reference to it.
 *
 * Not modelled: that a folio always stays whole while its mapping is split, and is broken up later.
 */
function* splitPage(k: Kernel, head: Page, mm: MmStruct, start: number): Kthread {
  const small = Array.from({ length: HPAGE_PMD_NR }, (_, n) => ({
    mm,
    addr: start + n * PAGE_SIZE,
  }));
  // The entry was made invalid before: GUP-fast that gets a reference from here on lets it go.
  if ((yield* readOnce(head.refcount)) > 1) {
    yield* atomicUpdate(head.refcount, (count) => count + HPAGE_PMD_NR - 1);
    yield* call(removeRmap(head, mm, start));
    yield* atomicUpdate(head.mappings, (mappings) => [...mappings, ...small]);
    return;
  }
  k.pages.pages.delete(head.pfn);
  for (const [n, { addr }] of small.entries()) {
    const page = newPage(k, head.pfn + n);
    page.anonExclusive = head.anonExclusive;
    yield* call(addRmap(page, mm, addr));
  }
}

/**
 * hugetlb memory: 2 MiB pages of a file, mapped by PMD entries. Shared mappings map the pages of the
 * file itself. Private ones have pages of their own as soon as they write, and at once where the
 * file has none.
 *
 * Follows mm/hugetlb.c. Sharing of PMD tables is in hugetlbShare.ts, unmapping in hugetlbZap.ts.
 *
 * Not modelled: unmapping a child's pages so that its parent can copy when memory is short, pages
 * that are pinned when their process forks, mremap, migration and memory failure.
 */
import {
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
  writeOnce,
  writeWord,
} from '@shootdown/machine';
import {
  alignDown,
  allocPages,
  downRead,
  findEntry,
  getPage,
  HPAGE_PMD_NR,
  HPAGE_PMD_ORDER,
  type Kernel,
  type Kthread,
  Level,
  type MmuGather,
  type Page,
  PAGE_SHIFT,
  pageOf,
  PMD_SIZE,
  pmdLock,
  ptepGetAndClear,
  PUD_SIZE,
  putPage,
  spinLock,
  spinUnlock,
  tlbFlushMmuTlbonly,
  tlbRemovePmdTlbEntry,
  upRead,
  type VmArea,
  work,
} from '@shootdown/mmu-gather';
import { hugePageIndex, hugetlbFaultMutex, hugetlbFileOf, hugetlbVmaLock } from './hugetlbFile.ts';
import {
  flushHugetlbTlbRange,
  hugePmdUnshare,
  hugePmdUnshareFlush,
  hugePteAlloc,
  hugetlbLockWrite,
  hugetlbUnlockWrite,
} from './hugetlbShare.ts';
import type { FaultResult, ProtectionChange } from './mm.ts';
import { clearFlag, flagsFor, setFlag } from './pteOf.ts';
import { addRmap, removeRmap } from './rmap.ts';

/**
 * Maps the page of `addr`, or lets a private mapping write to it.
 *
 * @kernel mm/hugetlb.c hugetlb_fault
 * @throws UsageError ERR_WORKLOAD
 */
export function* hugetlbFault(
  k: Kernel,
  vma: VmArea,
  addr: number,
  write: boolean,
): Kthread<FaultResult> {
  const start = alignDown(addr, Level.pmd);
  const mutex = hugetlbFaultMutex(k, hugetlbFileOf(vma), hugePageIndex(vma, start));
  const lock = hugetlbVmaLock(k, vma);
  yield* spinLock(mutex);
  // Until the entry is done with: it may be in a table that another thread would let go.
  yield* downRead(lock);
  const result = yield* call(faultLocked(k, vma, start, write));
  yield* upRead(lock);
  yield* spinUnlock(mutex);
  return result;
}

function* faultLocked(k: Kernel, vma: VmArea, start: number, write: boolean): Kthread<FaultResult> {
  const pmd = yield* call(hugePteAlloc(k, vma, start));
  if (pmd === null) return 'oom';
  const seen = yield* readWord(pmd);
  if (seen === 0) return yield* call(hugetlbNoPage(k, vma, start, pmd, write));
  const lock = pmdLock(k, pmd);
  yield* spinLock(lock);
  let result: FaultResult = 'done';
  const same = (yield* readWord(pmd)) === seen;
  if (same && write && !pteHas(seen, Pte.write))
    result = yield* call(hugetlbWp(k, vma, start, pmd));
  yield* spinUnlock(lock);
  return result;
}

/** make_huge_pte */
const makeHugePte = (vma: VmArea, page: Page, writable: boolean): number =>
  makePte(page.pfn, flagsFor(vma, writable) | Pte.huge);

/** alloc_hugetlb_folio, and folio_zero_user or copy_user_large_folio; null without memory. */
function* allocHugetlbPage(
  k: Kernel,
  fill: 'clearHugePage' | 'copyHugePage',
): Kthread<Page | null> {
  const page = yield* call(
    allocPages(k, { gfp: 'GFP_KERNEL', purpose: 'alloc_hugetlb_folio', order: HPAGE_PMD_ORDER }),
  );
  if (page !== null) yield* work(fill);
  return page;
}

/**
 * The page, with a reference for the entry that will map it: the file's, or a new one, which is the
 * file's from now on if the mapping is shared. Null without memory.
 */
function* findOrAllocPage(k: Kernel, vma: VmArea, start: number): Kthread<Page | null> {
  const { pages } = hugetlbFileOf(vma);
  const index = hugePageIndex(vma, start);
  const frame = pages.get(index);
  if (frame !== undefined) {
    const cached = pageOf(k, frame);
    yield* call(getPage(cached));
    return cached;
  }
  const page = yield* call(allocHugetlbPage(k, 'clearHugePage'));
  if (page === null) return null;
  if (vma.flags.shared) {
    // hugetlb_add_to_page_cache(): the file's reference is the second one.
    yield* call(getPage(page));
    pages.set(index, page.pfn);
  } else page.anonExclusive = true;
  return page;
}

/** folio_test_anon: whether `page`, mapped at `addr`, is not the file's. */
const isAnon = (vma: VmArea, addr: number, page: Page): boolean =>
  hugetlbFileOf(vma).pages.get(hugePageIndex(vma, addr)) !== page.pfn;

/** @kernel mm/hugetlb.c hugetlb_no_page */
function* hugetlbNoPage(
  k: Kernel,
  vma: VmArea,
  start: number,
  pmd: PhysAddr,
  write: boolean,
): Kthread<FaultResult> {
  const { shared } = vma.flags;
  const page = yield* call(findOrAllocPage(k, vma, start));
  if (page === null) return 'oom';
  const lock = pmdLock(k, pmd);
  yield* spinLock(lock);
  if ((yield* readWord(pmd)) !== 0) {
    yield* spinUnlock(lock);
    yield* call(putPage(k, page));
    return 'done';
  }
  if (isAnon(vma, start, page)) yield* call(addRmap(page, vma.mm, start));
  yield* writeWord(pmd, makeHugePte(vma, page, shared));
  let result: FaultResult = 'done';
  // The copy without a second fault.
  if (write && !shared) result = yield* call(hugetlbWp(k, vma, start, pmd));
  yield* spinUnlock(lock);
  return result;
}

/** set_huge_ptep_writable: a read-only translation elsewhere only costs a fault. */
function* setHugePtepWritable(pmd: PhysAddr): Kthread {
  yield* updateWord(pmd, (entry) => setFlag(setFlag(entry, Pte.write), Pte.dirty));
}

/**
 * A write to an entry that does not allow it: nobody else has the page, or it is copied. Under the
 * lock of the table, which is dropped in between.
 *
 * @kernel mm/hugetlb.c hugetlb_wp
 */
function* hugetlbWp(k: Kernel, vma: VmArea, start: number, pmd: PhysAddr): Kthread<FaultResult> {
  const { mm } = vma;
  const seen = yield* readWord(pmd);
  const old = pageOf(k, ptePfn(seen));
  // Who maps it, not who refers to it: a page of the file is in no reverse mapping.
  const alone = (yield* readOnce(old.mappings)).length === 1;
  if (vma.flags.shared || alone) {
    if (alone) old.anonExclusive = true;
    yield* call(setHugePtepWritable(pmd));
    return 'done';
  }
  const lock = pmdLock(k, pmd);
  yield* call(getPage(old));
  yield* spinUnlock(lock);
  const page = yield* call(allocHugetlbPage(k, 'copyHugePage'));
  yield* spinLock(lock);
  const same = (yield* readWord(pmd)) === seen;
  if (page !== null && same) {
    page.anonExclusive = true;
    // Nobody may read the old page after somebody has written to the new one.
    yield* call(hugePtepClearFlush(k, vma, start, pmd));
    yield* call(removeRmap(old, mm, start));
    yield* call(addRmap(page, mm, start));
    yield* writeWord(pmd, makeHugePte(vma, page, true));
    // The reference of the entry that is gone.
    yield* call(putPage(k, old));
  } else if (page !== null) yield* call(putPage(k, page));
  yield* call(putPage(k, old));
  return page === null ? 'oom' : 'done';
}

/** huge_ptep_clear_flush: one address is enough for a translation of any size. */
function* hugePtepClearFlush(k: Kernel, vma: VmArea, start: number, pmd: PhysAddr): Kthread {
  const { mm } = vma;
  yield* call(ptepGetAndClear(k, mm, start, pmd));
  const end = start + PAGE_SIZE;
  const info = { mm, start, end, strideShift: PAGE_SHIFT, freedTables: false };
  yield* call(k.backend.flushTlbMmRange(k, info));
}

/** huge_pte_modify, with the protection that `vma` has now. */
function hugePteModify(vma: VmArea, entry: number, { read, write }: ProtectionChange): number {
  const readable = (read ? setFlag : clearFlag)(entry, Pte.user);
  // A private mapping finds out at its next write whether it may have the page.
  return (write && vma.flags.shared ? setFlag : clearFlag)(readable, Pte.write);
}

/**
 * Changes the protection of a range; gives how many small pages that concerns. A shared table is let
 * go instead, because the others keep their protection: its pages are faulted in again.
 *
 * Not modelled: the gather of its own that this function has in the back-ports to 6.1 and 6.12,
 * which nests in mprotect's and so flushes the whole mm once more.
 *
 * @kernel mm/hugetlb.c hugetlb_change_protection
 * @throws UsageError ERR_WORKLOAD
 */
export function* hugetlbChangeProtection(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  protection: ProtectionChange,
): Kthread<number> {
  const { mm } = vma;
  const { start, end } = protection;
  let pages = 0;
  // What to flush, in whole tables where they are let go: as adjust_range_if_pmd_sharing_possible().
  let from = start;
  let to = end;
  yield* call(hugetlbLockWrite(k, vma));
  for (let addr = start; addr < end;) {
    const base = alignDown(addr, Level.pud);
    const nextPud = base + PUD_SIZE;
    const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
    if (pmd === null) {
      addr = nextPud;
      continue;
    }
    const lock = pmdLock(k, pmd);
    yield* spinLock(lock);
    if (yield* call(hugePmdUnshare(k, tlb, vma, addr, pmd))) {
      yield* spinUnlock(lock);
      from = Math.min(from, base);
      to = Math.max(to, nextPud);
      pages++;
      addr = nextPud;
      continue;
    }
    if ((yield* readWord(pmd)) !== 0) {
      // huge_ptep_modify_prot_start() and _commit()
      const old = yield* call(ptepGetAndClear(k, mm, addr, pmd));
      yield* writeWord(pmd, hugePteModify(vma, old, protection));
      if (k.rules.unshareInGather) tlbRemovePmdTlbEntry(tlb, addr);
      pages++;
    }
    yield* spinUnlock(lock);
    addr += PMD_SIZE;
  }
  if (k.rules.unshareInGather) {
    yield* call(tlbFlushMmuTlbonly(k, tlb));
    yield* call(hugePmdUnshareFlush(k, tlb, vma));
  } else yield* call(flushHugetlbTlbRange(k, vma, from, to));
  yield* call(hugetlbUnlockWrite(k, vma));
  return pages * HPAGE_PMD_NR;
}

/**
 * fork: gives a child what its parent maps privately, to be copied when one of them writes. Shared
 * mappings need no copy: what is in the file is faulted in. False without memory.
 *
 * @kernel mm/hugetlb.c copy_hugetlb_page_range
 * @throws UsageError ERR_WORKLOAD
 */
export function* copyHugetlbPageRange(k: Kernel, to: VmArea, from: VmArea): Kthread<boolean> {
  const { mm } = from;
  const { writeProtectSeq } = mm;
  // Odd: GUP-fast that pins pages gives up, because they may be shared by the time it looks again.
  yield* writeOnce(writeProtectSeq, writeProtectSeq.value + 1);
  let enough = true;
  for (let addr = from.start; enough && addr < from.end;) {
    const source = yield* call(findEntry(k, mm, addr, Level.pmd));
    if (source === null) addr = alignDown(addr, Level.pud) + PUD_SIZE;
    else {
      const target = yield* call(hugePteAlloc(k, to, addr));
      if (target === null) enough = false;
      else yield* call(copyHugePte(k, to, addr, source, target));
      addr += PMD_SIZE;
    }
  }
  yield* atomicUpdate(writeProtectSeq, (seq) => seq + 1);
  return enough;
}

function* copyHugePte(
  k: Kernel,
  to: VmArea,
  addr: number,
  source: PhysAddr,
  target: PhysAddr,
): Kthread {
  const targetLock = pmdLock(k, target);
  const sourceLock = pmdLock(k, source);
  yield* spinLock(targetLock);
  yield* spinLock(sourceLock);
  const entry = yield* readWord(source);
  if (entry !== 0) {
    const page = pageOf(k, ptePfn(entry));
    yield* call(getPage(page));
    if (isAnon(to, addr, page)) {
      yield* call(addRmap(page, to.mm, addr));
      page.anonExclusive = false;
    }
    // huge_ptep_set_wrprotect(): locked, because hardware may be setting the dirty bit.
    yield* updateWord(source, (now) => clearFlag(now, Pte.write));
    yield* writeWord(target, clearFlag(entry, Pte.write));
  }
  yield* spinUnlock(sourceLock);
  yield* spinUnlock(targetLock);
}

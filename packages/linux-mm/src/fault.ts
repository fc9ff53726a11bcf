/**
 * Page faults: what an access finds missing is put there.
 *
 * Follows mm/memory.c. Not modelled: per-VMA locks (faults take mmap_lock for reading), files beside
 * hugetlb, the huge zero page, userfaultfd, NUMA hinting, stacks that grow.
 */
import {
  call,
  makePte,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readOnce,
  readWord,
  updateWord,
  walk,
  writeWord,
} from '@shootdown/machine';
import {
  allocEntry,
  allocPages,
  currentTask,
  downRead,
  entryOf,
  getPage,
  isMigrationPte,
  isTable,
  isVmHugetlb,
  isAnonymous,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  type Page,
  PAGE_SHIFT,
  pageOf,
  pmdLock,
  ptepGetAndClear,
  putPage,
  type SpinLock,
  spinLock,
  spinUnlock,
  swapOffset,
  tracePageFault,
  upRead,
  type VmArea,
  work,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { PAGE_SIZE } from '@shootdown/machine';
import { doHugePmdAnonymousPage, fitsHuge, isHuge, splitHugePmd } from './hugeMemory.ts';
import { hugetlbFault } from './hugetlb.ts';
import { enterFromUserMode, exitToUserMode } from './entry.ts';
import type { FaultResult, MmKernel } from './mm.ts';
import { flagsFor, setFlag } from './pteOf.ts';
import { pteOffsetMapLock } from './pagewalk.ts';
import { addRmap, removeRmap } from './rmap.ts';
import { doSwapPage } from './swapIn.ts';
import { vmaLookup } from './vma.ts';

/** Bits of the error code that the CPU gives: protection, write, user. */
const PF_PROT = 1;
const PF_WRITE = 2;
const PF_USER = 4;

/** Whether the entry that the access would use is there; as the CPU finds it, so without a step. */
function isProtection(k: Kernel, mm: MmStruct, addr: number): boolean {
  const steps = walk(k.machine.physical, mm.pgd, k.machine.levels, addr);
  const { pte = 0 } = steps.at(-1) ?? {};
  // Without the user bit: _PAGE_PROTNONE, which is not present for the CPU.
  return pteHas(pte, Pte.present) && pteHas(pte, Pte.user);
}

/**
 * The page-fault exception of a user access; false: SIGSEGV, or no memory.
 *
 * @kernel arch/x86/mm/fault.c do_user_addr_fault
 */
export function* doUserAddrFault(k: MmKernel, addr: number, write: boolean): Kthread<FaultResult> {
  const task = currentTask(k);
  const { mm, syscall } = task;
  if (mm === null) return 'sigsegv';
  const code = (isProtection(k, mm, addr) ? PF_PROT : 0) + (write ? PF_WRITE : 0) + PF_USER;
  yield* call(enterFromUserMode(k));
  task.syscall = 'page_fault';
  tracePageFault(k, addr, code);
  k.stats.vmstat.pgfault++;
  let result: FaultResult = 'retry';
  while (result === 'retry') {
    yield* downRead(mm.mmapLock);
    const vma = vmaLookup(mm, addr);
    // access_error(): what may be written may be read, too.
    const allowed = vma !== null && (vma.flags.write || (!write && vma.flags.read));
    result = allowed ? yield* call(handleMmFault(k, vma, addr, write)) : 'sigsegv';
    yield* upRead(mm.mmapLock);
  }
  task.syscall = syscall;
  yield* call(exitToUserMode(k));
  return result;
}

/** @kernel mm/memory.c __handle_mm_fault */
export function* handleMmFault(
  k: MmKernel,
  vma: VmArea,
  addr: number,
  write: boolean,
): Kthread<FaultResult> {
  if (isVmHugetlb(vma)) return yield* call(hugetlbFault(k, vma, addr, write));
  const pmd = yield* call(allocEntry(k, vma.mm, addr, Level.pmd));
  if (pmd === null) return 'oom';
  const entry = yield* readWord(pmd);
  if (entry === 0 && write && isAnonymous(vma) && vma.flags.hugepage && fitsHuge(vma, addr))
    if (yield* call(doHugePmdAnonymousPage(k, vma, addr, pmd))) return 'done';
  if (isHuge(entry)) return yield* call(hugePmdFault(k, vma, addr, pmd, write));
  if (entry !== 0 && !isTable(entry, Level.pmd)) {
    // It is being split: that ends under the lock.
    const lock = pmdLock(k, pmd);
    yield* spinLock(lock);
    yield* spinUnlock(lock);
    return 'retry';
  }
  const address = pageStart(addr);
  const pte = yield* call(allocEntry(k, vma.mm, address, Level.pte));
  // No memory for a table, or a huge page has come in between.
  if (pte === null) return (yield* readWord(pmd)) === 0 ? 'oom' : 'retry';
  return yield* call(handlePteFault(k, { vma, address, pmd, pte, write }));
}

/** do_huge_pmd_wp_page: whoever owns it alone may write; else it is split, and a small page copied. */
function* hugePmdFault(
  k: Kernel,
  vma: VmArea,
  addr: number,
  pmd: PhysAddr,
  write: boolean,
): Kthread<FaultResult> {
  const lock = pmdLock(k, pmd);
  yield* spinLock(lock);
  const entry = yield* readWord(pmd);
  const needsWrite = write && !pteHas(entry, Pte.write);
  const page = isHuge(entry) && needsWrite ? pageOf(k, ptePfn(entry)) : null;
  const reuse = page !== null && (page.anonExclusive || (yield* readOnce(page.refcount)) === 1);
  if (page !== null && reuse) {
    page.anonExclusive = true;
    yield* updateWord(pmd, (now) => setFlag(setFlag(now, Pte.write), Pte.dirty));
  }
  yield* spinUnlock(lock);
  if (!isHuge(entry)) return 'retry';
  if (!needsWrite || reuse) return 'done';
  yield* call(splitHugePmd(k, vma, pmd, addr));
  return 'retry';
}

/** struct vm_fault: a fault whose page tables are there. */
export interface VmFault {
  readonly vma: VmArea;
  /** Of the page. */
  readonly address: number;
  readonly pmd: PhysAddr;
  readonly pte: PhysAddr;
  readonly write: boolean;
}

/**
 * Locks the page table of a fault; null: it is not the table of that range any more, because its
 * range was cleared meanwhile and an empty table is freed (PT_RECLAIM). Then the fault is tried again.
 */
export function* lockFault(k: Kernel, { address, pmd, pte }: VmFault): Kthread<SpinLock | null> {
  const locked = yield* call(pteOffsetMapLock(k, pmd));
  if (locked === null) return null;
  if (entryOf(locked.table, address, Level.pte) === pte) return locked.lock;
  yield* spinUnlock(locked.lock);
  return null;
}

/** @kernel mm/memory.c handle_pte_fault */
function* handlePteFault(k: MmKernel, vmf: VmFault): Kthread<FaultResult> {
  const seen = yield* readWord(vmf.pte);
  if (seen === 0) return yield* call(doAnonymousPage(k, vmf));
  if (!pteHas(seen, Pte.present)) {
    if (isMigrationPte(seen)) return yield* call(migrationEntryWait(k, seen));
    return yield* call(doSwapPage(k, vmf, seen));
  }
  const lock = yield* call(lockFault(k, vmf));
  if (lock === null) return 'retry';
  const now = yield* readWord(vmf.pte);
  if (now !== seen || !vmf.write || pteHas(now, Pte.write)) {
    yield* spinUnlock(lock);
    // Changed meanwhile, or somebody else was faster: the access is tried again.
    return 'done';
  }
  return yield* call(k.fn.doWpPage(k, vmf, lock));
}

/** migration_entry_wait: until the page has arrived. */
function* migrationEntryWait(k: Kernel, pte: number): Kthread<FaultResult> {
  const page = k.pages.pages.get(swapOffset(pte));
  if (page !== undefined) {
    yield* spinLock(page.lock);
    yield* spinUnlock(page.lock);
  }
  return 'done';
}

/** A page with zeroes in it; null without memory. */
function* allocZeroed(k: Kernel, purpose: string): Kthread<Page | null> {
  const page = yield* call(allocPages(k, { gfp: 'GFP_KERNEL', purpose }));
  if (page !== null) {
    yield* work('clearUserPage');
    page.anonExclusive = true;
  }
  return page;
}

/** @kernel mm/memory.c do_anonymous_page */
function* doAnonymousPage(k: MmKernel, vmf: VmFault): Kthread<FaultResult> {
  const { vma, address, pte, write } = vmf;
  const page = write ? yield* call(allocZeroed(k, 'do_anonymous_page')) : null;
  if (write && page === null) return 'oom';
  const lock = yield* call(lockFault(k, vmf));
  const free = lock !== null && (yield* readWord(pte)) === 0;
  if (free && page !== null) {
    yield* call(addRmap(page, vma.mm, address));
    yield* call(k.fn.folioAddLru(k, page));
    yield* writeWord(pte, makePte(page.pfn, flagsFor(vma, true)));
  } else if (free) yield* writeWord(pte, makePte(ZERO_PFN, flagsFor(vma, false)));
  if (lock !== null) yield* spinUnlock(lock);
  if (!free && page !== null) yield* call(putPage(k, page));
  return lock === null ? 'retry' : 'done';
}

const pageStart = (addr: number): number => Math.floor(addr / PAGE_SIZE) * PAGE_SIZE;

/**
 * A write to a page that is mapped read-only, with the page-table lock held: whoever has the page
 * alone may write to it, everybody else gets a copy.
 *
 * @kernel mm/memory.c do_wp_page
 */
export function* doWpPage(k: MmKernel, vmf: VmFault, lock: SpinLock): Kthread<FaultResult> {
  const entry = yield* readWord(vmf.pte);
  const old = ptePfn(entry) === ZERO_PFN ? null : pageOf(k, ptePfn(entry));
  // wp_page_shared(): sharing is what it is for.
  const { shared } = vmf.vma.flags;
  if (old !== null && (shared || (yield* call(isReusable(k, old))))) {
    if (!shared) old.anonExclusive = true;
    // wp_page_reuse(): a stale read-only translation elsewhere only costs a fault.
    yield* updateWord(vmf.pte, (now) => setFlag(setFlag(now, Pte.write), Pte.dirty));
    yield* spinUnlock(lock);
    return 'done';
  }
  // Held while it is copied: else it could go, and come back as another page at the same entry.
  if (old !== null) yield* call(getPage(old));
  yield* spinUnlock(lock);
  const result = yield* call(wpPageCopy(k, vmf, entry, old));
  if (old !== null) yield* call(putPage(k, old));
  return result;
}

/** PageAnonExclusive, or wp_can_reuse_anon_folio, which does not ask a part of a huge page. */
function* isReusable(k: MmKernel, page: Page): Kthread<boolean> {
  const { anonExclusive, order, refcount } = page;
  if (anonExclusive) return true;
  if (order > 0) return false;
  // It may be in a batch, perhaps of this CPU.
  yield* call(k.fn.lruAddDrain(k));
  return (yield* readOnce(refcount)) === 1;
}

/** @kernel mm/memory.c wp_page_copy */
function* wpPageCopy(
  k: MmKernel,
  vmf: VmFault,
  seen: number,
  old: Page | null,
): Kthread<FaultResult> {
  const { vma, address, pte } = vmf;
  const page = yield* call(allocPages(k, { gfp: 'GFP_KERNEL', purpose: 'wp_page_copy' }));
  if (page === null) return 'oom';
  page.anonExclusive = true;
  yield* work(old === null ? 'clearUserPage' : 'copyPage');
  const lock = yield* call(lockFault(k, vmf));
  const same = lock !== null && ptePfn(yield* readWord(pte)) === ptePfn(seen);
  if (same) {
    // The old translation goes everywhere before the new one can be used: no CPU may read the old
    // page after another has written to the new one.
    yield* call(ptepClearFlush(k, vma.mm, address, pte));
    yield* call(addRmap(page, vma.mm, address));
    yield* call(k.fn.folioAddLru(k, page));
    yield* writeWord(pte, makePte(page.pfn, flagsFor(vma, true)));
    if (old !== null) yield* call(removeRmap(old, vma.mm, address));
  }
  if (lock !== null) yield* spinUnlock(lock);
  if (!same) yield* call(putPage(k, page));
  else if (old !== null) yield* call(putPage(k, old));
  return lock === null ? 'retry' : 'done';
}

/** ptep_clear_flush: clears an entry, and the translations of it everywhere. */
export function* ptepClearFlush(
  k: Kernel,
  mm: MmStruct,
  addr: number,
  pte: PhysAddr,
): Kthread<number> {
  const old = yield* call(ptepGetAndClear(k, mm, addr, pte));
  // pte_accessible(): what was not present is in no TLB.
  if (pteHas(old, Pte.present)) yield* call(flushTlbPage(k, mm, addr));
  return old;
}

/** flush_tlb_page: one page, and no table has gone. */
export const flushTlbPage = (k: Kernel, mm: MmStruct, addr: number): Kthread => {
  const end = addr + PAGE_SIZE;
  const info = { mm, start: addr, end, strideShift: PAGE_SHIFT, freedTables: false };
  return k.backend.flushTlbMmRange(k, info);
};

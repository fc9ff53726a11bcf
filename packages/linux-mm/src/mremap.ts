/**
 * mremap to another address: entries move from table to table.
 *
 * Follows mm/mremap.c. Not modelled: growing and shrinking, moving whole tables at once.
 */
import {
  call,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readWord,
  writeWord,
} from '@shootdown/machine';
import {
  addrEnd,
  allocEntry,
  downWrite,
  entryOf,
  findEntry,
  isTable,
  isVmHugetlb,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  PAGE_SHIFT,
  pageOf,
  ptepGetAndClear,
  ptLock,
  spinLock,
  spinUnlock,
  taskSize,
  upWrite,
  type VmArea,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { flushTlbBatchedPending } from './batched.ts';
import { isHuge, splitHugePmd } from './hugeMemory.ts';
import { Errno, type MmKernel } from './mm.ts';
import { pageAlign, unmapRegion } from './mmap.ts';
import { addRmap, removeRmap } from './rmap.ts';
import { mergeAround, vmaLookup, vmasIn } from './vma.ts';
import { isolateVmas, linkVma, unlinkVmas } from './vmaChanges.ts';

/**
 * Moves a range to `to`, where nothing may be mapped (MREMAP_MAYMOVE | MREMAP_FIXED); gives `to`, or
 * -EFAULT where the range is not in one VMA, -EINVAL, -EEXIST, -ENOMEM.
 *
 * @kernel mm/mremap.c mremap_to
 */
export function* doMremap(
  k: MmKernel,
  mm: MmStruct,
  from: number,
  length: number,
  to: number,
): Kthread<number> {
  const size = pageAlign(length);
  if (from % PAGE_SIZE !== 0 || to % PAGE_SIZE !== 0 || size === 0) return Errno.EINVAL;
  if (to < 0 || to + size > taskSize(k)) return Errno.EINVAL;
  if (from < to + size && to < from + size) return Errno.EINVAL;
  yield* downWrite(mm.mmapLock);
  const result = yield* call(moveVma(k, mm, from, size, to));
  yield* upWrite(mm.mmapLock);
  return result;
}

/** @kernel mm/mremap.c move_vma */
function* moveVma(
  k: MmKernel,
  mm: MmStruct,
  from: number,
  size: number,
  to: number,
): Kthread<number> {
  const whole = vmaLookup(mm, from);
  if (whole === null || from + size > whole.end) return Errno.EFAULT;
  // Not modelled: moving hugetlb mappings.
  if (isVmHugetlb(whole)) return Errno.EINVAL;
  if (vmasIn(mm, to, to + size).length > 0) return Errno.EEXIST;
  const [vma] = yield* call(isolateVmas(k, mm, from, from + size));
  if (vma === undefined) return Errno.EFAULT;
  const { flags, file, offset } = vma;
  const place = { start: to, end: to + size, flags, file, offset, alone: true };
  const moved = yield* call(linkVma(mm, place));
  const reached = yield* call(movePageTables(k, vma, from, from + size, to - from));
  if (reached < from + size) {
    // Back again: the tables of the old place are there still. Then the new one goes.
    yield* call(movePageTables(k, moved, to, reached + to - from, from - to));
    yield* call(unlinkVmas(mm, [moved]));
    yield* call(unmapRegion(k, mm, [moved]));
    mergeAround(vma);
    return Errno.ENOMEM;
  }
  // The old place is unmapped as by munmap: its tables go.
  yield* call(unlinkVmas(mm, [vma]));
  yield* call(unmapRegion(k, mm, [vma]));
  mergeAround(moved);
  return to;
}

/**
 * In parts that are in one page table each, here and there; gives how far it came.
 *
 * @kernel mm/mremap.c move_page_tables
 */
function* movePageTables(
  k: MmKernel,
  vma: VmArea,
  from: number,
  end: number,
  by: number,
): Kthread<number> {
  for (let addr = from, next = from; addr < end; addr = next) {
    const there = addrEnd(addr + by, end + by, Level.pmd) - by;
    next = Math.min(addrEnd(addr, end, Level.pmd), there);
    if (!(yield* call(movePtes(k, vma, addr, next, by)))) return addr;
  }
  return end;
}

/**
 * Moves entries of one PTE table to another; false: no memory for that. Both locks are held, so
 * that reverse mapping finds the page in one place or the other; the flush comes before they go,
 * because whoever takes the old one next relies on there being no translation.
 *
 * @kernel mm/mremap.c move_ptes
 */
function* movePtes(
  k: MmKernel,
  vma: VmArea,
  start: number,
  end: number,
  by: number,
): Kthread<boolean> {
  const { mm } = vma;
  const pmd = yield* call(findEntry(k, mm, start, Level.pmd));
  if (pmd === null) return true;
  if (isHuge(yield* readWord(pmd))) yield* call(splitHugePmd(k, vma, pmd, start));
  const entry = yield* readWord(pmd);
  if (!isTable(entry, Level.pmd)) return true;
  const oldLock = ptLock(k, entryOf(ptePfn(entry), start, Level.pte));
  // alloc_new_pmd() and pte_alloc(), before the locks.
  const first = yield* call(allocEntry(k, mm, start + by, Level.pte));
  if (first === null) return false;
  const newLock = ptLock(k, first);
  yield* spinLock(oldLock);
  if (newLock !== oldLock) yield* spinLock(newLock);
  let forceFlush = false;
  yield* call(flushTlbBatchedPending(k, mm));
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const at = entryOf(ptePfn(entry), addr, Level.pte);
    if ((yield* readWord(at)) === 0) continue;
    const pte = yield* call(ptepGetAndClear(k, mm, addr, at));
    if (pteHas(pte, Pte.present)) forceFlush = true;
    yield* writeWord(entryOf(tableOf(first), addr + by, Level.pte), pte);
    yield* call(moveRmap(k, mm, pte, addr, addr + by));
  }
  if (forceFlush) yield* call(k.backend.flushTlbRange(k, mm, start, end, PAGE_SHIFT));
  if (newLock !== oldLock) yield* spinUnlock(newLock);
  yield* spinUnlock(oldLock);
  return true;
}

const tableOf = (entry: PhysAddr): number => Math.floor(entry / PAGE_SIZE);

function* moveRmap(k: Kernel, mm: MmStruct, pte: number, from: number, to: number): Kthread {
  if (!pteHas(pte, Pte.present) || ptePfn(pte) === ZERO_PFN) return;
  const page = pageOf(k, ptePfn(pte));
  yield* call(removeRmap(page, mm, from));
  yield* call(addRmap(page, mm, to));
}

/**
 * get_user_pages: what GUP-fast could not get is faulted in under mmap_lock and got there.
 *
 * Follows gup_fast_fallback() and __get_user_pages() of mm/gup.c.
 */
import { call, PAGE_SIZE, Pte, pteHas, ptePfn, readWord } from '@shootdown/machine';
import {
  currentTask,
  downRead,
  entryOf,
  findEntry,
  getPage,
  type Kthread,
  Level,
  type MmStruct,
  pageOf,
  pmdLock,
  spinLock,
  spinUnlock,
  upRead,
} from '@shootdown/mmu-gather';
import { handleMmFault } from './fault.ts';
import { gupFast, type GupRange } from './gup.ts';
import { isHuge } from './hugeMemory.ts';
import type { MmKernel } from './mm.ts';
import { pteOffsetMapLock } from './pagewalk.ts';
import { vmaLookup } from './vma.ts';

/** Gets pages from `start` on, without a lock as far as that goes; gives how many. */
export function* getUserPages(k: MmKernel, range: GupRange): Kthread<number> {
  const { mm } = currentTask(k);
  if (mm === null) return 0;
  const fast = yield* call(gupFast(k, range));
  for (let addr = range.start + fast * PAGE_SIZE; addr < range.end; addr += PAGE_SIZE) {
    yield* downRead(mm.mmapLock);
    const got = yield* call(faultIn(k, mm, range, addr));
    yield* upRead(mm.mmapLock);
    if (!got) break;
  }
  return range.pages.length;
}

/** One page, under mmap_lock; false: nothing is mapped there, or no memory is left. */
function* faultIn(k: MmKernel, mm: MmStruct, range: GupRange, addr: number): Kthread<boolean> {
  const vma = vmaLookup(mm, addr);
  // check_vma_flags(): what may not be accessed is not got either, though a page may be there.
  if (vma === null || !(range.write ? vma.flags.write : vma.flags.read)) return false;
  for (;;) {
    if (yield* call(followPage(k, mm, range, addr))) return true;
    const result = yield* call(handleMmFault(k, vma, addr, range.write));
    if (result !== 'done' && result !== 'retry') return false;
  }
}

/** @kernel mm/gup.c follow_page_mask */
function* followPage(k: MmKernel, mm: MmStruct, range: GupRange, addr: number): Kthread<boolean> {
  const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
  if (pmd === null) return false;
  const huge = isHuge(yield* readWord(pmd));
  const locked = huge ? null : yield* call(pteOffsetMapLock(k, pmd));
  if (!huge && locked === null) return false;
  const at = locked === null ? pmd : entryOf(locked.table, addr, Level.pte);
  const lock = locked === null ? pmdLock(k, pmd) : locked.lock;
  if (huge) yield* spinLock(lock);
  const entry = yield* readWord(at);
  const found =
    isHuge(entry) === huge &&
    pteHas(entry, Pte.present) &&
    (!range.write || pteHas(entry, Pte.write));
  if (found) {
    const page = pageOf(k, ptePfn(entry));
    yield* call(getPage(page));
    range.pages.push(page);
  }
  yield* spinUnlock(lock);
  return found;
}

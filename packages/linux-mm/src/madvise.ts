/**
 * madvise: DONTNEED, PAGEOUT, COLLAPSE, HUGEPAGE and NOHUGEPAGE.
 *
 * Follows mm/madvise.c.
 */
import { call, PAGE_SIZE } from '@shootdown/machine';
import {
  downRead,
  downWrite,
  HPAGE_PMD_SIZE,
  isAnonymous,
  type Kthread,
  type MmStruct,
  upRead,
  upWrite,
  type VmArea,
} from '@shootdown/mmu-gather';
import { fitsHuge } from './hugeMemory.ts';
import { type CollapseResult, Errno, type MmKernel } from './mm.ts';
import { maySplit, pageAlign } from './mmap.ts';
import { isMapped, mergeAround, vmasIn } from './vma.ts';
import { isolateVmas } from './vmaChanges.ts';
import { reclaimPageRange } from './vmscan.ts';
import { zapPageRangeSingle } from './zap.ts';

/** MADV_ values, as a recording shows them. */
export const Madvise = {
  DONTNEED: 4,
  HUGEPAGE: 14,
  NOHUGEPAGE: 15,
  PAGEOUT: 21,
  COLLAPSE: 25,
} as const;

/** One of them. */
export type MadviseBehavior = (typeof Madvise)[keyof typeof Madvise];

/**
 * 0, or -EINVAL for what is no range or cannot be advised, -ENOMEM where something in it is not
 * mapped, -EAGAIN where pages could not be collapsed now.
 *
 * @kernel mm/madvise.c do_madvise
 */
export function* doMadvise(
  k: MmKernel,
  mm: MmStruct,
  start: number,
  length: number,
  behavior: MadviseBehavior,
): Kthread<number> {
  const end = start + pageAlign(length);
  if (start < 0 || start % PAGE_SIZE !== 0 || end < start) return Errno.EINVAL;
  if (end === start) return 0;
  if (behavior === Madvise.HUGEPAGE || behavior === Madvise.NOHUGEPAGE) {
    yield* downWrite(mm.mmapLock);
    const mapped = isMapped(mm, start, end);
    const hugepage = behavior === Madvise.HUGEPAGE;
    const vmas = yield* call(isolateVmas(k, mm, start, end));
    for (const vma of vmas) vma.flags = { ...vma.flags, hugepage };
    for (const vma of vmas) if (mm.vmas.includes(vma)) mergeAround(vma);
    yield* upWrite(mm.mmapLock);
    return mapped ? 0 : Errno.ENOMEM;
  }
  if (behavior === Madvise.COLLAPSE) {
    yield* call(k.fn.lruAddDrainAll(k));
    return yield* call(collapseAll(k, mm, start, end));
  }
  yield* call(k.fn.lruAddDrain(k));
  yield* downRead(mm.mmapLock);
  if (!maySplit(mm, start, end)) {
    yield* upRead(mm.mmapLock);
    return Errno.EINVAL;
  }
  let result: number = isMapped(mm, start, end) ? 0 : Errno.ENOMEM;
  for (const vma of vmasIn(mm, start, end)) {
    if (!mayAdvise(vma, behavior)) {
      result = Errno.EINVAL;
      break;
    }
    const from = Math.max(start, vma.start);
    const to = Math.min(end, vma.end);
    if (behavior === Madvise.DONTNEED)
      yield* call(zapPageRangeSingle(k, vma, from, to, { reclaimPt: true }));
    else yield* call(reclaimPageRange(k, vma, from, to));
  }
  yield* upRead(mm.mmapLock);
  return result;
}

/** madvise_dontneed_free_valid_vma, can_madv_lru_vma. */
const mayAdvise = ({ flags }: VmArea, behavior: MadviseBehavior): boolean =>
  !flags.pfnmap && !(flags.hugetlb && behavior === Madvise.PAGEOUT);

/** A part of one VMA. */
interface Part {
  readonly from: number;
  readonly to: number;
  /** Whether the VMA has room for a huge page at all: thp_vma_allowable_order. */
  readonly suits: boolean;
}

/** VMA by VMA, which may change meanwhile: the lock is dropped for every huge page. */
function* collapseAll(k: MmKernel, mm: MmStruct, start: number, end: number): Kthread<number> {
  yield* downRead(mm.mmapLock);
  const mapped = isMapped(mm, start, end);
  const parts = vmasIn(mm, start, end).map((vma): Part => {
    const suits = isAnonymous(vma) && fitsHuge(vma, vma.end - HPAGE_PMD_SIZE);
    return { from: Math.max(start, vma.start), to: Math.min(end, vma.end), suits };
  });
  yield* upRead(mm.mmapLock);
  for (const part of parts) {
    const error = yield* call(madviseCollapse(k, mm, part));
    if (error !== 0) return error;
  }
  return mapped ? 0 : Errno.ENOMEM;
}

/** @kernel mm/khugepaged.c madvise_collapse */
function* madviseCollapse(k: MmKernel, mm: MmStruct, { from, to, suits }: Part): Kthread<number> {
  if (!suits) return Errno.EINVAL;
  let error: number = 0;
  const first = Math.ceil(from / HPAGE_PMD_SIZE) * HPAGE_PMD_SIZE;
  for (let addr = first; addr + HPAGE_PMD_SIZE <= to; addr += HPAGE_PMD_SIZE) {
    const result = yield* call(k.fn.collapseHugePage(k, mm, addr));
    if (result === 'succeeded' || result === 'pmd-mapped') continue;
    error = madviseCollapseErrno(result);
    if (result === 'alloc-huge-page-fail' || result === 'vma-check') break;
  }
  return error;
}

/** madvise_collapse_errno: what may be different the next time is -EAGAIN. */
function madviseCollapseErrno(result: CollapseResult): number {
  if (result === 'alloc-huge-page-fail') return Errno.ENOMEM;
  return result === 'page-count' ? Errno.EAGAIN : Errno.EINVAL;
}

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
} from '@shootdown/mmu-gather';
import { fitsHuge } from './hugeMemory.ts';
import { Errno, type MmKernel } from './mm.ts';
import { maySplit, pageAlign } from './mmap.ts';
import { isMapped, mergeAround, vmaLookup, vmasIn } from './vma.ts';
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
  if (behavior === Madvise.COLLAPSE) return yield* call(madviseCollapse(k, mm, start, end));
  yield* downRead(mm.mmapLock);
  if (!maySplit(mm, start, end)) {
    yield* upRead(mm.mmapLock);
    return Errno.EINVAL;
  }
  const result = isMapped(mm, start, end) ? 0 : Errno.ENOMEM;
  for (const vma of vmasIn(mm, start, end)) {
    const from = Math.max(start, vma.start);
    const to = Math.min(end, vma.end);
    if (behavior === Madvise.DONTNEED)
      yield* call(zapPageRangeSingle(k, vma, from, to, { reclaimPt: true }));
    else yield* call(reclaimPageRange(k, vma, from, to));
  }
  yield* upRead(mm.mmapLock);
  return result;
}

/** @kernel mm/khugepaged.c madvise_collapse */
function* madviseCollapse(k: MmKernel, mm: MmStruct, start: number, end: number): Kthread<number> {
  let failed = 0;
  const first = Math.ceil(start / HPAGE_PMD_SIZE) * HPAGE_PMD_SIZE;
  for (let addr = first; addr + HPAGE_PMD_SIZE <= end; addr += HPAGE_PMD_SIZE) {
    const vma = vmaLookup(mm, addr);
    if (vma === null || !isAnonymous(vma) || !fitsHuge(vma, addr)) return Errno.EINVAL;
    const result = yield* call(k.fn.collapseHugePage(k, mm, addr));
    if (result === 'alloc-huge-page-fail') return Errno.ENOMEM;
    if (result !== 'succeeded' && result !== 'pmd-mapped') failed++;
  }
  return failed === 0 ? 0 : Errno.EAGAIN;
}

/**
 * mmap and munmap.
 *
 * Follows mm/mmap.c and mm/vma.c.
 */
import { call, PAGE_SIZE } from '@shootdown/machine';
import {
  downgradeWrite,
  downWrite,
  isVmHugetlb,
  type Kernel,
  type Kthread,
  type MmStruct,
  PMD_SIZE,
  taskSize,
  tlbGatherMmu,
  upRead,
  upWrite,
  type VmArea,
} from '@shootdown/mmu-gather';
import { freePgtables } from './freePgtables.ts';
import { Errno } from './mm.ts';
import { type NewVma, unmappedArea, vmasIn } from './vma.ts';
import { isolateVmas, linkVma, unlinkVmas } from './vmaChanges.ts';
import { unmapVmas } from './zap.ts';

/** What to map where; without an address: where there is room. */
export type MmapRequest = Omit<NewVma, 'start' | 'end'> & {
  readonly addr: number | null;
  readonly length: number;
};

/** Whether [addr, addr + length) is a range of user addresses: aligned, not empty, no wrap. */
const isUserRange = (k: Kernel, addr: number, length: number): boolean =>
  addr >= 0 && addr % PAGE_SIZE === 0 && length > 0 && addr + length <= taskSize(k);

/** `length` in whole pages. */
export const pageAlign = (length: number): number => Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;

/**
 * Maps memory, with MAP_FIXED_NOREPLACE if there is an address; gives the address, or -EINVAL,
 * -ENOMEM, -EEXIST.
 *
 * @kernel mm/mmap.c do_mmap
 */
export function* doMmap(k: Kernel, mm: MmStruct, request: MmapRequest): Kthread<number> {
  const { addr, flags, file = null, offset = 0 } = request;
  const unit = flags.hugetlb ? PMD_SIZE : PAGE_SIZE;
  const length = Math.ceil(request.length / unit) * unit;
  if (!(length > 0) || (flags.hugetlb && file === null)) return Errno.EINVAL;
  yield* downWrite(mm.mmapLock);
  const start = addr ?? unmappedArea(mm, length, unit);
  let result = start;
  if (start % unit !== 0) result = Errno.EINVAL;
  else if (!isUserRange(k, start, length)) result = Errno.ENOMEM;
  else if (vmasIn(mm, start, start + length).length > 0) result = Errno.EEXIST;
  else yield* call(linkVma(mm, { start, end: start + length, flags, file, offset }));
  yield* upWrite(mm.mmapLock);
  return result;
}

/**
 * Unmaps what is mapped in a range, which may be nothing; 0, or -EINVAL for what is no range.
 *
 * @kernel mm/vma.c do_vmi_munmap
 */
export function* doMunmap(k: Kernel, mm: MmStruct, start: number, length: number): Kthread<number> {
  const size = pageAlign(length);
  if (!isUserRange(k, start, size)) return Errno.EINVAL;
  yield* downWrite(mm.mmapLock);
  if (!maySplit(mm, start, start + size)) {
    yield* upWrite(mm.mmapLock);
    return Errno.EINVAL;
  }
  const gone = yield* call(isolateVmas(k, mm, start, start + size));
  if (gone.length === 0) {
    yield* upWrite(mm.mmapLock);
    return 0;
  }
  yield* call(unlinkVmas(mm, gone));
  // From here on readers may enter: the VMAs cannot be found any more.
  yield* downgradeWrite(mm.mmapLock);
  yield* call(unmapRegion(k, mm, gone));
  yield* upRead(mm.mmapLock);
  return 0;
}

/** hugetlb_vm_op_split: huge pages are not cut in two. */
export const maySplit = (mm: MmStruct, start: number, end: number): boolean =>
  vmasIn(mm, start, end)
    .filter(isVmHugetlb)
    .every((vma) =>
      [start, end].every((at) => at <= vma.start || at >= vma.end || at % PMD_SIZE === 0),
    );

/** @kernel mm/vma.c unmap_region */
export function* unmapRegion(k: Kernel, mm: MmStruct, gone: readonly VmArea[]): Kthread {
  const start = gone[0]?.start ?? 0;
  const end = gone.at(-1)?.end ?? 0;
  const tlb = yield* call(tlbGatherMmu(k, mm));
  yield* call(unmapVmas(k, tlb, gone, start, end));
  yield* call(freePgtables(k, tlb, gone, neighbours(mm, start, end)));
  yield* call(k.fn.tlbFinishMmu(k, tlb));
}

/** Between which addresses page tables may be freed around a range that is unmapped. */
function neighbours(
  mm: MmStruct,
  start: number,
  end: number,
): { readonly floor: number; readonly ceiling: number } {
  let floor = 0;
  let ceiling = Infinity;
  for (const vma of mm.vmas) {
    if (vma.end <= start) floor = Math.max(floor, vma.end);
    if (vma.start >= end) ceiling = Math.min(ceiling, vma.start);
  }
  return { floor, ceiling };
}

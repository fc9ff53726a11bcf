/**
 * Changes of the list of VMAs that a file's mappings notice: those are under its i_mmap_rwsem, whoever
 * maps it. Under mmap_lock, held for writing.
 */
import { call } from '@shootdown/machine';
import {
  type AddressSpace,
  downWrite,
  type Kernel,
  type Kthread,
  type MmStruct,
  upWrite,
  type VmArea,
} from '@shootdown/mmu-gather';
import { hugetlbSplitAround } from './hugetlbShare.ts';
import { insertVma, isolateRange, type NewVma, removeVmas, vmasIn } from './vma.ts';

/** Does `change` with the mappings of every file of `vmas` locked, one lock after the other. */
function* withMappingsLocked<T>(
  vmas: readonly { readonly file?: AddressSpace | null | undefined }[],
  change: () => T,
): Kthread<T> {
  const files = new Set(vmas.map(({ file }) => file ?? null));
  for (const file of files) if (file !== null) yield* downWrite(file.iMmapRwsem);
  const result = change();
  for (const file of files) if (file !== null) yield* upWrite(file.iMmapRwsem);
  return result;
}

/** vma_link: inserts a VMA where nothing is mapped. */
export const linkVma = (mm: MmStruct, what: NewVma): Kthread<VmArea> =>
  withMappingsLocked([what], () => insertVma(mm, what));

/** unlink_file_vma and the rest: takes VMAs out. */
export const unlinkVmas = (mm: MmStruct, gone: readonly VmArea[]): Kthread =>
  withMappingsLocked(gone, () => removeVmas(mm, gone));

/** Cuts VMAs at the borders of [start, end): page tables that they share have to go first. */
export function* isolateVmas(
  k: Kernel,
  mm: MmStruct,
  start: number,
  end: number,
): Kthread<readonly VmArea[]> {
  yield* call(hugetlbSplitAround(k, mm, start, end));
  return yield* call(
    withMappingsLocked(vmasIn(mm, start - 1, end + 1), () => isolateRange(mm, start, end)),
  );
}

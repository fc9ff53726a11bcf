/**
 * What a gather notes about what was unhooked: the range, and at which levels. The smallest level
 * decides the stride of the flush. A freed table widens the range by one page only: flushing one
 * address drops what the structure caches hold on the way to it.
 *
 * Follows include/asm-generic/tlb.h.
 */
import { levelShift, PAGE_SIZE } from '@shootdown/machine';
import { Level, PMD_SIZE, PUD_SIZE } from './kernel/pgtable.ts';
import type { MmuGather } from './mmuGather.ts';

/** __tlb_adjust_range */
function tlbAdjustRange(tlb: MmuGather, address: number, size: number): void {
  tlb.start = Math.min(tlb.start, address);
  tlb.end = Math.max(tlb.end, address + size);
}

/** __tlb_reset_range: nothing is noted; what VMAs it works on and is unshared for good stays. */
export function tlbResetRange(tlb: MmuGather, taskSize: number): void {
  tlb.start = tlb.fullmm ? Infinity : taskSize;
  tlb.end = tlb.fullmm ? Infinity : 0;
  tlb.freedTables = false;
  tlb.clearedPtes = false;
  tlb.clearedPmds = false;
  tlb.clearedPuds = false;
  tlb.clearedP4ds = false;
  tlb.unsharedTables = false;
}

/** tlb_flush_pte_range, ..._pmd_range, ..._pud_range, ..._p4d_range: entries of `level` changed. */
export function tlbFlushLevelRange(
  tlb: MmuGather,
  level: number,
  address: number,
  size: number,
): void {
  tlbAdjustRange(tlb, address, size);
  if (level === Level.pte) tlb.clearedPtes = true;
  else if (level === Level.pmd) tlb.clearedPmds = true;
  else if (level === Level.pud) tlb.clearedPuds = true;
  else if (level === Level.p4d) tlb.clearedP4ds = true;
}

/** tlb_remove_tlb_entry: one PTE was cleared or made stricter. */
export const tlbRemoveTlbEntry = (tlb: MmuGather, address: number): void =>
  tlbFlushLevelRange(tlb, Level.pte, address, PAGE_SIZE);

/** tlb_remove_pmd_tlb_entry, and of hugetlb pages of that size. */
export const tlbRemovePmdTlbEntry = (tlb: MmuGather, address: number): void =>
  tlbFlushLevelRange(tlb, Level.pmd, address, PMD_SIZE);

/**
 * pte_free_tlb, pmd_free_tlb, pud_free_tlb, p4d_free_tlb, without the freeing: an entry of the level
 * above pointed to the table of `level`.
 */
export function tlbNoteFreedTable(tlb: MmuGather, level: number, address: number): void {
  tlbFlushLevelRange(tlb, level + 1, address, PAGE_SIZE);
  tlb.freedTables = true;
}

/** tlb_unshare_pmd_ptdesc, without the count: a PUD entry was cleared whose table has PMD leaves. */
export function tlbNoteUnshared(tlb: MmuGather, address: number, fully: boolean): void {
  tlbFlushLevelRange(tlb, Level.pmd, Math.floor(address / PUD_SIZE) * PUD_SIZE, PUD_SIZE);
  if (fully) tlb.fullyUnsharedTables = true;
  tlb.unsharedTables = true;
}

/** tlb_get_unmap_shift: log2 of the stride. */
export function tlbGetUnmapShift(tlb: MmuGather): number {
  if (tlb.clearedPtes) return levelShift(Level.pte);
  if (tlb.clearedPmds) return levelShift(Level.pmd);
  if (tlb.clearedPuds) return levelShift(Level.pud);
  if (tlb.clearedP4ds) return levelShift(Level.p4d);
  return levelShift(Level.pte);
}

/**
 * Walking the page tables of a range under mmap_lock, which keeps the upper ones.
 *
 * Follows mm/pagewalk.c and pte_offset_map_lock() of mm/pgtable-generic.c.
 */
import { call, type PhysAddr, ptePfn, readWord } from '@shootdown/machine';
import {
  addrEnd,
  entryOf,
  isTable,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  type SpinLock,
  spinLock,
  spinUnlock,
} from '@shootdown/mmu-gather';

/** What is done with the PMD entry at `pmd`, which is not none, for [start, end) inside it. */
export type PmdEntry = (pmd: PhysAddr, start: number, end: number) => Kthread;

/** @kernel mm/pagewalk.c walk_page_range */
export function* walkPageRange(
  k: Kernel,
  mm: MmStruct,
  start: number,
  end: number,
  pmdEntry: PmdEntry,
): Kthread {
  yield* call(walkRange(mm.pgd, k.machine.levels, start, end, pmdEntry));
}

/** walk_p4d_range, walk_pud_range, walk_pmd_range */
function* walkRange(
  table: number,
  level: number,
  start: number,
  end: number,
  pmdEntry: PmdEntry,
): Kthread {
  for (let addr = start; addr < end; addr = addrEnd(addr, end, level)) {
    const next = addrEnd(addr, end, level);
    const at = entryOf(table, addr, level);
    const entry = yield* readWord(at);
    if (entry === 0) continue;
    if (level === Level.pmd) yield* call(pmdEntry(at, addr, next));
    else if (isTable(entry, level))
      yield* call(walkRange(ptePfn(entry), level - 1, addr, next, pmdEntry));
  }
}

/** A PTE table whose lock is held. */
export interface LockedTable {
  /** Its page frame. */
  readonly table: number;
  readonly lock: SpinLock;
}

/**
 * Locks the PTE table that `pmd` points to; null: it points to none. A table that went while its
 * lock was waited for is noticed by its entry, which changes under that lock.
 *
 * @kernel mm/pgtable-generic.c pte_offset_map_lock
 */
export function* pteOffsetMapLock(k: Kernel, pmd: PhysAddr): Kthread<LockedTable | null> {
  for (;;) {
    const entry = yield* readWord(pmd);
    if (!isTable(entry, Level.pmd)) return null;
    const table = ptePfn(entry);
    const lock = k.ptLocks.get(table);
    if (lock === undefined) continue;
    yield* spinLock(lock);
    if ((yield* readWord(pmd)) === entry) return { table, lock };
    yield* spinUnlock(lock);
  }
}

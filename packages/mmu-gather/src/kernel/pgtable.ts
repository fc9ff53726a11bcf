/**
 * Page tables as the kernel handles them: entries at physical addresses, tables that are allocated
 * on the way down, and what an entry holds while it maps nothing (swap, migration).
 *
 * Level 1 is the PTE table, 2 the PMD, 3 the PUD, 4 the P4D (the root of a 4-level table).
 */
import {
  assert,
  call,
  entryAt,
  isLeaf,
  levelShift,
  levelSize,
  makePte,
  PAGE_SIZE,
  type PhysAddr,
  physAddr,
  type Pfn,
  Pte,
  pteHas,
  ptePfn,
  readWord,
  writeWord,
  xchgWord,
  virtAddr,
} from '@shootdown/machine';
import type { Kernel, Kthread } from '../kernel.ts';
import type { MmStruct } from '../mmStruct.ts';
import { newSpinLock, type SpinLock, spinLock, spinUnlock } from './locking.ts';
import { freeFrames, getZeroedPage, type Page, pageOf } from './pageAlloc.ts';

export const PAGE_SHIFT = 12;
export const PMD_SHIFT = 21;
export const PUD_SHIFT = 30;
export const P4D_SHIFT = 39;
export const PMD_SIZE: number = 2 ** PMD_SHIFT;
export const PUD_SIZE: number = 2 ** PUD_SHIFT;
export const HPAGE_PMD_SIZE: number = PMD_SIZE;

/** Levels by name. */
export const Level = { pte: 1, pmd: 2, pud: 3, p4d: 4, pgd: 5 } as const;

/** TASK_SIZE: the end of user addresses. */
export const taskSize = (k: Kernel): number => 2 ** (levelShift(k.machine.levels) + 8) - PAGE_SIZE;

/** `addr` rounded down to what an entry of `level` covers. */
export const alignDown = (addr: number, level: number): number => {
  const size = levelSize(level);
  return Math.floor(addr / size) * size;
};

/** pmd_addr_end and its like: the next boundary of an entry of `level`, or `end` if that is first. */
export const addrEnd = (addr: number, end: number, level: number): number =>
  Math.min(alignDown(addr, level) + levelSize(level), end);

/** The entry of `level` for `addr` in the table of frame `table`. */
export const entryOf = (table: number, addr: number, level: number): PhysAddr =>
  physAddr(entryAt(table, virtAddr(addr), level));

/** Whether an entry points to a table: not none, not a leaf, not a swap entry. */
export const isTable = (entry: number, level: number): boolean =>
  pteHas(entry, Pte.present) && !isLeaf(entry, level);

/**
 * The entry of `level` that translates `addr`, or null where a table above it is missing: what
 * pgd_offset() down to pmd_offset() give under a lock that keeps the tables.
 */
export function* findEntry(
  k: Kernel,
  mm: MmStruct,
  addr: number,
  level: number,
): Kthread<PhysAddr | null> {
  let table: number = mm.pgd;
  for (let at = k.machine.levels as number; at > level; at--) {
    const entry = yield* readWord(entryOf(table, addr, at));
    if (!isTable(entry, at)) return null;
    table = ptePfn(entry);
  }
  return entryOf(table, addr, level);
}

/** Flags of an entry that points to a table: _PAGE_TABLE. */
const TABLE_FLAGS = Pte.present | Pte.write | Pte.user | Pte.accessed | Pte.dirty;

/** pud_populate, pmd_populate: the entry that points to the table of frame `table`. */
export const tableEntry = (table: Pfn): number => makePte(table, TABLE_FLAGS);

/**
 * The entry of `level` for `addr`, with the tables above it: pud_alloc, pmd_alloc, pte_alloc. Null
 * without memory.
 */
export function* allocEntry(
  k: Kernel,
  mm: MmStruct,
  addr: number,
  level: number,
): Kthread<PhysAddr | null> {
  let table: number = mm.pgd;
  for (let at = k.machine.levels as number; at > level; at--) {
    const where = entryOf(table, addr, at);
    let entry = yield* readWord(where);
    if (!pteHas(entry, Pte.present)) {
      const page = yield* call(allocTable(k, `${mm.name} table`, at - 1));
      if (page === null) return null;
      // Two threads may fault at once: the first one's table stays.
      const lock = at === Level.pmd ? pmdLock(k, where) : mm.pageTableLock;
      yield* spinLock(lock);
      entry = yield* readWord(where);
      if (pteHas(entry, Pte.present)) yield* call(freeTable(k, page));
      else {
        entry = tableEntry(page.pfn);
        yield* writeWord(where, entry);
      }
      yield* spinUnlock(lock);
    }
    if (!isTable(entry, at)) return null;
    table = ptePfn(entry);
  }
  return entryOf(table, addr, level);
}

/** pte_alloc_one and its like: an empty table of `level`; null without memory. */
export function* allocTable(k: Kernel, purpose: string, level: number): Kthread<Page | null> {
  const page = yield* call(getZeroedPage(k, { gfp: 'GFP_KERNEL', purpose }));
  if (page !== null) addTableLock(k, page, level);
  return page;
}

/** pagetable_pte_ctor, pagetable_pmd_ctor: the split lock of a table of the lowest two levels. */
export function addTableLock(k: Kernel, page: Page, level: number): void {
  if (level <= Level.pmd) k.ptLocks.set(page.pfn, newSpinLock(k.machine, `ptlock[${page.pfn}]`));
}

/** __tlb_remove_table, pte_free and the like: the destructor, and the frame. */
export function* freeTable(k: Kernel, page: Page): Kthread {
  k.ptLocks.delete(page.pfn);
  yield* call(freeFrames(k, page));
}

/** pgd_free. */
export function* freePgd(k: Kernel, mm: MmStruct): Kthread {
  yield* call(freeFrames(k, pageOf(k, mm.pgd)));
}

const tableOf = (entry: PhysAddr): number => Math.floor(entry / PAGE_SIZE);

function lockOf(k: Kernel, entry: PhysAddr): SpinLock {
  const lock = k.ptLocks.get(tableOf(entry));
  assert(lock !== undefined, 'an entry that is locked is in a table of the lowest two levels');
  return lock;
}

/** pte_lockptr: the lock of the table that `pte` is in. */
export const ptLock = (k: Kernel, pte: PhysAddr): SpinLock => lockOf(k, pte);

/** pmd_lockptr. */
export const pmdLock = (k: Kernel, pmd: PhysAddr): SpinLock => lockOf(k, pmd);

/** ptep_get_and_clear: gives what was there, with the bits that hardware set until this instant. */
export function* ptepGetAndClear(
  k: Kernel,
  mm: MmStruct,
  addr: number,
  pte: PhysAddr,
): Kthread<number> {
  const own = k.backend.ptepGetAndClear;
  if (own !== undefined) return yield* call(own(k, mm, addr, pte));
  return yield* xchgWord(pte, 0);
}

/** An entry that is not present and not none holds one of these and a number. */
const SWAP_BIT = 0x200;
const MIGRATION_BIT = 0x400;

/** swp_entry_to_pte: where the page is in swap. */
export const swapPte = (slot: number): number => slot * PAGE_SIZE + SWAP_BIT;

/** make_migration_entry: the page moves; whoever wants it waits. */
export const migrationPte = (frame: number, write: boolean): number =>
  frame * PAGE_SIZE + MIGRATION_BIT + (write ? Pte.write : 0);

/** is_migration_entry */
export const isMigrationPte = (pte: number): boolean =>
  !pteHas(pte, Pte.present) && pteHas(pte, MIGRATION_BIT);

/** Whether an entry says where in swap the page is. */
export const isSwapPte = (pte: number): boolean =>
  !pteHas(pte, Pte.present) && pteHas(pte, SWAP_BIT);

/** The number in such an entry: slot or page frame. */
export const swapOffset = (pte: number): number => ptePfn(pte);

/**
 * GUP-fast: pages of the current process, found by walking its page tables without a lock. Interrupts
 * are off instead: whoever frees or reuses a table by interrupting this CPU, or after an RCU grace
 * period, waits for the walk. Every entry is read once, and what it said is checked again after the
 * page is held.
 *
 * What the checks do not cover: the entry above a PMD table is not read again, so a table that
 * changes owner in place (hugetlb unsharing) is not noticed; whoever does that has to wait.
 *
 * Follows mm/gup.c.
 */
import {
  call,
  localIrqRestore,
  localIrqSave,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readOnce,
  readWord,
  smpRmb,
} from '@shootdown/machine';
import {
  addrEnd,
  currentTask,
  entryOf,
  isTable,
  type Kthread,
  Level,
  type Page,
  pageOf,
  putPage,
  tryGetPage,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { isHuge } from './hugeMemory.ts';
import type { MmKernel } from './mm.ts';

/** What to get, and what was got. */
export interface GupRange {
  readonly start: number;
  readonly end: number;
  /** FOLL_WRITE */
  readonly write: boolean;
  /** FOLL_PIN: the pages are written to by devices, so a fork in between makes them useless. */
  readonly pin: boolean;
  /** The pages, a reference held on each. */
  readonly pages: Page[];
}

/**
 * Gets as many pages from `start` on as can be had without a lock; gives how many.
 *
 * @kernel mm/gup.c gup_fast
 */
export function* gupFast(k: MmKernel, range: GupRange): Kthread<number> {
  const { mm } = currentTask(k);
  if (mm === null) return 0;
  let seq = 0;
  if (range.pin) {
    seq = yield* readOnce(mm.writeProtectSeq);
    if (seq % 2 === 1) return 0;
    yield* smpRmb(); // Pairs with the write_protect_seq of copyPageRange().
  }
  const flags = yield* localIrqSave();
  const before = yield* call(k.fn.ptWalkLocklessStart(k, mm));
  const got = yield* call(k.fn.gupFastPgdRange(k, range));
  yield* call(k.fn.ptWalkLocklessEnd(k, before));
  yield* localIrqRestore(flags);
  if (range.pin) {
    yield* smpRmb(); // As above.
    if ((yield* readOnce(mm.writeProtectSeq)) !== seq) {
      for (const page of range.pages.splice(0)) yield* call(putPage(k, page));
      return 0;
    }
  }
  return got;
}

/** The walk, with interrupts off. @kernel mm/gup.c gup_fast_pgd_range */
export function* gupFastPgdRange(k: MmKernel, range: GupRange): Kthread<number> {
  const { mm } = currentTask(k);
  if (mm === null) return 0;
  yield* call(walkRange(k, range, mm.pgd, k.machine.levels, range.start, range.end));
  return range.pages.length;
}

/** gup_fast_p4d_range, gup_fast_pud_range, gup_fast_pmd_range; false: stop here. */
function* walkRange(
  k: MmKernel,
  range: GupRange,
  table: number,
  level: number,
  start: number,
  end: number,
): Kthread<boolean> {
  for (let addr = start; addr < end; addr = addrEnd(addr, end, level)) {
    const next = addrEnd(addr, end, level);
    const at = entryOf(table, addr, level);
    // READ_ONCE: only what was read here is used below.
    const entry = yield* readWord(at);
    let go = false;
    if (level === Level.pmd && isHuge(entry))
      go = yield* call(huge(k, range, at, entry, addr, next));
    else if (isTable(entry, level))
      go =
        level === Level.pmd
          ? yield* call(ptes(k, range, at, entry, addr, next))
          : yield* call(walkRange(k, range, ptePfn(entry), level - 1, addr, next));
    if (!go) return false;
  }
  return true;
}

const allows = (entry: number, write: boolean): boolean =>
  pteHas(entry, Pte.present) && pteHas(entry, Pte.user) && (!write || pteHas(entry, Pte.write));

/** @kernel mm/gup.c gup_fast_pte_range */
function* ptes(
  k: MmKernel,
  range: GupRange,
  pmd: PhysAddr,
  seen: number,
  start: number,
  end: number,
): Kthread<boolean> {
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const at = entryOf(ptePfn(seen), addr, Level.pte);
    const pte = yield* readWord(at);
    if (!allows(pte, range.write) || ptePfn(pte) === ZERO_PFN) return false;
    const page = k.pages.pages.get(ptePfn(pte)) ?? pageOf(k, ptePfn(pte));
    // The reference, by a locked instruction, comes before the entries are read again. Pairs with
    // who clears the entry, locked too, and then looks at the count.
    if (!(yield* call(tryGetPage(page)))) return false;
    const same = (yield* readWord(pmd)) === seen && (yield* readWord(at)) === pte;
    if (!same) {
      yield* call(putPage(k, page));
      return false;
    }
    range.pages.push(page);
  }
  return true;
}

/** @kernel mm/gup.c gup_fast_pmd_leaf */
function* huge(
  k: MmKernel,
  range: GupRange,
  at: PhysAddr,
  seen: number,
  start: number,
  end: number,
): Kthread<boolean> {
  if (!allows(seen, range.write)) return false;
  const page = pageOf(k, ptePfn(seen));
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    if (!(yield* call(tryGetPage(page)))) return false;
    if ((yield* readWord(at)) !== seen) {
      yield* call(putPage(k, page));
      return false;
    }
    range.pages.push(page);
  }
  return true;
}

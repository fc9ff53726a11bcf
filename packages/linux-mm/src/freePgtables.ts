/**
 * Freeing the page tables of a range that maps nothing any more: from the bottom up, each entry that
 * points to a table is cleared, noted, and the table handed to the gather. A table goes only if the
 * whole of what it covers lies between the neighbouring VMAs.
 *
 * Follows free_pgtables() and free_pgd_range() of mm/memory.c.
 */
import { call, ptePfn, readWord, writeWord } from '@shootdown/machine';
import {
  addrEnd,
  alignDown,
  entryOf,
  isTable,
  type Kernel,
  type Kthread,
  Level,
  type MmuGather,
  type Page,
  PAGE_SHIFT,
  pageOf,
  PMD_SIZE,
  tlbChangePageSize,
  tlbFreeVmas,
  tlbNoteFreedTable,
  type VmArea,
} from '@shootdown/mmu-gather';

/** Between which addresses tables may go: the end of the VMA before, the start of the one behind. */
export interface Bounds {
  readonly floor: number;
  /** Infinity: no VMA is behind. */
  readonly ceiling: number;
}

/** free_pgtables: the tables of VMAs whose pages are gone. */
export function* freePgtables(
  k: Kernel,
  tlb: MmuGather,
  vmas: readonly VmArea[],
  bounds: Bounds,
): Kthread {
  yield* call(tlbFreeVmas(k, tlb));
  for (const [index, vma] of vmas.entries()) {
    // Each range may reach up to the next VMA, and down to the one before.
    const ceiling = vmas[index + 1]?.start ?? bounds.ceiling;
    yield* call(freePgdRange(k, tlb, vma.start, vma.end, { floor: bounds.floor, ceiling }));
  }
}

/** @kernel mm/memory.c free_pgd_range */
function* freePgdRange(
  k: Kernel,
  tlb: MmuGather,
  from: number,
  to: number,
  { floor, ceiling: above }: Bounds,
): Kthread {
  let addr = alignDown(from, Level.pmd);
  if (addr < floor) addr += PMD_SIZE;
  const ceiling = above === Infinity ? above : alignDown(above, Level.pmd);
  const end = to > ceiling ? to - PMD_SIZE : to;
  if (addr > end - 1) return;
  yield* call(tlbChangePageSize(k, tlb, 2 ** PAGE_SHIFT));
  const { levels } = k.machine;
  yield* call(freeEntries(k, tlb, tlb.mm.pgd, levels, addr, end, { floor, ceiling }));
}

/** free_p4d_range, free_pud_range, free_pmd_range: what the entries of `level` point to. */
function* freeEntries(
  k: Kernel,
  tlb: MmuGather,
  table: number,
  level: number,
  start: number,
  end: number,
  bounds: Bounds,
): Kthread {
  for (let addr = start; addr < end; addr = addrEnd(addr, end, level)) {
    const next = addrEnd(addr, end, level);
    const at = entryOf(table, addr, level);
    const entry = yield* readWord(at);
    if (!isTable(entry, level)) continue;
    const below = ptePfn(entry);
    // free_pte_range() takes the address as it is, the others the start of what the table covers.
    let noted = addr;
    if (level > Level.pmd) {
      yield* call(freeEntries(k, tlb, below, level - 1, addr, next, bounds));
      noted = alignDown(addr, level);
      const ceiling = bounds.ceiling === Infinity ? Infinity : alignDown(bounds.ceiling, level);
      if (noted < bounds.floor || next > ceiling) continue;
    }
    // pmd_clear, pud_clear, p4d_clear: plain stores. The lock of the mm keeps others out.
    yield* writeWord(at, 0);
    const page = pageOf(k, below);
    k.probe?.({ kind: 'unhook-table', mm: tlb.mm, table: page });
    tlbNoteFreedTable(tlb, level - 1, noted);
    yield* call(removeTable(k, tlb, page));
  }
}

/** __pte_free_tlb and its like: the architecture's way, or the generic one. */
export function* removeTable(k: Kernel, tlb: MmuGather, table: Page): Kthread {
  yield* call((k.backend.tlbRemoveTable ?? k.fn.tlbRemoveTable)(k, tlb, table));
}

/**
 * Taking pages out of page tables: unmap_vmas() and what is below it. Entries are cleared under the
 * page-table lock and noted in the gather; the pages wait in it for the flush.
 *
 * Follows mm/memory.c.
 */
import {
  call,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readWord,
  writeWord,
  xchgWord,
} from '@shootdown/machine';
import {
  __tlbRemovePageSize,
  addrEnd,
  alignDown,
  entryOf,
  HPAGE_PMD_SIZE,
  isSwapPte,
  isTable,
  isVmHugetlb,
  type Kernel,
  type Kthread,
  Level,
  type MmuGather,
  pageOf,
  pmdLock,
  PMD_SIZE,
  ptepGetAndClear,
  ptLock,
  spinLock,
  spinUnlock,
  tlbChangePageSize,
  tlbEndVma,
  tlbFlushMmu,
  tlbFlushMmuTlbonly,
  tlbFlushRmaps,
  tlbGatherMmu,
  tlbNoteFreedTable,
  tlbRemoveTlbEntry,
  tlbStartVma,
  type VmArea,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { flushTlbBatchedPending } from './batched.ts';
import { removeTable } from './freePgtables.ts';
import { splitHugePmd, zapHugePmd } from './hugeMemory.ts';
import { unmapHugetlbRange } from './hugetlbZap.ts';
import { pteOffsetMapLock } from './pagewalk.ts';
import { removeRmap } from './rmap.ts';
import { freeSwap } from './swap.ts';

/** struct zap_details */
export interface ZapDetails {
  /** Tables that are found empty may go too: MADV_DONTNEED. */
  readonly reclaimPt: boolean;
}

/** unmap_vmas: everything that the VMAs map in [start, end). */
export function* unmapVmas(
  k: Kernel,
  tlb: MmuGather,
  vmas: readonly VmArea[],
  start: number,
  end: number,
): Kthread {
  for (const vma of vmas)
    yield* call(
      unmapSingleVma(k, tlb, vma, Math.max(start, vma.start), Math.min(end, vma.end), null),
    );
}

function* unmapSingleVma(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  start: number,
  end: number,
  details: ZapDetails | null,
): Kthread {
  if (isVmHugetlb(vma)) yield* call(unmapHugetlbRange(k, tlb, vma, start, end));
  else yield* call(unmapPageRange(k, tlb, vma, start, end, details));
}

/** zap_page_range_single: a gather of its own for a part of one VMA. */
export function* zapPageRangeSingle(
  k: Kernel,
  vma: VmArea,
  start: number,
  end: number,
  details: ZapDetails | null,
): Kthread {
  const tlb = yield* call(tlbGatherMmu(k, vma.mm));
  yield* call(unmapSingleVma(k, tlb, vma, start, end, details));
  yield* call(k.fn.tlbFinishMmu(k, tlb));
}

/** unmap_page_range */
export function* unmapPageRange(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  start: number,
  end: number,
  details: ZapDetails | null,
): Kthread {
  tlbStartVma(tlb, vma);
  yield* call(zapRange(k, tlb, vma, vma.mm.pgd, k.machine.levels, start, end, details));
  yield* call(tlbEndVma(k, tlb));
}

/** zap_p4d_range, zap_pud_range, zap_pmd_range: the entries of `level` in one table. */
function* zapRange(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  table: number,
  level: number,
  start: number,
  end: number,
  details: ZapDetails | null,
): Kthread {
  for (let addr = start; addr < end; addr = addrEnd(addr, end, level)) {
    const next = addrEnd(addr, end, level);
    const at = entryOf(table, addr, level);
    let entry = yield* readWord(at);
    // pmd_trans_huge(), without the present bit too: while it is being split, which is waited for.
    if (level === Level.pmd && pteHas(entry, Pte.huge)) {
      if (next - addr === HPAGE_PMD_SIZE) {
        if (yield* call(zapHugePmd(k, tlb, vma, at, addr))) continue;
      } else yield* call(splitHugePmd(k, vma, at, addr));
      entry = yield* readWord(at);
    }
    if (!isTable(entry, level)) continue;
    if (level === Level.pmd) yield* call(zapPteTable(k, tlb, vma, at, addr, next, details));
    else yield* call(zapRange(k, tlb, vma, ptePfn(entry), level - 1, addr, next, details));
  }
}

function* zapPteTable(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  pmd: PhysAddr,
  start: number,
  end: number,
  details: ZapDetails | null,
): Kthread {
  for (let addr = start; addr < end;) addr = yield* call(zapPteRange(k, tlb, vma, pmd, addr, end));
  const whole = end - start === PMD_SIZE;
  if (details?.reclaimPt === true && whole && k.kconfig.PT_RECLAIM)
    yield* call(tryToFreePte(k, tlb, vma, pmd, start));
}

/**
 * Clears the entries of one PTE table; gives how far it came. A full batch is flushed outside the
 * lock, but the translations go before it is dropped: whoever takes it next sees none that is stale.
 *
 * @kernel mm/memory.c zap_pte_range
 */
function* zapPteRange(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  pmd: PhysAddr,
  start: number,
  end: number,
): Kthread<number> {
  const { mm } = vma;
  let full = false;
  yield* call(tlbChangePageSize(k, tlb, PAGE_SIZE));
  // The table may have gone since: another MADV_DONTNEED has emptied it.
  const locked = yield* call(pteOffsetMapLock(k, pmd));
  if (locked === null) return end;
  const { table, lock } = locked;
  yield* call(flushTlbBatchedPending(k, mm));
  let addr = start;
  for (; addr < end && !full; addr += PAGE_SIZE) {
    const at = entryOf(table, addr, Level.pte);
    const pte = yield* readWord(at);
    if (pte === 0) continue;
    if (pteHas(pte, Pte.present)) full = yield* call(zapPresentPte(k, tlb, vma, at, addr));
    else {
      if (isSwapPte(pte)) yield* call(freeSwap(k, pte));
      yield* writeWord(at, 0);
    }
  }
  // Also for dirty pages of files: who takes the lock next relies on nobody writing to them.
  const forceFlush = full || tlb.delayedRmap;
  if (forceFlush) {
    yield* call(tlbFlushMmuTlbonly(k, tlb));
    yield* call(tlbFlushRmaps(k, tlb, removeRmapOf(vma)));
  }
  yield* spinUnlock(lock);
  if (forceFlush) yield* call(tlbFlushMmu(k, tlb));
  return addr;
}

/** zap_present_ptes, one by one; true: the batch is full. */
function* zapPresentPte(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  at: PhysAddr,
  addr: number,
): Kthread<boolean> {
  const { mm } = vma;
  // Nobody runs in an mm that goes as a whole: no locked instruction is needed.
  const pte = yield* call(tlb.fullmm ? clearFull(at) : ptepGetAndClear(k, mm, addr, at));
  k.probe?.({ kind: 'unmap-page', mm, addr, pfn: ptePfn(pte) });
  tlbRemoveTlbEntry(tlb, addr);
  // vm_normal_page(): the zero page and raw frames are nobody's to free.
  if (ptePfn(pte) === ZERO_PFN || vma.flags.pfnmap) return false;
  const page = pageOf(k, ptePfn(pte));
  // A dirty page of a file stays in the reverse mapping until no CPU can write to it any more.
  const delayRmap = vma.file !== null && pteHas(pte, Pte.dirty) && !tlb.fullmm;
  if (delayRmap) tlb.delayedRmap = true;
  else yield* call(removeRmap(page, mm, addr));
  return yield* call(__tlbRemovePageSize(k, tlb, page, delayRmap, PAGE_SIZE));
}

function* clearFull(at: PhysAddr): Kthread<number> {
  const pte = yield* readWord(at);
  yield* writeWord(at, 0);
  return pte;
}

const removeRmapOf =
  (vma: VmArea) =>
  (_k: Kernel, page: Parameters<typeof removeRmap>[0]): Kthread =>
    removeRmap(page, vma.mm, null);

/**
 * A PTE table whose whole range was cleared, if it is empty still, goes too.
 *
 * @kernel mm/pt_reclaim.c try_to_free_pte
 */
function* tryToFreePte(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  pmd: PhysAddr,
  start: number,
): Kthread {
  const upper = pmdLock(k, pmd);
  yield* spinLock(upper);
  const entry = yield* readWord(pmd);
  if (isTable(entry, Level.pmd)) {
    const table = pageOf(k, ptePfn(entry));
    const lower = ptLock(k, entryOf(table.pfn, start, Level.pte));
    yield* spinLock(lower);
    const empty = k.machine.physical.frame(table.pfn)?.words.every((pte) => pte === 0) ?? true;
    if (empty) yield* xchgWord(pmd, 0);
    yield* spinUnlock(lower);
    if (empty) {
      k.probe?.({ kind: 'unhook-table', mm: vma.mm, table });
      tlbNoteFreedTable(tlb, Level.pte, alignDown(start, Level.pmd));
      yield* spinUnlock(upper);
      yield* call(removeTable(k, tlb, table));
      return;
    }
  }
  yield* spinUnlock(upper);
}

/**
 * Unmapping hugetlb memory. A table that others use is let go as a whole, with what it maps; in one
 * of our own the entries are cleared. Both under i_mmap_rwsem, held for writing.
 *
 * Follows mm/hugetlb.c.
 */
import { call, type PhysAddr, ptePfn, readWord } from '@shootdown/machine';
import {
  alignDown,
  findEntry,
  type Kernel,
  type Kthread,
  Level,
  type MmuGather,
  pageOf,
  PMD_SIZE,
  pmdLock,
  ptepGetAndClear,
  PUD_SIZE,
  spinLock,
  spinUnlock,
  tlbChangePageSize,
  tlbEndVma,
  tlbFlushLevelRange,
  tlbFlushMmuTlbonly,
  tlbRemovePageSize,
  tlbRemovePmdTlbEntry,
  tlbStartVma,
  type VmArea,
} from '@shootdown/mmu-gather';
import { hugetlbFileOf } from './hugetlbFile.ts';
import {
  hugePmdUnshare,
  hugePmdUnshareFlush,
  hugetlbLockWrite,
  hugetlbUnlockWrite,
} from './hugetlbShare.ts';
import { removeRmap } from './rmap.ts';

/** ZAP_FLAG_UNMAP: the VMA goes too. */
const isFinalUnmap = (tlb: MmuGather, vma: VmArea): boolean =>
  tlb.fullmm || !vma.mm.vmas.includes(vma);

/**
 * Unmaps [start, end) of `vma`, in whole pages; more, where that is in a shared table.
 *
 * @kernel mm/memory.c unmap_single_vma, hugetlb_zap_begin, hugetlb_zap_end
 * @throws UsageError ERR_WORKLOAD
 */
export function* unmapHugetlbRange(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  start: number,
  end: number,
): Kthread {
  const { mappings } = hugetlbFileOf({ ...vma, start, end });
  yield* call(hugetlbLockWrite(k, vma));
  yield* call(__unmapHugepageRange(k, tlb, vma, start, end));
  // Its tables go now, so nobody may find them in order to share them. The kernel frees the VMA's
  // lock here, without which it is not asked for its tables.
  if (isFinalUnmap(tlb, vma)) mappings.delete(vma);
  yield* call(hugetlbUnlockWrite(k, vma));
}

/** @kernel mm/hugetlb.c __unmap_hugepage_range */
function* __unmapHugepageRange(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  start: number,
  end: number,
): Kthread {
  const { mm } = vma;
  let forceFlush = false;
  yield* call(tlbChangePageSize(k, tlb, PMD_SIZE));
  tlbStartVma(tlb, vma);
  let addr = start;
  while (addr < end) {
    const base = alignDown(addr, Level.pud);
    const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
    let unshared = false;
    if (pmd !== null) {
      const lock = pmdLock(k, pmd);
      yield* spinLock(lock);
      unshared = yield* call(hugePmdUnshare(k, tlb, vma, addr, pmd));
      if (unshared) yield* spinUnlock(lock);
      else yield* call(zapHugePte(k, tlb, vma, addr, pmd));
    }
    if (unshared && !k.rules.unshareInGather) {
      tlbFlushLevelRange(tlb, Level.pmd, base, PUD_SIZE);
      forceFlush = true;
    }
    addr = pmd === null || unshared ? base + PUD_SIZE : addr + PMD_SIZE;
  }
  yield* call(tlbEndVma(k, tlb));
  if (k.rules.unshareInGather) yield* call(hugePmdUnshareFlush(k, tlb, vma));
  // Nothing but i_mmap_rwsem keeps the table that was let go from being freed.
  else if (forceFlush) yield* call(tlbFlushMmuTlbonly(k, tlb));
}

/** Clears one entry, whose lock is held, and drops the lock. */
function* zapHugePte(k: Kernel, tlb: MmuGather, vma: VmArea, addr: number, pmd: PhysAddr): Kthread {
  const { mm } = vma;
  const lock = pmdLock(k, pmd);
  if ((yield* readWord(pmd)) === 0) {
    yield* spinUnlock(lock);
    return;
  }
  const entry = yield* call(ptepGetAndClear(k, mm, addr, pmd));
  k.probe?.({ kind: 'unmap-page', mm, addr, pfn: ptePfn(entry) });
  tlbRemovePmdTlbEntry(tlb, addr);
  const page = pageOf(k, ptePfn(entry));
  if (!vma.flags.shared) yield* call(removeRmap(page, mm, addr));
  yield* spinUnlock(lock);
  yield* call(tlbRemovePageSize(k, tlb, page, PMD_SIZE));
}

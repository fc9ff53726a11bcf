/**
 * mprotect: entries are made stricter or more generous under the page-table lock, and flushed at the
 * end, where hardware could still use the old ones.
 *
 * Follows mm/mprotect.c.
 */
import {
  call,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readWord,
  updateWord,
  writeWord,
} from '@shootdown/machine';
import {
  addrEnd,
  downWrite,
  entryOf,
  isMigrationPte,
  isTable,
  isVmHugetlb,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  type MmuGather,
  pageOf,
  PMD_SIZE,
  pmdLock,
  ptepGetAndClear,
  ptLock,
  spinLock,
  spinUnlock,
  tlbChangePageSize,
  tlbEndVma,
  tlbGatherMmu,
  tlbRemovePmdTlbEntry,
  tlbRemoveTlbEntry,
  tlbStartVma,
  upWrite,
  type VmArea,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { flushTlbBatchedPending } from './batched.ts';
import { isHuge, splitHugePmd } from './hugeMemory.ts';
import { hugetlbChangeProtection } from './hugetlb.ts';
import { Errno, type MmKernel, type ProtectionChange } from './mm.ts';
import { maySplit, pageAlign } from './mmap.ts';
import { clearFlag, setFlag } from './pteOf.ts';
import { mappedEnd, mergeAround } from './vma.ts';
import { isolateVmas } from './vmaChanges.ts';

/** PROT_READ and PROT_WRITE. */
export interface Protection {
  readonly read: boolean;
  readonly write: boolean;
}

/**
 * Changes the protection of a range; 0, -EINVAL, or -ENOMEM if it is not all mapped: then what is
 * mapped from its start on has changed.
 *
 * @kernel mm/mprotect.c do_mprotect_pkey
 */
export function* doMprotect(
  k: MmKernel,
  mm: MmStruct,
  start: number,
  length: number,
  to: Protection,
): Kthread<number> {
  const end = start + pageAlign(length);
  if (start % PAGE_SIZE !== 0) return Errno.EINVAL;
  if (end === start) return 0;
  if (!(end > start)) return Errno.ENOMEM;
  yield* downWrite(mm.mmapLock);
  const reach = mappedEnd(mm, start, end);
  if (reach === start || !maySplit(mm, start, reach)) {
    yield* upWrite(mm.mmapLock);
    return reach === start ? Errno.ENOMEM : Errno.EINVAL;
  }
  const vmas = yield* call(isolateVmas(k, mm, start, reach));
  const tlb = yield* call(tlbGatherMmu(k, mm));
  for (const vma of vmas) yield* call(mprotectFixup(k, tlb, vma, to));
  yield* call(k.fn.tlbFinishMmu(k, tlb));
  for (const vma of vmas) if (mm.vmas.includes(vma)) mergeAround(vma);
  yield* upWrite(mm.mmapLock);
  return reach === end ? 0 : Errno.ENOMEM;
}

/** @kernel mm/mprotect.c mprotect_fixup */
function* mprotectFixup(k: MmKernel, tlb: MmuGather, vma: VmArea, to: Protection): Kthread {
  const { flags } = vma;
  if (flags.read === to.read && flags.write === to.write) return;
  vma.flags = { ...flags, ...to };
  const { start, end } = vma;
  yield* call(k.fn.changeProtection(k, tlb, vma, { start, end, ...to }));
}

/**
 * Changes the entries of a range of a VMA; gives how many.
 *
 * @kernel mm/mprotect.c change_protection
 */
export function* changeProtection(
  k: MmKernel,
  tlb: MmuGather,
  vma: VmArea,
  to: ProtectionChange,
): Kthread<number> {
  if (isVmHugetlb(vma)) return yield* call(hugetlbChangeProtection(k, tlb, vma, to));
  tlbStartVma(tlb, vma);
  const { start, end } = to;
  const changed = yield* call(
    changeRange(k, tlb, vma, vma.mm.pgd, k.machine.levels, start, end, to),
  );
  yield* call(tlbEndVma(k, tlb));
  return changed;
}

/** change_p4d_range, change_pud_range, change_pmd_range */
function* changeRange(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  table: number,
  level: number,
  start: number,
  end: number,
  to: ProtectionChange,
): Kthread<number> {
  let changed = 0;
  for (let addr = start; addr < end; addr = addrEnd(addr, end, level)) {
    const next = addrEnd(addr, end, level);
    const at = entryOf(table, addr, level);
    let entry = yield* readWord(at);
    if (level === Level.pmd && isHuge(entry)) {
      if (next - addr === PMD_SIZE) {
        if (yield* call(changeHugePmd(k, tlb, vma, at, addr, to))) changed++;
        continue;
      }
      yield* call(splitHugePmd(k, vma, at, addr));
      entry = yield* readWord(at);
    }
    if (!isTable(entry, level)) continue;
    changed +=
      level === Level.pmd
        ? yield* call(changePteRange(k, tlb, vma, ptePfn(entry), addr, next, to))
        : yield* call(changeRange(k, tlb, vma, ptePfn(entry), level - 1, addr, next, to));
  }
  return changed;
}

/**
 * The entry with its new protection: pte_modify. What user mode may not even read loses the user
 * bit, where the kernel has _PAGE_PROTNONE.
 */
function modified(
  k: Kernel,
  vma: VmArea,
  entry: number,
  { read, write }: ProtectionChange,
): number {
  const readable = (read || write ? setFlag : clearFlag)(entry, Pte.user);
  const frame = ptePfn(entry);
  // can_change_pte_writable(): who has the page alone may write at once, which saves a fault. Where
  // a file's owner wants to hear of the first write, it has heard of it if the entry is dirty.
  const writable = vma.flags.shared
    ? pteHas(entry, Pte.dirty)
    : frame !== ZERO_PFN && pageOf(k, frame).anonExclusive;
  return (write && writable ? setFlag : clearFlag)(readable, Pte.write);
}

/** pte_needs_flush, huge_pmd_needs_flush: _PAGE_PROTNONE is not present, so in no TLB. */
const needsFlush = (k: Kernel, old: number, now: number): boolean =>
  pteHas(old, Pte.user) && k.backend.pteNeedsFlush(old, now);

/** @kernel mm/mprotect.c change_pte_range */
function* changePteRange(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  table: number,
  start: number,
  end: number,
  to: ProtectionChange,
): Kthread<number> {
  const { mm } = vma;
  let changed = 0;
  yield* call(tlbChangePageSize(k, tlb, PAGE_SIZE));
  const lock = ptLock(k, entryOf(table, start, Level.pte));
  yield* spinLock(lock);
  yield* call(flushTlbBatchedPending(k, mm));
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const at = entryOf(table, addr, Level.pte);
    const pte = yield* readWord(at);
    if (!pteHas(pte, Pte.present)) {
      // make_readable_migration_entry(): it is not to arrive writable.
      if (isMigrationPte(pte) && !to.write) yield* writeWord(at, clearFlag(pte, Pte.write));
      continue;
    }
    // ptep_modify_prot_start() and _commit(): cleared in between, so that no dirty bit is lost.
    const old = yield* call(ptepGetAndClear(k, mm, addr, at));
    const now = modified(k, vma, old, to);
    yield* writeWord(at, now);
    if (needsFlush(k, old, now)) tlbRemoveTlbEntry(tlb, addr);
    changed++;
  }
  yield* spinUnlock(lock);
  return changed;
}

/** @kernel mm/huge_memory.c change_huge_pmd */
function* changeHugePmd(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  pmd: PhysAddr,
  addr: number,
  to: ProtectionChange,
): Kthread<boolean> {
  yield* call(tlbChangePageSize(k, tlb, PMD_SIZE));
  const lock = pmdLock(k, pmd);
  yield* spinLock(lock);
  const huge = isHuge(yield* readWord(pmd));
  if (huge) {
    // pmdp_invalidate_ad(): not present in between, and no flush yet.
    const old = yield* updateWord(pmd, (entry) => clearFlag(entry, Pte.present));
    const now = modified(k, vma, old, to);
    yield* writeWord(pmd, now);
    if (needsFlush(k, old, now)) tlbRemovePmdTlbEntry(tlb, addr);
  }
  yield* spinUnlock(lock);
  return huge;
}

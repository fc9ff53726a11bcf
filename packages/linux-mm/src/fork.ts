/**
 * fork: the child gets page tables of its own that map the same pages, which neither may write any
 * more: copy on write.
 *
 * Follows kernel/fork.c and copy_page_range() of mm/memory.c. Not modelled: pinned pages, which the
 * child gets a copy of at once, so that the parent keeps what is pinned.
 */
import {
  atomicUpdate,
  call,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readWord,
  updateWord,
  writeOnce,
  writeWord,
} from '@shootdown/machine';
import {
  addrEnd,
  allocEntry,
  allocTable,
  alignDown,
  downWrite,
  entryOf,
  flushTlbMm,
  getPage,
  getZeroedPage,
  isMigrationPte,
  isSwapPte,
  isTable,
  isVmHugetlb,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  newMm,
  pageOf,
  pmdLock,
  ptLock,
  spinLock,
  spinUnlock,
  swapOffset,
  upWrite,
  type VmArea,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { mmput } from './exit.ts';
import { deposit, isHuge } from './hugeMemory.ts';
import { copyHugetlbPageRange } from './hugetlb.ts';
import { clearFlag } from './pteOf.ts';
import { addRmap } from './rmap.ts';
import { swapDuplicate } from './swap.ts';
import { linkVma } from './vmaChanges.ts';

/** mm_alloc: an empty address space; null without memory. */
export function* mmAlloc(k: Kernel, name: string): Kthread<MmStruct | null> {
  const pgd = yield* call(getZeroedPage(k, { gfp: 'GFP_KERNEL', purpose: 'pgd_alloc' }));
  return pgd === null ? null : newMm(k, name, pgd.pfn);
}

/**
 * A copy of `old`; null without memory.
 *
 * @kernel kernel/fork.c dup_mmap
 */
export function* dupMm(k: Kernel, old: MmStruct, name: string): Kthread<MmStruct | null> {
  const mm = yield* call(mmAlloc(k, name));
  if (mm === null) return null;
  yield* downWrite(old.mmapLock);
  yield* downWrite(mm.mmapLock);
  let enough = true;
  for (const vma of old.vmas) {
    const { start, end, flags, file, offset } = vma;
    const copy = yield* call(linkVma(mm, { start, end, flags, file, offset }));
    // vma_needs_copy(): what a file has can be faulted in.
    if (enough && vma.file === null) enough = yield* call(copyPageRange(k, copy, vma));
    else if (enough && isVmHugetlb(vma) && !vma.flags.shared)
      enough = yield* call(copyHugetlbPageRange(k, copy, vma));
  }
  yield* upWrite(mm.mmapLock);
  // Before anybody else works on the parent: its CPUs may still write to what is shared now.
  yield* call(flushTlbMm(k, old));
  yield* upWrite(old.mmapLock);
  if (enough) return mm;
  // What it has got so far goes again.
  yield* call(mmput(k, mm));
  return null;
}

/** @kernel mm/memory.c copy_page_range */
function* copyPageRange(k: Kernel, to: VmArea, from: VmArea): Kthread<boolean> {
  const cow = !from.flags.shared;
  const { writeProtectSeq } = from.mm;
  // Odd: GUP-fast that pins pages gives up, because they may be shared by the time it looks again.
  if (cow) yield* writeOnce(writeProtectSeq, writeProtectSeq.value + 1);
  const { levels } = k.machine;
  const copied = yield* call(copyRange(k, to, from, from.mm.pgd, levels, from.start, from.end));
  if (cow) yield* atomicUpdate(writeProtectSeq, (seq) => seq + 1);
  return copied;
}

/** copy_p4d_range, copy_pud_range, copy_pmd_range */
function* copyRange(
  k: Kernel,
  to: VmArea,
  from: VmArea,
  table: number,
  level: number,
  start: number,
  end: number,
): Kthread<boolean> {
  for (let addr = start; addr < end; addr = addrEnd(addr, end, level)) {
    const next = addrEnd(addr, end, level);
    const at = entryOf(table, addr, level);
    const entry = yield* readWord(at);
    let done = true;
    if (level === Level.pmd && isHuge(entry))
      done = yield* call(copyHugePmd(k, to, from, at, addr));
    else if (isTable(entry, level))
      done =
        level === Level.pmd
          ? yield* call(copyPteRange(k, to, from, ptePfn(entry), addr, next))
          : yield* call(copyRange(k, to, from, ptePfn(entry), level - 1, addr, next));
    if (!done) return false;
  }
  return true;
}

/** @kernel mm/memory.c copy_pte_range */
function* copyPteRange(
  k: Kernel,
  to: VmArea,
  from: VmArea,
  table: number,
  start: number,
  end: number,
): Kthread<boolean> {
  const first = yield* call(allocEntry(k, to.mm, start, Level.pte));
  if (first === null) return false;
  const child = Math.floor(first / PAGE_SIZE);
  const toLock = ptLock(k, first);
  const fromLock = ptLock(k, entryOf(table, start, Level.pte));
  yield* spinLock(toLock);
  yield* spinLock(fromLock);
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const at = entryOf(table, addr, Level.pte);
    const pte = yield* readWord(at);
    if (pte === 0) continue;
    yield* call(copyPte(k, to, from, at, pte, addr, entryOf(child, addr, Level.pte)));
  }
  yield* spinUnlock(fromLock);
  yield* spinUnlock(toLock);
  return true;
}

/** copy_present_pte, copy_nonpresent_pte */
function* copyPte(
  k: Kernel,
  to: VmArea,
  from: VmArea,
  at: PhysAddr,
  pte: number,
  addr: number,
  into: PhysAddr,
): Kthread {
  if (isSwapPte(pte)) yield* call(swapDuplicate(k, swapOffset(pte)));
  if (!pteHas(pte, Pte.present)) {
    // A page that arrives now is shared: neither finds it writable.
    const moves = isMigrationPte(pte) && !from.flags.shared;
    if (moves) yield* writeWord(at, clearFlag(pte, Pte.write));
    yield* writeWord(into, moves ? clearFlag(pte, Pte.write) : pte);
    return;
  }
  if (ptePfn(pte) !== ZERO_PFN) {
    const page = pageOf(k, ptePfn(pte));
    yield* call(getPage(page));
    yield* call(addRmap(page, to.mm, addr));
    page.anonExclusive = false;
  }
  let copy = pte;
  if (!from.flags.shared && pteHas(pte, Pte.write)) {
    // ptep_set_wrprotect(): locked, because hardware may be setting the dirty bit.
    yield* updateWord(at, (now) => clearFlag(now, Pte.write));
    copy = clearFlag(pte, Pte.write);
  }
  yield* writeWord(into, clearFlag(copy, Pte.accessed));
}

/** @kernel mm/huge_memory.c copy_huge_pmd */
function* copyHugePmd(
  k: Kernel,
  to: VmArea,
  from: VmArea,
  at: PhysAddr,
  addr: number,
): Kthread<boolean> {
  const into = yield* call(allocEntry(k, to.mm, addr, Level.pmd));
  const table = into === null ? null : yield* call(allocTable(k, 'copy_huge_pmd', Level.pte));
  if (into === null || table === null) return false;
  const toLock = pmdLock(k, into);
  const fromLock = pmdLock(k, at);
  yield* spinLock(toLock);
  yield* spinLock(fromLock);
  const entry = yield* readWord(at);
  const page = pageOf(k, ptePfn(entry));
  yield* call(getPage(page));
  yield* call(addRmap(page, to.mm, alignDown(addr, Level.pmd)));
  page.anonExclusive = false;
  deposit(to.mm, into, table);
  yield* updateWord(at, (now) => clearFlag(now, Pte.write));
  yield* writeWord(into, clearFlag(clearFlag(entry, Pte.write), Pte.accessed));
  yield* spinUnlock(fromLock);
  yield* spinUnlock(toLock);
  return true;
}

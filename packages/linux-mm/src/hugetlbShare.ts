/**
 * Shared PMD tables: address spaces that map the same 1 GiB of a file at the same place of theirs
 * use one table for it. The table counts who uses it beyond the first.
 *
 * Who leaves clears its own PUD entry and keeps nothing. The table stays with the others, and once
 * only one is left, that one may change it, free it, have it reused. Neither a TLB nor a walker of
 * one who has left may use it then: so every leaver flushes its own address space, and the last one
 * waits for walkers, those of earlier leavers included, all before i_mmap_rwsem is dropped. Without
 * that nobody can find the table in order to share it, nor tear it down.
 *
 * Follows mm/hugetlb.c. Not modelled: userfaultfd, mmu notifiers.
 */
import {
  assert,
  atomicUpdate,
  call,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  readOnce,
  readWord,
  writeWord,
} from '@shootdown/machine';
import {
  alignDown,
  allocEntry,
  downRead,
  downWrite,
  findEntry,
  isVmHugetlb,
  isWriteLocked,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  type MmuGather,
  type Page,
  pageOf,
  PMD_SHIFT,
  pmdLock,
  PUD_SIZE,
  spinLock,
  spinUnlock,
  tableEntry,
  tlbGatherMmuVma,
  tlbNoteUnshared,
  upRead,
  upWrite,
  type VmArea,
  warnOnce,
} from '@shootdown/mmu-gather';
import { hugePageIndex, hugetlbFileOf, hugetlbVmaLock } from './hugetlbFile.ts';
import { vmaLookup } from './vma.ts';

/** The struct page of the table that `entry` is in: virt_to_ptdesc. */
const tableOf = (k: Kernel, entry: PhysAddr): Page => pageOf(k, Math.floor(entry / PAGE_SIZE));

/** range_in_vma, for the 1 GiB around `addr`. */
function coversPud({ start, end }: VmArea, addr: number): boolean {
  const base = alignDown(addr, Level.pud);
  return start <= base && base + PUD_SIZE <= end;
}

/** want_pmd_share: whether the 1 GiB around `addr` can have a table that others use too. */
export const wantPmdShare = (k: Kernel, vma: VmArea, addr: number): boolean =>
  k.kconfig.HUGETLB_PMD_PAGE_TABLE_SHARING && vma.flags.shared && coversPud(vma, addr);

/**
 * Where `other` has what `vma` has at `addr`, if their tables may be one: same page of the file,
 * same place in the table, same protection. Null if not.
 *
 * @kernel mm/hugetlb.c page_table_shareable
 */
function pageTableShareable(other: VmArea, vma: VmArea, addr: number): number | null {
  const index = hugePageIndex(vma, addr);
  const there = index * 2 ** PMD_SHIFT - other.offset + other.start;
  if (there < other.start || there >= other.end) return null;
  const sameSlot = (there - addr) % PUD_SIZE === 0;
  const { read, write, shared } = other.flags;
  const { flags } = vma;
  const alike = read === flags.read && write === flags.write && shared === flags.shared;
  return sameSlot && alike && coversPud(other, there) ? there : null;
}

/**
 * The entry for `addr`, in a table that somebody else uses already if there is one. The whole of it
 * under i_mmap_rwsem: who lets a table go holds it for writing, so a table that is found here stays.
 *
 * @kernel mm/hugetlb.c huge_pmd_share
 */
export function* hugePmdShare(
  k: Kernel,
  vma: VmArea,
  addr: number,
  pud: PhysAddr,
): Kthread<PhysAddr | null> {
  const { mm } = vma;
  const { iMmapRwsem, mappings } = hugetlbFileOf(vma);
  let table: Page | null = null;
  yield* downRead(iMmapRwsem);
  for (const other of mappings) {
    const there = other === vma ? null : pageTableShareable(other, vma, addr);
    if (there === null) continue;
    const entry = yield* call(findEntry(k, other.mm, there, Level.pmd));
    if (entry === null) continue;
    table = tableOf(k, entry);
    // Counted before it can be used: from here on its other users know that it is shared.
    yield* atomicUpdate(table.ptShareCount, (count) => count + 1);
    break;
  }
  if (table !== null) {
    yield* spinLock(mm.pageTableLock);
    if ((yield* readWord(pud)) === 0) yield* writeWord(pud, tableEntry(table.pfn));
    // Another thread was faster, with this table or with one of its own.
    else yield* atomicUpdate(table.ptShareCount, (count) => count - 1);
    yield* spinUnlock(mm.pageTableLock);
  }
  const entry = yield* call(allocEntry(k, mm, addr, Level.pmd));
  yield* upRead(iMmapRwsem);
  return entry;
}

/**
 * The PMD entry for `addr`, with the tables above it; null without memory.
 *
 * @kernel mm/hugetlb.c huge_pte_alloc
 */
export function* hugePteAlloc(k: Kernel, vma: VmArea, addr: number): Kthread<PhysAddr | null> {
  const pud = yield* call(allocEntry(k, vma.mm, addr, Level.pud));
  if (pud === null) return null;
  const shares = wantPmdShare(k, vma, addr) && (yield* readWord(pud)) === 0;
  const entry = yield* call(
    shares ? hugePmdShare(k, vma, addr, pud) : allocEntry(k, vma.mm, addr, Level.pmd),
  );
  if (entry === null) return null;
  const pmd = yield* readWord(entry);
  assert(
    !pteHas(pmd, Pte.present) || pteHas(pmd, Pte.huge),
    'no entry of a hugetlb mapping points to a table of small pages',
  );
  return entry;
}

/** i_mmap_assert_write_locked and hugetlb_vma_assert_locked, as lockdep says it. */
function assertLocked(k: Kernel, vma: VmArea): void {
  const { iMmapRwsem } = hugetlbFileOf(vma);
  warnOnce(k, !isWriteLocked(iMmapRwsem), 'a table is unshared without i_mmap_rwsem for writing');
  const lock = hugetlbVmaLock(k, vma);
  warnOnce(k, !isWriteLocked(lock), 'a table is unshared without the lock of the VMA');
}

/**
 * Lets the table that `pmd` is in go, if others use it too; false: nobody does, so what is in it is
 * the caller's to unmap. Under the table's lock, the VMA's and i_mmap_rwsem, both for writing; before
 * that is dropped comes hugePmdUnshareFlush().
 *
 * Until it became part of the gather, each call waited for the walkers itself, and the caller noted
 * what to flush.
 *
 * @kernel mm/hugetlb.c huge_pmd_unshare
 */
export function* hugePmdUnshare(
  k: Kernel,
  tlb: MmuGather,
  vma: VmArea,
  addr: number,
  pmd: PhysAddr,
): Kthread<boolean> {
  const { mm } = vma;
  const table = tableOf(k, pmd);
  // ptdesc_pmd_is_shared()
  if ((yield* readOnce(table.ptShareCount)) === 0) return false;
  assertLocked(k, vma);
  const pud = yield* call(findEntry(k, mm, addr, Level.pud));
  assert(pud !== null, 'a table that was found by walking has an entry that points to it');
  // pud_clear(): a plain store. Others still have the table, so what is in it stays.
  yield* writeWord(pud, 0);
  k.probe?.({ kind: 'unhook-table', mm, table });
  if (!k.rules.unshareInGather) yield* call(k.fn.tlbRemoveTableSyncOne(k));
  const shared = yield* atomicUpdate(table.ptShareCount, (count) => count - 1);
  if (k.rules.unshareInGather) tlbNoteUnshared(tlb, addr, shared === 1);
  return true;
}

/**
 * After the unsharing, before i_mmap_rwsem is dropped.
 *
 * @kernel mm/hugetlb.c huge_pmd_unshare_flush
 */
export function* hugePmdUnshareFlush(k: Kernel, tlb: MmuGather, vma: VmArea): Kthread {
  const { iMmapRwsem } = hugetlbFileOf(vma);
  warnOnce(k, !isWriteLocked(iMmapRwsem), 'unshared tables are flushed without i_mmap_rwsem');
  yield* call(k.fn.tlbFlushUnsharedTables(k, tlb));
}

/** flush_hugetlb_tlb_range */
export const flushHugetlbTlbRange = (k: Kernel, vma: VmArea, start: number, end: number): Kthread =>
  k.backend.flushTlbRange(k, vma.mm, start, end, PMD_SHIFT);

/**
 * Takes the locks for changing what `vma` maps, as __hugetlb_zap_begin() does. The VMA's before
 * i_mmap_rwsem: a fault that holds the one may wait for the other.
 */
export function* hugetlbLockWrite(k: Kernel, vma: VmArea): Kthread {
  yield* downWrite(hugetlbVmaLock(k, vma));
  yield* downWrite(hugetlbFileOf(vma).iMmapRwsem);
}

/** Drops them. */
export function* hugetlbUnlockWrite(k: Kernel, vma: VmArea): Kthread {
  yield* upWrite(hugetlbFileOf(vma).iMmapRwsem);
  yield* upWrite(hugetlbVmaLock(k, vma));
}

/**
 * Lets the shared tables of [start, end) go, which is whole 1 GiB.
 *
 * @kernel mm/hugetlb.c hugetlb_unshare_pmds
 */
function* hugetlbUnsharePmds(k: Kernel, vma: VmArea, start: number, end: number): Kthread {
  if (!vma.flags.shared) return;
  const tlb = yield* call(tlbGatherMmuVma(k, vma));
  yield* call(hugetlbLockWrite(k, vma));
  for (let addr = start; addr < end; addr += PUD_SIZE) {
    const pmd = yield* call(findEntry(k, vma.mm, addr, Level.pmd));
    if (pmd === null) continue;
    const lock = pmdLock(k, pmd);
    yield* spinLock(lock);
    yield* call(hugePmdUnshare(k, tlb, vma, addr, pmd));
    yield* spinUnlock(lock);
  }
  if (k.rules.unshareInGather) yield* call(hugePmdUnshareFlush(k, tlb, vma));
  else yield* call(flushHugetlbTlbRange(k, vma, start, end));
  yield* call(hugetlbUnlockWrite(k, vma));
  yield* call(k.fn.tlbFinishMmu(k, tlb));
}

/**
 * Before `vma` is split at `addr`: a table for 1 GiB that is in two VMAs then is not shared, because
 * each VMA's lock would guard only a part of it. For others than hugetlb VMAs this is nothing.
 *
 * Not modelled: that the one who splits holds i_mmap_rwsem already; here it is taken.
 *
 * @kernel mm/hugetlb.c hugetlb_split
 */
export function* hugetlbSplit(k: Kernel, vma: VmArea, addr: number): Kthread {
  if (!isVmHugetlb(vma) || addr % PUD_SIZE === 0 || !coversPud(vma, addr)) return;
  const start = alignDown(addr, Level.pud);
  yield* call(hugetlbUnsharePmds(k, vma, start, start + PUD_SIZE));
}

/**
 * Before the VMAs of `mm` are split at the ends of [start, end), where they reach beyond it. Under
 * mmap_lock, held for writing.
 */
export function* hugetlbSplitAround(k: Kernel, mm: MmStruct, start: number, end: number): Kthread {
  for (const border of [start, end]) {
    const vma = vmaLookup(mm, border);
    if (vma !== null && vma.start < border) yield* call(hugetlbSplit(k, vma, border));
  }
}

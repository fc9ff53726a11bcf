/**
 * Address spaces: struct mm_struct and struct vm_area_struct, as far as flushing and freeing need
 * them.
 */
import type { Cell, CpuMask, Pfn } from '@shootdown/machine';
import { newRwSem, newSpinLock, type RwSem, type SpinLock } from './kernel/locking.ts';
import type { Kernel } from './kernel.ts';

/** A file whose pages are mapped: struct address_space. */
export interface AddressSpace {
  readonly name: string;
  /** i_mmap_rwsem: who walks or changes the file's mappings, and shares page tables of them. */
  readonly iMmapRwsem: RwSem;
  /** i_mmap: the VMAs that map it. Under iMmapRwsem. */
  readonly mappings: Set<VmArea>;
  /** The page cache: page frame by index (in pages of the mapping's size). Under iMmapRwsem. */
  readonly pages: Map<number, Pfn>;
}

/** vm_flags, as far as they matter here. */
export interface VmFlags {
  readonly read: boolean;
  readonly write: boolean;
  /** MAP_SHARED. */
  readonly shared: boolean;
  /** VM_HUGETLB. */
  readonly hugetlb: boolean;
  /** VM_HUGEPAGE: MADV_HUGEPAGE was called. */
  readonly hugepage: boolean;
  /** VM_PFNMAP or VM_MIXEDMAP: there may be no struct page behind an entry. */
  readonly pfnmap: boolean;
}

/** struct vm_area_struct: [start, end) of one mm. Changed under mmap_lock, held for writing. */
export interface VmArea {
  readonly mm: MmStruct;
  start: number;
  end: number;
  flags: VmFlags;
  /** The file; null if anonymous. */
  readonly file: AddressSpace | null;
  /** Offset of `start` in the file, in bytes. */
  offset: number;
}

/** struct mm_struct. */
export interface MmStruct {
  /** For messages: `init_mm`, `mm3`. */
  readonly name: string;
  /** The root page table. */
  readonly pgd: Pfn;
  /** mm_cpumask: CPUs that may have translations of this mm. Its upkeep is the backend's. */
  readonly cpumask: Cell<CpuMask>;
  /** tlb_flush_pending: gathers that have changed entries and not flushed yet. */
  readonly tlbFlushPending: Cell<number>;
  /** tlb_flush_batched: pending and flushed generations of batched unmapping (rmap). */
  readonly tlbFlushBatched: Cell<BatchedFlush>;
  readonly mmapLock: RwSem;
  /** Guards the upper levels; the tables of the lowest have locks of their own. */
  readonly pageTableLock: SpinLock;
  /** write_protect_seq: odd while fork write-protects; GUP-fast that pins gives up then. */
  readonly writeProtectSeq: Cell<number>;
  /** mm_users: threads and others that use the address space. */
  readonly users: Cell<number>;
  /** mm_count: users together, and every CPU that borrows the page tables lazily. */
  readonly count: Cell<number>;
  /** What the backend keeps: mm->context. */
  readonly context: unknown;
  /** By address. Under mmap_lock. */
  readonly vmas: VmArea[];
}

/** mm->tlb_flush_batched: two counters that are compared. */
export interface BatchedFlush {
  readonly pending: number;
  readonly flushed: number;
}

const NOTHING_BATCHED: BatchedFlush = { pending: 0, flushed: 0 };

/** mm_init, with the backend's init_new_context. `pgd` is an empty table. */
export function newMm(k: Kernel, name: string, pgd: Pfn): MmStruct {
  const { machine } = k;
  const mm: MmStruct & { context: unknown } = {
    name,
    pgd,
    cpumask: machine.maskCell(`${name}.cpumask`),
    tlbFlushPending: machine.cell(`${name}.tlb_flush_pending`, 0),
    tlbFlushBatched: machine.cell(`${name}.tlb_flush_batched`, NOTHING_BATCHED),
    mmapLock: newRwSem(machine, `${name}.mmap_lock`),
    pageTableLock: newSpinLock(machine, `${name}.page_table_lock`),
    writeProtectSeq: machine.cell(`${name}.write_protect_seq`, 0),
    users: machine.cell(`${name}.mm_users`, 1),
    count: machine.cell(`${name}.mm_count`, 1),
    context: null,
    vmas: [],
  };
  mm.context = k.backend.initNewContext(k, mm);
  return mm;
}

/** is_vm_hugetlb_page */
export const isVmHugetlb = (vma: VmArea): boolean => vma.flags.hugetlb;

/** vma_is_anonymous */
export const isAnonymous = (vma: VmArea): boolean => vma.file === null;

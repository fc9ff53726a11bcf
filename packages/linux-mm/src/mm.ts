/**
 * A kernel with this package's functions in it, and which of those an edition may replace.
 */
import type {
  CoreFunctions,
  Kernel,
  Kthread,
  MmStruct,
  MmuGather,
  Page,
  SpinLock,
  VmArea,
} from '@shootdown/mmu-gather';
import type { VmFault } from './fault.ts';
import type { GupRange } from './gup.ts';

/** The functions of this package that an edition may replace: called through `k.fn`. */
export interface MmFunctions {
  changeProtection(k: MmKernel, tlb: MmuGather, vma: VmArea, to: ProtectionChange): Kthread<number>;
  doWpPage(k: MmKernel, vmf: VmFault, lock: SpinLock): Kthread<FaultResult>;
  collapseHugePage(k: MmKernel, mm: MmStruct, addr: number): Kthread<CollapseResult>;
  gupFastPgdRange(k: MmKernel, range: GupRange): Kthread<number>;
  perfGetPageSize(k: MmKernel, addr: number): Kthread<number>;
  /** A fresh page goes on an LRU list, by a batch of this CPU or at once. */
  folioAddLru(k: Kernel, page: Page): Kthread;
  /** The batch of this CPU goes on the lists; those of all. */
  lruAddDrain(k: Kernel): Kthread;
  lruAddDrainAll(k: Kernel): Kthread;
}

/** A kernel that linux-mm's functions run in. */
export type MmKernel = Kernel<CoreFunctions & MmFunctions>;

/** What change_protection() is asked to do. */
export interface ProtectionChange {
  readonly start: number;
  readonly end: number;
  /** Whether the new protection lets user mode write. */
  readonly write: boolean;
  /** Whether it lets user mode read at all: PROT_NONE does not. */
  readonly read: boolean;
}

/** How a fault went: done, to be tried again, or an error that user mode sees. */
export type FaultResult = 'done' | 'retry' | 'sigsegv' | 'oom';

/** enum scan_result, as far as it is modelled. */
export type CollapseResult =
  | 'succeeded'
  | 'alloc-huge-page-fail'
  | 'vma-check'
  | 'pmd-null'
  | 'pmd-mapped'
  | 'pte-non-present'
  | 'page-count';

/** Errors of system calls: negative, as the kernel returns them. */
export const Errno = {
  EAGAIN: -11,
  ENOMEM: -12,
  EFAULT: -14,
  EEXIST: -17,
  EINVAL: -22,
} as const;

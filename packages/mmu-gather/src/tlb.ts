/**
 * The contract between the core and an architecture's TLB code: what linux-mm and mmu_gather ask of
 * a backend, and what a backend says about itself. The defaults are conservative: whoever says
 * nothing claims nothing, and pays for it.
 *
 * Follows include/asm-generic/tlb.h and the flush_tlb_*() functions that every architecture has.
 */
import {
  call,
  type CpuId,
  type CpuMask,
  type EnvironmentMove,
  type PhysAddr,
  UsageError,
} from '@shootdown/machine';
import type { Kconfig } from './kconfig.ts';
import type { Edition, Kernel, Kthread } from './kernel.ts';
import type { MmuGather } from './mmuGather.ts';
import type { MmStruct } from './mmStruct.ts';
import type { Page } from './kernel/pageAlloc.ts';

/** End of a flush of everything: TLB_FLUSH_ALL. */
export const TLB_FLUSH_ALL: number = Infinity;

/** `flush_tlb_info.new_tlb_gen` of a flush that belongs to no generation. */
export const TLB_GENERATION_INVALID = 0;

/** What one flush is asked to do. */
export interface FlushTlbInfo {
  /** Null: of no particular mm. */
  readonly mm: MmStruct | null;
  /** First address. */
  readonly start: number;
  /** Behind the last address, or `TLB_FLUSH_ALL`. */
  readonly end: number;
  /** log2 of the bytes of an entry. */
  readonly strideShift: number;
  /** Page tables go too, so lazy CPUs and paging-structure caches matter. */
  readonly freedTables: boolean;
}

/** struct arch_tlbflush_unmap_batch: flushes that an unmapper has put off. */
export interface TlbBatch {
  /** CPUs that may hold what was unmapped. Owned by one task, so no cell. */
  readonly cpumask: CpuMask;
  /** Whether anything was unmapped. */
  unmappedPages: boolean;
}

/** What a backend says about itself. Each departure from the default is a claim to be refuted. */
export interface TlbClaims {
  /**
   * flush_tlb_multi_implies_ipi_broadcast: when a flush with freedTables returns, every irqs-off
   * section on a CPU that had the mm loaded (lazily too) and that began before the flush has ended.
   * Default false.
   */
  readonly flushTlbMultiImpliesIpiBroadcast: boolean;
  /** When a flush returns, the caller's earlier stores are visible to every CPU. Default false. */
  readonly flushImpliesSmpMb: boolean;
  /**
   * tlb_needs_table_invalidate(): hardware walkers may cache upper levels, so tables are invalidated
   * before they are freed. Default true.
   */
  readonly needsTableInvalidate: boolean;
}

/** Where the code that a backend follows is. */
export interface KernelRef {
  /** A release or a commit. */
  readonly tree: string;
  readonly path: string;
  readonly symbol: string;
}

/** A cost that a backend knows better than the table of sim, in nanoseconds. */
export interface BackendCost {
  readonly ns: number;
  readonly source: string;
}

/** A backend: a plain object from a factory. */
export interface TlbBackend {
  readonly apiVersion: 1;
  /** `native`, `kvm`, ... */
  readonly id: string;
  readonly models: KernelRef;
  readonly claims: TlbClaims;
  /** What a posted series made this backend claim, by edition. */
  readonly claimsIn?: Readonly<Record<string, Partial<TlbClaims>>> | undefined;
  /** What its architecture selects. */
  readonly kconfig: Partial<Kconfig>;
  /** Makes the state that the backend keeps per kernel: `Kernel.arch`. */
  boot(k: Kernel, editions: readonly Edition[]): unknown;
  /** init_new_context: what the backend keeps per mm. */
  initNewContext(k: Kernel, mm: MmStruct): unknown;
  /** switch_mm_irqs_off. */
  switchMm(k: Kernel, cpu: CpuId, next: MmStruct): Kthread;
  /** enter_lazy_tlb. */
  enterLazyTlb(k: Kernel, cpu: CpuId): Kthread;
  /** flush_tlb_mm_range. */
  flushTlbMmRange(k: Kernel, info: FlushTlbInfo): Kthread;
  /** flush_tlb_range: a range of a VMA, after changes that may include a cleared upper entry. */
  flushTlbRange(k: Kernel, mm: MmStruct, start: number, end: number, strideShift: number): Kthread;
  /** flush_tlb_kernel_range. */
  flushTlbKernelRange(k: Kernel, start: number, end: number): Kthread;
  /** flush_tlb_all. */
  flushTlbAll(k: Kernel): Kthread;
  /** arch_tlbbatch_should_defer. */
  batchShouldDefer(k: Kernel, mm: MmStruct): Kthread<boolean>;
  /** arch_tlbbatch_add_pending. */
  batchAddPending(k: Kernel, batch: TlbBatch, mm: MmStruct, addr: number): Kthread;
  /** arch_tlbbatch_flush. */
  batchFlush(k: Kernel, batch: TlbBatch): Kthread;
  /** pte_needs_flush: whether hardware may still use `old` in a way that `now` forbids. */
  pteNeedsFlush(old: number, now: number): boolean;
  /** tlb_flush, if the architecture has its own. */
  tlbFlush?: ((k: Kernel, tlb: MmuGather) => Kthread) | undefined;
  /** ptep_get_and_clear, if clearing an entry also invalidates it; gives the old entry. */
  ptepGetAndClear?:
    ((k: Kernel, mm: MmStruct, addr: number, at: PhysAddr) => Kthread<number>) | undefined;
  /** How a page table leaves, if the architecture does not take tlb_remove_table(). */
  tlbRemoveTable?: ((k: Kernel, tlb: MmuGather, table: Page) => Kthread) | undefined;
  /** Every return to user mode and every entry from it, if the backend has work there. */
  exitToUserMode?: ((k: Kernel, cpu: CpuId) => Kthread) | undefined;
  enterFromUserMode?: ((k: Kernel, cpu: CpuId) => Kthread) | undefined;
  /** What nobody asked for: a host that preempts a vCPU, say. */
  environment?: ((cpus: number) => readonly EnvironmentMove[]) | undefined;
  readonly costs?: Readonly<Record<string, BackendCost>> | undefined;
}

/**
 * tlb_table_flush_implies_ipi_broadcast(): whether a flush that frees tables, or unshares them, has
 * interrupted every CPU that could be walking them.
 */
export const tlbTableFlushImpliesIpiBroadcast = (k: Kernel): boolean =>
  k.claims.flushTlbMultiImpliesIpiBroadcast;

/** What a backend must bring; the rest has a default. */
export type BackendParts = Pick<
  TlbBackend,
  | 'id'
  | 'models'
  | 'switchMm'
  | 'enterLazyTlb'
  | 'flushTlbMmRange'
  | 'flushTlbKernelRange'
  | 'flushTlbAll'
> &
  Partial<Omit<TlbBackend, 'claims' | 'apiVersion'>> & { readonly claims?: Partial<TlbClaims> };

/** What a backend claims that says nothing. */
export const NO_CLAIMS: TlbClaims = {
  flushTlbMultiImpliesIpiBroadcast: false,
  flushImpliesSmpMb: false,
  needsTableInvalidate: true,
};

/**
 * Makes a backend of its parts: fills conservative defaults and freezes it.
 *
 * @throws UsageError ERR_BACKEND for parts that contradict each other, by name.
 */
export function defineTlbBackend(parts: BackendParts): TlbBackend {
  if (!/^[a-z][a-z0-9-]*$/.test(parts.id))
    throw wrong(`a backend's id is lower-case letters, digits and '-', not '${parts.id}'`);
  const batch = [parts.batchShouldDefer, parts.batchAddPending, parts.batchFlush];
  if (batch.some((part) => part !== undefined) && batch.includes(undefined))
    throw wrong(
      `${parts.id} has some of batchShouldDefer, batchAddPending and batchFlush: bring all or none`,
    );
  if ((parts.exitToUserMode === undefined) !== (parts.enterFromUserMode === undefined))
    throw wrong(`${parts.id} has one of exitToUserMode and enterFromUserMode: bring both or none`);
  const claims: TlbClaims = { ...NO_CLAIMS, ...parts.claims };
  if (claims.flushTlbMultiImpliesIpiBroadcast && !claims.flushImpliesSmpMb)
    throw wrong(
      `${parts.id} claims flushTlbMultiImpliesIpiBroadcast but not flushImpliesSmpMb: an IPI that was waited for orders memory too`,
    );
  return Object.freeze({ ...DEFAULTS, apiVersion: 1, ...parts, claims: Object.freeze(claims) });
}

const wrong = (why: string): UsageError => new UsageError('ERR_BACKEND', why);

const NO_STEPS: readonly never[] = [];

/** Without a batch every unmapped entry is flushed at once; without an opinion all need a flush. */
const DEFAULTS: Pick<
  TlbBackend,
  | 'kconfig'
  | 'boot'
  | 'initNewContext'
  | 'flushTlbRange'
  | 'batchShouldDefer'
  | 'batchAddPending'
  | 'batchFlush'
  | 'pteNeedsFlush'
> = {
  kconfig: {},
  boot: () => null,
  initNewContext: () => null,
  *flushTlbRange(k, mm, start, end, strideShift) {
    const info = { mm, start, end, strideShift, freedTables: true };
    yield* call(k.backend.flushTlbMmRange(k, info));
  },
  *batchShouldDefer() {
    yield* NO_STEPS;
    return false;
  },
  *batchAddPending() {},
  *batchFlush() {},
  pteNeedsFlush: () => true,
};

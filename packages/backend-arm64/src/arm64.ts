/**
 * arm64: the hardware tells every CPU to forget a translation, and no CPU is interrupted. So a flush
 * says nothing about lockless walkers: page tables outlive them by RCU alone.
 *
 * Follows arch/arm64/include/asm/tlb.h; the flushes are in tlbflush.ts, address space ids in context.ts.
 */
import { call, UsageError } from '@shootdown/machine';
import {
  defineTlbBackend,
  type Kconfig,
  type Kernel,
  type Kthread,
  type MmuGather,
  type TlbBackend,
  tlbGetUnmapShift,
} from '@shootdown/mmu-gather';
import {
  type Arm64Features,
  bootArm64,
  DEFAULT_FEATURES,
  enterLazyTlb,
  initNewContext,
  switchMm,
} from './context.ts';
import {
  __flushTlbRange,
  archTlbbatchAddPending,
  archTlbbatchFlush,
  archTlbbatchShouldDefer,
  flushTlbAll,
  flushTlbKernelRange,
  flushTlbMm,
  flushTlbMmRange,
} from './tlbflush.ts';

/** Options of the arm64 backend. */
export interface Arm64Options {
  /** Features of the CPUs. Default: 16-bit ASIDs, no range TLBI. */
  readonly features?: Partial<Arm64Features> | undefined;
}

/**
 * What arm64 selects: no MMU_GATHER_MERGE_VMAS, so tlb_end_vma() flushes. Not modelled: that PT_RECLAIM
 * came to arm64 later than to x86-64.
 */
export const ARM64_KCONFIG: Partial<Kconfig> = {
  MMU_GATHER_RCU_TABLE_FREE: true,
  PT_RECLAIM: true,
  HUGETLB_PMD_PAGE_TABLE_SHARING: true,
};

/**
 * The arm64 backend. It keeps no mm_cpumask: a broadcast needs to know nobody.
 *
 * @throws UsageError ERR_BACKEND for a width of ASIDs that the architecture does not have.
 */
export function arm64(options: Arm64Options = {}): TlbBackend {
  const features: Arm64Features = { ...DEFAULT_FEATURES, ...options.features };
  if (![8, 16].includes(features.asidBits))
    throw new UsageError(
      'ERR_BACKEND',
      `ASIDs of arm64 have 8 or 16 bits, not ${features.asidBits}`,
    );
  return defineTlbBackend({
    id: 'arm64',
    models: {
      tree: '7.0',
      path: 'arch/arm64/include/asm/tlbflush.h',
      symbol: '__flush_tlb_range_nosync',
    },
    // DSB ISH orders every earlier access of this CPU before every later one, for all CPUs.
    claims: { flushImpliesSmpMb: true },
    kconfig: ARM64_KCONFIG,
    boot: (k) => bootArm64(k, features),
    initNewContext,
    switchMm,
    enterLazyTlb,
    flushTlbMmRange,
    flushTlbKernelRange,
    flushTlbAll,
    batchShouldDefer: archTlbbatchShouldDefer,
    batchAddPending: archTlbbatchAddPending,
    batchFlush: archTlbbatchFlush,
    tlbFlush,
  });
}

/**
 * The last user of an mm flushes nothing: its ASID is not used again before a roll-over, and that
 * drops everything. Tables are different: a CPU that still has the mm loaded, lazily, may walk them.
 *
 * @kernel arch/arm64/include/asm/tlb.h tlb_flush
 */
function* tlbFlush(k: Kernel, tlb: MmuGather): Kthread {
  const { mm, start, end } = tlb;
  const lastLevel = !(tlb.freedTables || tlb.unsharedTables);
  if (tlb.fullmm) {
    if (!lastLevel) yield* call(flushTlbMm(k, mm));
    return;
  }
  const strideShift = tlbGetUnmapShift(tlb);
  yield* call(__flushTlbRange(k, mm, { start, end, strideShift, lastLevel }));
}

/**
 * Builds an x86 backend from its pv_ops.mmu: the five x86 backends are little more than those.
 */
import {
  type BackendParts,
  defineTlbBackend,
  type Kconfig,
  type KernelRef,
  type TlbBackend,
  type TlbClaims,
  tlbRemoveTablePage,
} from '@shootdown/mmu-gather';
import { flushTlbAll } from './flushLocal.ts';
import { nativePvTlbInit } from './native.ts';
import { pteNeedsFlush } from './pteFlags.ts';
import { switchToKernelCr3, switchToUserCr3 } from './pti.ts';
import {
  enterLazyTlb,
  flushTlbFunc,
  flushTlbMmRange,
  shouldFlushTlb,
  switchMmIrqsOff,
} from './tlb.ts';
import { x86TlbFlush } from './tlbFlush.ts';
import { archTlbbatchAddPending, archTlbbatchFlush, archTlbbatchShouldDefer } from './tlbbatch.ts';
import {
  bootX86,
  initNewContext,
  type PvMmuOps,
  x86,
  type X86Features,
  type X86Functions,
} from './x86.ts';

/** This package's replaceable functions, as mainline has them. */
export const x86Functions: X86Functions = {
  switchMmIrqsOff,
  flushTlbFunc,
  shouldFlushTlb,
  flushTlbMmRange,
  x86TlbFlush,
};

/** What x86-64 selects. PT_RECLAIM holds from the release on that has it. */
export const X86_KCONFIG: Partial<Kconfig> = {
  MMU_GATHER_RCU_TABLE_FREE: true,
  MMU_GATHER_MERGE_VMAS: true,
  PT_RECLAIM: true,
  HUGETLB_PMD_PAGE_TABLE_SHARING: true,
};

/** A modern CPU with nothing to mitigate. */
export const DEFAULT_FEATURES: X86Features = { pcid: true, invpcid: true, pti: false };

/** What an x86 backend is made of. */
export interface X86BackendParts {
  readonly id: string;
  readonly models: KernelRef;
  readonly pv: PvMmuOps;
  readonly claims?: Partial<Omit<TlbClaims, 'flushTlbMultiImpliesIpiBroadcast'>>;
  readonly claimsIn?: TlbBackend['claimsIn'];
  readonly features?: Partial<X86Features> | undefined;
  readonly environment?: TlbBackend['environment'];
  readonly costs?: TlbBackend['costs'];
  /** Changes to the parts themselves: for a backend that is not only its pv ops. */
  readonly parts?: Partial<BackendParts> | undefined;
}

/**
 * An x86 backend.
 *
 * @throws UsageError ERR_BACKEND
 */
export function x86Backend(of: X86BackendParts): TlbBackend {
  const { id, models, pv } = of;
  const features: X86Features = { ...DEFAULT_FEATURES, ...of.features };
  return defineTlbBackend({
    id,
    models,
    claims: {
      // The locked increment of the generation, and whatever the flush waits for.
      flushImpliesSmpMb: true,
      ...of.claims,
      flushTlbMultiImpliesIpiBroadcast: nativePvTlbInit(pv),
    },
    claimsIn: of.claimsIn,
    kconfig: X86_KCONFIG,
    boot: (k, editions) => bootX86(k, editions, { features, pv, fn: x86Functions }),
    initNewContext,
    switchMm: (k, _cpu, next) => x86(k).fn.switchMmIrqsOff(k, next),
    enterLazyTlb: (k) => enterLazyTlb(k),
    flushTlbMmRange: (k, info) => x86(k).fn.flushTlbMmRange(k, info),
    flushTlbRange: (k, mm, start, end, strideShift) => {
      const freedTables = k.rules.flushRangeFreesTables;
      return x86(k).fn.flushTlbMmRange(k, { mm, start, end, strideShift, freedTables });
    },
    flushTlbKernelRange: (k, start, end) => pv.flushTlbKernel(k, start, end),
    flushTlbAll,
    batchShouldDefer: archTlbbatchShouldDefer,
    batchAddPending: archTlbbatchAddPending,
    batchFlush: archTlbbatchFlush,
    pteNeedsFlush,
    tlbFlush: (k, tlb) => x86(k).fn.x86TlbFlush(k, tlb),
    tlbRemoveTable,
    ...(features.pti
      ? { exitToUserMode: switchToUserCr3, enterFromUserMode: switchToKernelCr3 }
      : {}),
    environment: of.environment,
    costs: of.costs,
    ...of.parts,
  });
}

/** paravirt_tlb_remove_table, while there was one: natively the flush's interrupts are enough. */
const tlbRemoveTable: NonNullable<TlbBackend['tlbRemoveTable']> = (k, tlb, table) =>
  k.rules.pvRemovesTables && x86(k).pv.tlbRemoveTable === 'page'
    ? tlbRemoveTablePage(k, tlb, table)
    : k.fn.tlbRemoveTable(k, tlb, table);

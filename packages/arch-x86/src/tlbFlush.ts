/**
 * x86's tlb_flush(): what a gather has collected, as one flush.
 *
 * Follows arch/x86/include/asm/tlb.h.
 */
import { call } from '@shootdown/machine';
import {
  type Kernel,
  type Kthread,
  type MmuGather,
  TLB_FLUSH_ALL,
  tlbGetUnmapShift,
} from '@shootdown/mmu-gather';

/**
 * Flushes what `tlb` has collected; `freedTables`: lazy CPUs are reached, because what they have cached
 * of upper levels matters.
 */
export function* flushGathered(k: Kernel, tlb: MmuGather, freedTables: boolean): Kthread {
  const { mm } = tlb;
  const whole = tlb.fullmm || tlb.needFlushAll;
  const start = whole ? 0 : tlb.start;
  const end = whole ? TLB_FLUSH_ALL : tlb.end;
  const strideShift = tlbGetUnmapShift(tlb);
  yield* call(k.backend.flushTlbMmRange(k, { mm, start, end, strideShift, freedTables }));
}

/** @kernel arch/x86/include/asm/tlb.h tlb_flush */
export const x86TlbFlush = (k: Kernel, tlb: MmuGather): Kthread =>
  flushGathered(k, tlb, tlb.freedTables);

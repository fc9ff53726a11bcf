/**
 * Flushes that an unmapper puts off: reclaim and migration clear many entries of many mms and flush
 * once. Every entry raises its mm's generation, so CPUs that do not run it need not be told.
 *
 * Follows arch/x86/include/asm/tlbflush.h and arch_tlbbatch_flush() of arch/x86/mm/tlb.c.
 */
import { call, type CpuId, type CpuMask, readMask } from '@shootdown/machine';
import {
  type Kernel,
  type Kthread,
  type MmStruct,
  smpProcessorId,
  TLB_FLUSH_ALL,
  TLB_GENERATION_INVALID,
  type TlbBatch,
} from '@shootdown/mmu-gather';
import { flushHere, hasOtherCpu, incMmTlbGen } from './tlb.ts';
import { type FlushTlbInfo, x86 } from './x86.ts';

/** arch_tlbbatch_should_defer: where only this CPU is concerned, flushing at once is as cheap. */
export const archTlbbatchShouldDefer = (k: Kernel, mm: MmStruct): Kthread<boolean> =>
  hasOtherCpu(mm, smpProcessorId(k));

/** arch_tlbbatch_add_pending */
export function* archTlbbatchAddPending(_k: Kernel, batch: TlbBatch, mm: MmStruct): Kthread {
  yield* call(incMmTlbGen(mm));
  for (const cpu of yield* readMask(mm.cpumask)) batch.cpumask.set(cpu);
  batch.unmappedPages = true;
}

/** @kernel arch/x86/mm/tlb.c arch_tlbbatch_flush */
export function* archTlbbatchFlush(k: Kernel, batch: TlbBatch): Kthread {
  const cpu = smpProcessorId(k);
  const info: FlushTlbInfo = {
    mm: null,
    start: 0,
    end: TLB_FLUSH_ALL,
    strideShift: 0,
    freedTables: false,
    newTlbGen: TLB_GENERATION_INVALID,
    initiatingCpu: cpu,
    trimCpumask: false,
  };
  if (hasOther(batch.cpumask, cpu)) yield* call(x86(k).pv.flushTlbMulti(k, batch.cpumask, info));
  else if (batch.cpumask.has(cpu)) yield* call(flushHere(k, info));
  for (const member of batch.cpumask) batch.cpumask.clear(member);
  batch.unmappedPages = false;
}

const hasOther = (mask: CpuMask, cpu: CpuId): boolean => {
  const first = mask.next(0);
  return first !== -1 && (first !== cpu || mask.next(cpu + 1) !== -1);
};

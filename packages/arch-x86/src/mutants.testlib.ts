/** Mistakes in the protocol, each as a replacement of one of this package's functions. */
import { call, readOnce, smpRmb, writeOnce } from '@shootdown/machine';
import {
  type Kernel,
  type MmStruct,
  smpProcessorId,
  TLB_GENERATION_INVALID,
} from '@shootdown/mmu-gather';
import { chooseNewAsid, loadNewMmCr3 } from './asid.ts';
import { flushTlbFunc, flushTlbMmRange, shouldFlushTlb, switchMmIrqsOff } from './tlb.ts';
import {
  contextOf,
  LOADED_MM_SWITCHING,
  type TlbContext,
  tlbstate,
  type X86Functions,
} from './x86.ts';

const ctxsHere = (k: Kernel): readonly TlbContext[] => tlbstate(k, smpProcessorId(k)).ctxs;

/** The ASID that this CPU keeps for `mm`, as if it were up to date. */
function pretendCurrent(k: Kernel, mm: MmStruct): void {
  const { ctxId, tlbGen } = contextOf(mm);
  for (const ctx of ctxsHere(k)) if (ctx.ctxId === ctxId) ctx.tlbGen = tlbGen.value;
}

/** A switch does not compare generations: whatever is cached counts as current. */
export const switchComparesNothing: Partial<X86Functions> = {
  *switchMmIrqsOff(k, next) {
    pretendCurrent(k, next);
    yield* call(switchMmIrqsOff(k, next));
  },
};

/** A partial flush although an earlier one is missing here. */
export const gapsAreIgnored: Partial<X86Functions> = {
  *flushTlbFunc(k, info) {
    const { loadedMmAsid, loadedMm } = tlbstate(k, smpProcessorId(k));
    const ctx = ctxsHere(k)[loadedMmAsid];
    if (ctx !== undefined && loadedMm.value === info.mm && ctx.tlbGen < info.newTlbGen - 1)
      ctx.tlbGen = info.newTlbGen - 1;
    yield* call(flushTlbFunc(k, info));
  },
};

/** Freed tables are no reason to interrupt a lazy CPU. */
export const lazyCpusAreSpared: Partial<X86Functions> = {
  flushTlbMmRange: (k, info) => flushTlbMmRange(k, { ...info, freedTables: false }),
};

/** A CPU that is just switching is taken for one that is elsewhere. */
export const switchersAreSpared: Partial<X86Functions> = {
  *shouldFlushTlb(k, cpu, info) {
    const loaded = yield* readOnce(tlbstate(k, cpu).loadedMm);
    yield* smpRmb();
    if (info.mm !== null && loaded === LOADED_MM_SWITCHING) return false;
    return yield* call(shouldFlushTlb(k, cpu, info));
  },
};

/** Nobody but the initiator flushes. */
export const nobodyIsInterrupted: Partial<X86Functions> = {
  *shouldFlushTlb(k, cpu) {
    yield* smpRmb();
    return cpu === smpProcessorId(k);
  },
};

/**
 * As Linux was from 6.14 until "x86/mm: Fix SMP ordering in switch_mm_irqs_off()": where the bit in
 * mm_cpumask is set already, nothing keeps the generation from being read before loaded_mm is seen
 * to change.
 */
export const noFenceAtSwitch: Partial<X86Functions> = {
  *switchMmIrqsOff(k, next) {
    const cpu = smpProcessorId(k);
    const state = tlbstate(k, cpu);
    if (state.loadedMm.value === next || !next.cpumask.value.has(cpu)) {
      yield* call(switchMmIrqsOff(k, next));
      return;
    }
    if (state.isLazy.value) yield* writeOnce(state.isLazy, false);
    yield* writeOnce(state.loadedMm, LOADED_MM_SWITCHING);
    const tlbGen = yield* readOnce(contextOf(next).tlbGen);
    const chosen = chooseNewAsid(k, state, next, tlbGen);
    const { ctxId } = contextOf(next);
    if (chosen.needFlush) Object.assign(state.ctxs[chosen.asid] ?? {}, { ctxId, tlbGen });
    yield* call(loadNewMmCr3(k, state, next, chosen));
    yield* writeOnce(state.loadedMm, next);
    state.loadedMmAsid = chosen.asid;
  },
};

/** After a flush the ASID is at the generation that was asked for, not at the one that was read. */
export const generationAskedFor: Partial<X86Functions> = {
  *flushTlbFunc(k, info) {
    const { loadedMmAsid } = tlbstate(k, smpProcessorId(k));
    const ctx = ctxsHere(k)[loadedMmAsid];
    const before = ctx?.tlbGen ?? 0;
    yield* call(flushTlbFunc(k, info));
    if (ctx === undefined || ctx.tlbGen === before) return;
    if (info.newTlbGen !== TLB_GENERATION_INVALID) ctx.tlbGen = info.newTlbGen;
  },
};

/**
 * The tlb_gen protocol: which CPU has to forget what, and how little of it.
 *
 * A flush raises the mm's generation, then interrupts the CPUs that run the mm. A CPU that does not
 * run it compares generations when it comes back to it, so nobody has to wake it up. What makes that
 * sound is one store-buffering pair: the flusher stores its entry, raises the generation by a locked
 * instruction and then reads mm_cpumask and loaded_mm; the switcher announces itself in mm_cpumask
 * by a locked instruction and then reads the generation. One of the two sees the other.
 *
 * Follows arch/x86/mm/tlb.c.
 */
import {
  assert,
  atomicFetchAdd,
  call,
  type CallFunction,
  clearBit,
  type CpuId,
  localIrqDisable,
  localIrqEnable,
  readMask,
  readOnce,
  setBit,
  smpMb,
  smpRmb,
  testBit,
  writeOnce,
} from '@shootdown/machine';
import {
  type CpuMaskPtr,
  type FlushTlbInfo as GenericFlush,
  HZ,
  jiffies,
  type Kernel,
  type Kthread,
  type MmStruct,
  onEachCpuCondMask,
  PAGE_SHIFT,
  smpProcessorId,
  timeAfter,
  TLB_FLUSH_ALL,
  TLB_GENERATION_INVALID,
  TlbReason,
  traceTlbFlush,
  warnOnce,
} from '@shootdown/mmu-gather';
import { chooseNewAsid, loadNewMmCr3, type NewAsid } from './asid.ts';
import { tlbSinglePageFlushCeiling } from './ceiling.ts';
import { nativeFlushTlbLocal } from './flushLocal.ts';
import {
  contextOf,
  type CpuTlbState,
  type FlushTlbInfo,
  LOADED_MM_SWITCHING,
  tlbstate,
  x86,
} from './x86.ts';

/**
 * Loads `next` on this CPU, with interrupts off.
 *
 * @kernel arch/x86/mm/tlb.c switch_mm_irqs_off
 */
export function* switchMmIrqsOff(k: Kernel, next: MmStruct): Kthread {
  const cpu = smpProcessorId(k);
  const state = tlbstate(k, cpu);
  const prev = yield* readOnce(state.loadedMm);
  const wasLazy = yield* readOnce(state.isLazy);
  assert(prev !== LOADED_MM_SWITCHING, 'switches do not nest');
  assert(!k.machine.cpu(cpu).irqsOn, 'flush_tlb_func() does not come in between');
  if (wasLazy) yield* writeOnce(state.isLazy, false);
  const asid = yield* call(
    prev === next ? reenter(k, state, next, wasLazy) : enter(k, state, prev, next),
  );
  if (asid === null) return;
  if (asid.needFlush) {
    const ctx = contextAt(state, asid.asid);
    ctx.ctxId = contextOf(next).ctxId;
    ctx.tlbGen = asid.nextTlbGen;
  }
  yield* call(loadNewMmCr3(k, state, next, asid));
  traceTlbFlush(k, TlbReason.TLB_FLUSH_ON_TASK_SWITCH, asid.needFlush ? TLB_FLUSH_ALL : 0);
  // CR3 before loaded_mm: barrier() here, the order of stores on the hardware.
  yield* writeOnce(state.loadedMm, next);
  state.loadedMmAsid = asid.asid;
}

const NOT_ITS_ASID = 'a CPU runs an mm under an ASID that is not its own';

interface SwitchTo extends NewAsid {
  readonly nextTlbGen: number;
}

/** prev == next: a thread of the same process, or back from lazy mode. Null: nothing to load. */
function* reenter(
  k: Kernel,
  state: CpuTlbState,
  next: MmStruct,
  wasLazy: boolean,
): Kthread<SwitchTo | null> {
  const cpu = smpProcessorId(k);
  const asid = state.loadedMmAsid;
  warnOnce(k, contextAt(state, asid).ctxId !== contextOf(next).ctxId, NOT_ITS_ASID);
  if (next !== k.initMm && !(yield* testBit(next.cpumask, cpu))) {
    warnOnce(k, true, 'a CPU has an mm loaded and is not in its mm_cpumask');
    yield* setBit(next.cpumask, cpu);
  }
  if (!wasLazy) return null;
  // Pairs with incMmTlbGen(): is_lazy = false above, before the generation is read.
  yield* smpMb();
  const nextTlbGen = yield* readOnce(contextOf(next).tlbGen);
  if (contextAt(state, asid).tlbGen === nextTlbGen) return null;
  return { asid, needFlush: true, nextTlbGen };
}

function* enter(k: Kernel, state: CpuTlbState, prev: MmStruct, next: MmStruct): Kthread<SwitchTo> {
  const cpu = smpProcessorId(k);
  yield* writeOnce(state.loadedMm, LOADED_MM_SWITCHING);
  if (k.rules.cpumaskClearedLazily) {
    // The bit of prev stays until a flush finds this CPU elsewhere.
    if (next !== k.initMm && !(yield* testBit(next.cpumask, cpu))) yield* setBit(next.cpumask, cpu);
    // Pairs with incMmTlbGen(): where no bit was set by a locked instruction.
    else yield* smpMb();
  } else {
    if (prev !== k.initMm) {
      warnOnce(k, !prev.cpumask.value.has(cpu), 'a CPU leaves an mm whose mm_cpumask it is not in');
      yield* clearBit(prev.cpumask, cpu);
    }
    // A locked instruction: pairs with incMmTlbGen().
    if (next !== k.initMm) yield* setBit(next.cpumask, cpu);
  }
  const nextTlbGen = yield* readOnce(contextOf(next).tlbGen);
  return { ...chooseNewAsid(k, state, next, nextTlbGen), nextTlbGen };
}

function contextAt(state: CpuTlbState, asid: number): CpuTlbState['ctxs'][number] {
  const ctx = state.ctxs[asid];
  assert(ctx !== undefined, 'an ASID is one of six');
  return ctx;
}

/**
 * A kernel thread or the idle loop borrows what is loaded. The CPU stays in mm_cpumask; who flushes
 * looks at is_lazy.
 *
 * @kernel arch/x86/mm/tlb.c enter_lazy_tlb
 */
export function* enterLazyTlb(k: Kernel): Kthread {
  const state = tlbstate(k, smpProcessorId(k));
  if ((yield* readOnce(state.loadedMm)) === k.initMm) return;
  yield* writeOnce(state.isLazy, true);
}

/**
 * Brings this CPU up to the generation of the mm it has loaded, if that is what was asked for, with
 * interrupts off. Partial only if the flush asked for is exactly the one that is missing here.
 *
 * @kernel arch/x86/mm/tlb.c flush_tlb_func
 */
export function* flushTlbFunc(k: Kernel, info: FlushTlbInfo): Kthread {
  const cpu = smpProcessorId(k);
  const state = tlbstate(k, cpu);
  const { vmstat, tlbRow } = k.stats;
  const loadedMm = yield* readOnce(state.loadedMm);
  const local = cpu === info.initiatingCpu;
  if (!local) {
    tlbRow[cpu] = (tlbRow[cpu] ?? 0) + 1;
    vmstat.nr_tlb_remote_flush_received++;
  }
  if (info.mm !== null && info.mm !== loadedMm) {
    // Where the mask is cleared late this CPU was left in it: also one that flushes another's mm.
    if (k.rules.cpumaskClearedLazily) {
      yield* clearBit(info.mm.cpumask, cpu);
      traceTlbFlush(k, TlbReason.TLB_REMOTE_WRONG_CPU, 0);
      return;
    }
    // Else it has left the mm while the interrupt was on its way.
    if (!local) return;
  }
  if (loadedMm === k.initMm) return;
  assert(loadedMm !== LOADED_MM_SWITCHING, 'a switch has interrupts off');
  const ctx = contextAt(state, state.loadedMmAsid);
  warnOnce(k, ctx.ctxId !== contextOf(loadedMm).ctxId, NOT_ITS_ASID);
  if (yield* readOnce(state.isLazy)) {
    // The structure caches must go, and leaving the mm costs no more than flushing it.
    yield* call(x86(k).fn.switchMmIrqsOff(k, k.initMm));
    return;
  }
  const localTlbGen = ctx.tlbGen;
  if (info.newTlbGen !== TLB_GENERATION_INVALID && info.newTlbGen <= localTlbGen) return;
  // Read as late as possible: the line is contended.
  const mmTlbGen = yield* readOnce(contextOf(loadedMm).tlbGen);
  let invalidated = 0;
  if (localTlbGen !== mmTlbGen) {
    warnOnce(k, localTlbGen > mmTlbGen, 'a CPU is ahead of the generation of its mm');
    warnOnce(k, info.newTlbGen > mmTlbGen, 'a flush is ahead of the generation of its mm');
    const isNext = info.newTlbGen === localTlbGen + 1 && info.newTlbGen === mmTlbGen;
    if (info.end !== TLB_FLUSH_ALL && isNext) {
      const stride = 2 ** info.strideShift;
      invalidated = Math.floor((info.end - info.start) / stride);
      for (let addr = info.start; addr < info.end; addr += stride)
        yield* call(x86(k).pv.flushTlbOneUser(k, addr));
      if (local) vmstat.nr_tlb_local_flush_one += invalidated;
    } else {
      invalidated = TLB_FLUSH_ALL;
      yield* call(nativeFlushTlbLocal(k));
      if (local) vmstat.nr_tlb_local_flush_all++;
    }
    ctx.tlbGen = mmTlbGen;
  }
  traceTlbFlush(k, reasonOf(info, local), invalidated);
}

function reasonOf({ mm }: FlushTlbInfo, local: boolean): number {
  if (!local) return TlbReason.TLB_REMOTE_SHOOTDOWN;
  return mm === null ? TlbReason.TLB_LOCAL_SHOOTDOWN : TlbReason.TLB_LOCAL_MM_SHOOTDOWN;
}

/**
 * Whether `cpu` has to be interrupted.
 *
 * @kernel arch/x86/mm/tlb.c should_flush_tlb
 */
export function* shouldFlushTlb(k: Kernel, cpu: CpuId, info: FlushTlbInfo): Kthread<boolean> {
  const state = tlbstate(k, cpu);
  const loadedMm = yield* readOnce(state.loadedMm);
  // Pairs with the order of stores in switchMmIrqsOff(): is_lazy at least as new as loaded_mm.
  yield* smpRmb();
  // It compares generations when it stops being lazy.
  if (yield* readOnce(state.isLazy)) return false;
  // A batched unmap, of whichever mms.
  if (info.mm === null) return true;
  // It may hold state of either mm.
  if (loadedMm === LOADED_MM_SWITCHING) return true;
  if (loadedMm === info.mm) return true;
  return info.trimCpumask;
}

/** The function that targets run, as a recording names it. One per kernel: CSDs keep it. */
const callFlushTlbFunc = (k: Kernel): CallFunction<FlushTlbInfo> => ({
  name: 'flush_tlb_func',
  run: (info) => x86(k).fn.flushTlbFunc(k, info),
});

/**
 * Interrupts those of `cpumask` who need it, and does this CPU's own part meanwhile.
 *
 * @kernel arch/x86/mm/tlb.c native_flush_tlb_multi
 */
export function* nativeFlushTlbMulti(k: Kernel, cpumask: CpuMaskPtr, info: FlushTlbInfo): Kthread {
  k.stats.vmstat.nr_tlb_remote_flush++;
  // Also when nobody turns out to need an interrupt.
  const all = info.end === TLB_FLUSH_ALL;
  const pages = all ? TLB_FLUSH_ALL : Math.floor((info.end - info.start) / 2 ** PAGE_SHIFT);
  traceTlbFlush(k, TlbReason.TLB_REMOTE_SEND_IPI, pages);
  // Where tables go a lazy CPU must not walk what they become, so it cannot be left out.
  const condition = info.freedTables
    ? null
    : (cpu: CpuId, asked: FlushTlbInfo) => x86(k).fn.shouldFlushTlb(k, cpu, asked);
  yield* call(onEachCpuCondMask(k, cpumask, callFlushTlbFunc(k), info, condition));
}

/**
 * inc_mm_tlb_gen: a full barrier. Orders the entries that were changed before the reads of mm_cpumask
 * and loaded_mm. Pairs with switchMmIrqsOff().
 */
export function* incMmTlbGen(mm: MmStruct): Kthread<number> {
  return (yield* atomicFetchAdd(contextOf(mm).tlbGen, 1)) + 1;
}

/** should_trim_cpumask: at most once a second. */
function* shouldTrimCpumask(k: Kernel, mm: MmStruct): Kthread<boolean> {
  const { nextTrimCpumask } = contextOf(mm);
  const now = jiffies(k);
  if (!k.rules.trimsCpumask || !timeAfter(now, yield* readOnce(nextTrimCpumask))) return false;
  yield* writeOnce(nextTrimCpumask, now + HZ);
  return true;
}

/** cpumask_any_but() < nr_cpu_ids */
export function* hasOtherCpu(mm: MmStruct, cpu: CpuId): Kthread<boolean> {
  const mask = yield* readMask(mm.cpumask);
  const first = mask.next(0);
  return first !== -1 && (first !== cpu || mask.next(cpu + 1) !== -1);
}

/**
 * Flushes [start, end) of an mm wherever it is loaded.
 *
 * @kernel arch/x86/mm/tlb.c flush_tlb_mm_range
 */
export function* flushTlbMmRange(k: Kernel, asked: GenericFlush): Kthread {
  const { mm, strideShift } = asked;
  assert(mm !== null, 'a range is flushed of some mm');
  const initiatingCpu = smpProcessorId(k);
  // Strictly more than the ceiling: as many entries as the ceiling are still done one by one.
  const entries = (asked.end - asked.start) / 2 ** strideShift;
  const all = Math.floor(entries) > tlbSinglePageFlushCeiling(k);
  const range = all ? { ...asked, start: 0, end: TLB_FLUSH_ALL } : asked;
  const newTlbGen = yield* call(incMmTlbGen(mm));
  if (yield* call(hasOtherCpu(mm, initiatingCpu))) {
    const trimCpumask = yield* call(shouldTrimCpumask(k, mm));
    const info: FlushTlbInfo = { ...range, newTlbGen, initiatingCpu, trimCpumask };
    yield* call(x86(k).pv.flushTlbMulti(k, mm.cpumask, info));
  } else if ((yield* readOnce(tlbstate(k, initiatingCpu).loadedMm)) === mm)
    yield* call(flushHere(k, { ...range, newTlbGen, initiatingCpu, trimCpumask: false }));
  // Else nobody has it loaded, and who loads it later sees the generation.
}

/** The part of a flush that only this CPU needs. */
export function* flushHere(k: Kernel, info: FlushTlbInfo): Kthread {
  yield* localIrqDisable();
  yield* call(x86(k).fn.flushTlbFunc(k, info));
  yield* localIrqEnable();
}

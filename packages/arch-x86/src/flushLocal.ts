/**
 * Invalidating on this CPU: one address, the current address space, everything.
 *
 * Follows arch/x86/mm/tlb.c.
 */
import {
  call,
  type CallFunction,
  invlpg,
  invpcidAll,
  invpcidOne,
  PAGE_SIZE,
  virtAddr,
  writeCr3,
} from '@shootdown/machine';
import {
  type Kernel,
  type Kthread,
  onEachCpu,
  smpProcessorId,
  TLB_FLUSH_ALL,
} from '@shootdown/mmu-gather';
import { hardwarePcid, invalidateUserAsid, loadedRoot } from './asid.ts';
import { tlbSinglePageFlushCeiling } from './ceiling.ts';
import { tlbstate, userPcid, x86 } from './x86.ts';

/** native_flush_tlb_one_user: `addr` under the current ASID, in both halves. */
export function* nativeFlushTlbOneUser(k: Kernel, addr: number): Kthread {
  yield* invlpg(virtAddr(addr));
  const { features } = x86(k);
  if (!features.pti) return;
  const state = tlbstate(k, smpProcessorId(k));
  if (features.pcid && features.invpcid)
    yield* invpcidOne(userPcid(state.loadedMmAsid), virtAddr(addr));
  else invalidateUserAsid(k, state, state.loadedMmAsid);
}

/** native_flush_tlb_local: CR3 is written with what it holds. */
export function* nativeFlushTlbLocal(k: Kernel): Kthread {
  const cpu = smpProcessorId(k);
  const state = tlbstate(k, cpu);
  invalidateUserAsid(k, state, state.loadedMmAsid);
  yield* writeCr3(loadedRoot(k, cpu), hardwarePcid(k, state.loadedMmAsid), true);
}

/** __flush_tlb_all: global translations too. Without INVPCID: a toggle of CR4.PGE, which is alike. */
export function* __flushTlbAll(): Kthread {
  yield* invpcidAll();
}

/** flush_tlb_one_kernel */
export function* flushTlbOneKernel(k: Kernel, addr: number): Kthread {
  k.stats.vmstat.nr_tlb_local_flush_one++;
  yield* call(x86(k).pv.flushTlbOneUser(k, addr));
  // Under PTI kernel translations are not global: those of the other ASIDs are dropped when taken.
  if (x86(k).features.pti) tlbstate(k, smpProcessorId(k)).invalidateOther = true;
}

const doFlushTlbAll = (k: Kernel): CallFunction<null> => ({
  name: 'do_flush_tlb_all',
  *run() {
    k.stats.vmstat.nr_tlb_remote_flush_received++;
    yield* call(__flushTlbAll());
  },
});

/** @kernel arch/x86/mm/tlb.c flush_tlb_all */
export function* flushTlbAll(k: Kernel): Kthread {
  k.stats.vmstat.nr_tlb_remote_flush++;
  yield* call(onEachCpu(k, doFlushTlbAll(k), null));
}

interface KernelRange {
  readonly start: number;
  readonly end: number;
}

const doKernelRangeFlush = (k: Kernel): CallFunction<KernelRange> => ({
  name: 'do_kernel_range_flush',
  *run({ start, end }) {
    for (let addr = start; addr < end; addr += PAGE_SIZE) yield* call(flushTlbOneKernel(k, addr));
  },
});

/**
 * Every CPU that is online, idle and lazy ones too: any of them may hold a kernel translation. No
 * tlb_flush event, and not in the TLB row.
 *
 * @kernel arch/x86/mm/tlb.c flush_tlb_kernel_range
 */
export function* nativeFlushTlbKernelRange(k: Kernel, start: number, end: number): Kthread {
  if (end === TLB_FLUSH_ALL || (end - start) / PAGE_SIZE > tlbSinglePageFlushCeiling(k))
    yield* call(onEachCpu(k, doFlushTlbAll(k), null));
  else yield* call(onEachCpu(k, doKernelRangeFlush(k), { start, end }));
}

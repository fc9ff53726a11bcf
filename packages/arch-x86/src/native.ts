/** pv_ops.mmu on bare metal: what a guest's backend replaces in parts. */
import type { Kernel, Kthread, MmStruct } from '@shootdown/mmu-gather';
import { nativeFlushTlbKernelRange, nativeFlushTlbOneUser } from './flushLocal.ts';
import { nativeFlushTlbMulti } from './tlb.ts';
import type { PvMmuOps } from './x86.ts';

/** Nothing to do: it is a hypervisor's business. */
function* nativeExitMmap(_k: Kernel, _mm: MmStruct): Kthread {}

/** The native operations, as they are before anybody has looked at the CPU. */
export const nativePvMmuOps: PvMmuOps = {
  flushTlbMulti: nativeFlushTlbMulti,
  flushTlbMultiImpliesIpiBroadcast: false,
  flushTlbOneUser: nativeFlushTlbOneUser,
  flushTlbKernel: nativeFlushTlbKernelRange,
  exitMmap: nativeExitMmap,
  tlbRemoveTable: 'page',
};

/**
 * native_pv_tlb_init(): after a hypervisor's code has put in its own flush, or has not. Who has said
 * that its flush interrupts is believed; the native one does.
 */
export const nativePvTlbInit = (pv: PvMmuOps): boolean =>
  pv.flushTlbMultiImpliesIpiBroadcast || pv.flushTlbMulti === nativeFlushTlbMulti;

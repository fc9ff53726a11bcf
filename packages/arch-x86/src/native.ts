/** pv_ops.mmu on bare metal: what a guest's backend replaces in parts. */
import type { Kernel, Kthread, MmStruct } from '@shootdown/mmu-gather';
import { nativeFlushTlbKernelRange, nativeFlushTlbOneUser } from './flushLocal.ts';
import { nativeFlushTlbMulti } from './tlb.ts';
import type { PvMmuOps } from './x86.ts';

/** Nothing to do: it is a hypervisor's business. */
function* nativeExitMmap(_k: Kernel, _mm: MmStruct): Kthread {}

/** The native operations. */
export const nativePvMmuOps: PvMmuOps = {
  flushTlbMulti: nativeFlushTlbMulti,
  flushTlbMultiImpliesIpiBroadcast: true,
  flushTlbOneUser: nativeFlushTlbOneUser,
  flushTlbKernel: nativeFlushTlbKernelRange,
  exitMmap: nativeExitMmap,
  tlbRemoveTable: 'page',
};

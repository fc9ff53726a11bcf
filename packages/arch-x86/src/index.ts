export { chooseNewAsid, hardwarePcid, loadNewMmCr3, type NewAsid } from './asid.ts';
export {
  DEFAULT_FEATURES,
  X86_KCONFIG,
  x86Backend,
  type X86BackendParts,
  x86Functions,
} from './backend.ts';
export { DEFAULT_CEILING, tlbSinglePageFlushCeiling } from './ceiling.ts';
export {
  __flushTlbAll,
  flushTlbAll,
  flushTlbOneKernel,
  nativeFlushTlbKernelRange,
  nativeFlushTlbLocal,
  nativeFlushTlbOneUser,
} from './flushLocal.ts';
export { nativePvMmuOps, nativePvTlbInit } from './native.ts';
export { pteNeedsFlush } from './pteFlags.ts';
export { reachLazyCpus as x86Editions } from './series/reachLazyCpus.ts';
export {
  enterLazyTlb,
  flushHere,
  flushTlbFunc,
  flushTlbMmRange,
  hasOtherCpu,
  incMmTlbGen,
  nativeFlushTlbMulti,
  shouldFlushTlb,
  switchMmIrqsOff,
} from './tlb.ts';
export { archTlbbatchAddPending, archTlbbatchFlush, archTlbbatchShouldDefer } from './tlbbatch.ts';
export {
  contextOf,
  type CpuTlbState,
  type FlushTlbInfo,
  kernPcid,
  LOADED_MM_SWITCHING,
  type LoadedMm,
  type MmContext,
  type PvMmuOps,
  TLB_NR_DYN_ASIDS,
  type TlbContext,
  tlbstate,
  userPcid,
  x86,
  type X86,
  type X86Features,
  type X86Functions,
} from './x86.ts';

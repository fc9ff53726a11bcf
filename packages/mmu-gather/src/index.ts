export { composeKernel, coreFunctions, type KernelParts } from './compose.ts';
export {
  tlbFlushLevelRange,
  tlbGetUnmapShift,
  tlbNoteFreedTable,
  tlbNoteUnshared,
  tlbRemovePmdTlbEntry,
  tlbRemoveTlbEntry,
} from './gatherRange.ts';
export { type Kconfig, NO_OPTIONS, resolveKconfig } from './kconfig.ts';
export { type CoreFunctions, type Edition, type Kernel, type Kthread, warnOnce } from './kernel.ts';
export { KERNEL_COSTS } from './kernel/costs.ts';
export { HZ, jiffies, timeAfter } from './kernel/jiffies.ts';
export {
  downgradeWrite,
  downRead,
  downWrite,
  isWriteLocked,
  newRwSem,
  newSpinLock,
  type RwSem,
  type SpinLock,
  spinLock,
  spinUnlock,
  upRead,
  upWrite,
} from './kernel/locking.ts';
export { mmdrop, mmgrab } from './kernel/mmCount.ts';
export {
  allocPages,
  type AllocRequest,
  type BulkFrames,
  clearPage,
  freeFrames,
  freePages,
  getPage,
  getZeroedPage,
  type Gfp,
  HPAGE_PMD_NR,
  HPAGE_PMD_ORDER,
  type Mapping,
  newPage,
  type Page,
  type PageAllocator,
  pageOf,
  pageToNid,
  putPage,
  takeBulk,
  tryGetPage,
  type Zone,
  ZERO_PFN,
} from './kernel/pageAlloc.ts';
export { currentTask, type PerCpu, perCpu, smpProcessorId, thisCpu } from './kernel/percpu.ts';
export {
  addrEnd,
  addTableLock,
  alignDown,
  allocEntry,
  allocTable,
  entryOf,
  findEntry,
  freeTable,
  HPAGE_PMD_SIZE,
  isMigrationPte,
  isSwapPte,
  isTable,
  Level,
  migrationPte,
  P4D_SHIFT,
  PAGE_SHIFT,
  PMD_SHIFT,
  PMD_SIZE,
  pmdLock,
  ptepGetAndClear,
  ptLock,
  PUD_SHIFT,
  PUD_SIZE,
  swapOffset,
  swapPte,
  tableEntry,
  taskSize,
} from './kernel/pgtable.ts';
export {
  callRcu,
  rcuBarrier,
  type RcuCallback,
  rcuCore,
  rcuReadLock,
  rcuReadUnlock,
  synchronizeRcu,
} from './kernel/rcu.ts';
export {
  enqueueBeforeStart,
  finishWait,
  irqEnter,
  irqExit,
  LOCAL_TIMER_VECTOR,
  moveTo,
  type NewTask,
  newTaskStruct,
  prepareToSleep,
  RESCHEDULE_VECTOR,
  schedule,
  schedYield,
  sleep,
  startCpus,
  type TaskStruct,
  wakeUp,
} from './kernel/sched.ts';
export {
  CALL_VECTORS,
  cpuOnlineMask,
  type CpuMaskPtr,
  onEachCpu,
  onEachCpuCondMask,
  smpCallFunction,
  smpCallFunctionManyCond,
  type SmpCallOptions,
  type SmpCondition,
} from './kernel/smp.ts';
export { type IpiCount, KernelStats } from './kernel/stats.ts';
export {
  TlbReason,
  traceMarker,
  tracePageFault,
  traceSysEnter,
  traceSysExit,
  traceTlbFlush,
} from './kernel/trace.ts';
export {
  type AddressSpace,
  type BatchedFlush,
  isAnonymous,
  isVmHugetlb,
  type MmStruct,
  newMm,
  type VmArea,
  type VmFlags,
} from './mmStruct.ts';
export {
  __tlbRemovePageSize,
  decTlbFlushPending,
  flushTlbMm,
  incTlbFlushPending,
  MAX_GATHER_BATCH,
  MAX_GATHER_BATCH_COUNT,
  MMU_GATHER_BUNDLE,
  type MmuGather,
  tlbChangePageSize,
  tlbEndVma,
  tlbFlushMmu,
  tlbFlushMmuTlbonly,
  tlbFlushRmaps,
  tlbFreeVmas,
  tlbGatherMmu,
  tlbGatherMmuFullmm,
  tlbGatherMmuVma,
  tlbRemovePageSize,
  tlbRemoveTablePage,
  tlbStartVma,
} from './mmuGather.ts';
export { completion, type Completion, complete, waitForCompletion } from './kernel/wait.ts';
export { type KernelWork, work } from './kernel/work.ts';
export type { MmGatherProbe, ProbeEvent, TableFreeing } from './probe.ts';
export {
  DEFAULT_RELEASE,
  type Evidence,
  type Release,
  RELEASES,
  RULES,
  type Rules,
  rulesOf,
} from './rules.ts';
export { coreEditions } from './series/all.ts';
export { MAX_TABLE_BATCH, type TableBatch } from './tableFree.ts';
export { tlbRemoveTableSmpSync } from './tableSync.ts';
export {
  type BackendCost,
  type BackendParts,
  defineTlbBackend,
  type FlushTlbInfo,
  type KernelRef,
  NO_CLAIMS,
  TLB_FLUSH_ALL,
  TLB_GENERATION_INVALID,
  type TlbBackend,
  type TlbBatch,
  type TlbClaims,
  tlbTableFlushImpliesIpiBroadcast,
} from './tlb.ts';

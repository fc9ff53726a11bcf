export { Audit } from './audit.ts';
export { type Axiom, type AxiomName, AXIOMS, type Axioms, axioms } from './axioms.ts';
export { Cell } from './cell.ts';
export { Cpu, NMI_VECTOR, type PostedInvalidation } from './cpu.ts';
export { formatCpuList, MAX_CPUS, parseCpuList } from './cpuList.ts';
export { CpuMask } from './cpuMask.ts';
export {
  type CallFunction,
  CallQueues,
  type CallTrace,
  type CallVectors,
  type Csd,
  type LeafFunction,
  type MaskCall,
} from './csd.ts';
export { guardDeterminism } from './determinism.ts';
export type { EnvironmentMove } from './environment.ts';
export { assert, ModelBugError, UsageError, type UsageCode } from './errors.ts';
export { describeOp, explain } from './explain.ts';
export { describeId, Footprint, Hardware, type HardwareCell } from './footprint.ts';
export {
  cpuId,
  type CpuId,
  nanoseconds,
  type Nanoseconds,
  pfn,
  type Pfn,
  physAddr,
  type PhysAddr,
  virtAddr,
  type VirtAddr,
} from './ids.ts';
export { type Handler, Machine, type MachineOptions } from './machine.ts';
export { type Frame, MAX_FRAMES, PAGE_SHIFT, PAGE_SIZE, WORDS_PER_FRAME } from './memory.ts';
export { type Coroutine, MOVED, Op, type OpKind, opKind } from './op.ts';
export {
  type Choice,
  choiceOf,
  compute,
  computesFor,
  mayFail,
  oneOf,
  switchTo,
  userSpin,
  vcpuPark,
  waitForAll,
  waitsFor,
  waitUntil,
} from './ops/control.ts';
export {
  armTimer,
  halt,
  iret,
  localIrqDisable,
  localIrqEnable,
  localIrqRestore,
  localIrqSave,
  sendIpi,
  serialize,
} from './ops/interrupts.ts';
export {
  atomicFetchAdd,
  atomicUpdate,
  atomicWhen,
  clearBit,
  cmpxchg,
  cmpxchgWord,
  nop,
  readMask,
  readOnce,
  readWord,
  setBit,
  smpLoadAcquire,
  smpMb,
  smpRmb,
  smpStoreRelease,
  smpWmb,
  testAndClearBit,
  testAndSetBit,
  testBit,
  updateWord,
  writeOnce,
  writeWord,
  xchg,
  xchgWord,
} from './ops/memory.ts';
export {
  dsb,
  type Fault,
  frameUsers,
  invlpg,
  invlpgb,
  invpcidAll,
  invpcidAllNonGlobals,
  invpcidOne,
  invpcidSingle,
  PAGE_FAULT,
  tlbi,
  tlbsync,
  userLoad,
  userStore,
  userTouch,
  writeCr3,
} from './ops/translation.ts';
export {
  entryAt,
  isLeaf,
  levelShift,
  levelSize,
  makePte,
  Pte,
  PTE_NX,
  pteHas,
  pteNoExec,
  ptePfn,
  tableIndex,
  walk,
  type WalkStep,
} from './pageTable.ts';
export {
  call,
  type Context as InterruptContext,
  type ContextKind,
  newTask,
  type Task,
} from './stack.ts';
export { type BufferedStore, StoreBuffer } from './storeBuffer.ts';
export { everything, type Invalidation, wholePcid } from './tlb.ts';
export type { TlbSizes } from './tlb/finite.ts';
export type { MayCachedEntry } from './tlb/mayCached.ts';
export { Context, CONTEXT_UNKNOWN, type TraceEvent, type TraceRecord } from './traceRecord.ts';
export {
  type Transition,
  transition,
  transitionArg,
  transitionCpu,
  TransitionKind,
  transitionKind,
} from './transition.ts';

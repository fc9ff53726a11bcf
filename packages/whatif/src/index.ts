export { CALL_KINDS, type CallKind, type KindFacts } from './callKinds.ts';
export { type CountOptions, countReplay, type TimeBound } from './count.ts';
export type { Basis, WhatIfRow } from './designs.ts';
export { type Cause, type Received, tlbCalls } from './ledger.ts';
export type { Origin } from './origins.ts';
export type {
  CpuAccount,
  Evidence,
  EvidenceLevel,
  FlushCounts,
  ObservedCall,
  ReplayCounts,
} from './result.ts';
export type { Cell, Matrix } from './callMatrix.ts';

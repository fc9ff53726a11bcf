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
export {
  calibrate,
  type CalibrateOptions,
  type Calibration,
  type IntervalResult,
} from './calibrate/calibrate.ts';
export type { CalibratedEntry, CostsByName, MissingEntry } from './calibrate/entries.ts';
export type { Quantiles } from './calibrate/histogram.ts';
export {
  type Marks,
  type Prediction,
  predictFlushes,
  type PredictOptions,
} from './predict/predict.ts';
export { type Difference, FLUSH_KINDS, type FlushKind, type KindScore } from './predict/score.ts';

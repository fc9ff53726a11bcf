export {
  type Block,
  type Column,
  harmless,
  PLAIN,
  renderMarkdown,
  renderText,
  type Style,
} from './blocks.ts';
export { replayBlocks } from './replay/document.ts';
export { replaySchema } from './replay/schema.ts';
export {
  type AccountView,
  type CauseView,
  type InputView,
  type KindView,
  type ReceivedView,
  type ReplayContext,
  type ReplayView,
  replayView,
  type WhatIfView,
} from './replay/view.ts';
export { runBlocks } from './run/document.ts';
export { runSchema } from './run/schema.ts';
export type { FlushView, IpiView, PhaseView, RunView } from './run/view.ts';
export { calibrateBlocks } from './calibrate/document.ts';
export { calibrateSchema } from './calibrate/schema.ts';
export {
  type CalibrateContext,
  type CalibrateView,
  calibrateView,
  type CostProfile,
  costProfile,
  type EntryView,
  type IntervalView,
  type LengthsView,
} from './calibrate/view.ts';
export { predictBlocks } from './predict/document.ts';
export { predictSchema } from './predict/schema.ts';
export {
  type PredictContext,
  type PredictedDifferenceView,
  type PredictedKindView,
  predictView,
  type PredictView,
} from './predict/view.ts';
export { validateBlocks, type ValidateParts } from './validate/document.ts';
export { validateSchema } from './validate/schema.ts';
export {
  type DecisionView,
  type DifferenceView,
  type FieldsView,
  type FoundView,
  type ScoreView,
  type ValidateContext,
  validateView,
  type ValidateView,
} from './validate/view.ts';
export { backendsBlocks } from './backends/document.ts';
export { backendsSchema } from './backends/schema.ts';
export type { BackendsView, BackendView, ClaimsView, EditionView } from './backends/view.ts';

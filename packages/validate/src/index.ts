export { type CpuFeatures, validate, type ValidateOptions, Validation } from './validate.ts';
export type { ValidationResult } from './result.ts';
export type { Finding } from './survey.ts';
export {
  DECISIONS,
  type DecisionKind,
  type Difference,
  type Score,
  type Scores,
} from './decisions.ts';
export { type Depth, type EventFields, FIELDS } from './fields.ts';

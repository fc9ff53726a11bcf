export { validate, type ValidateOptions, Validation } from './validate.ts';
export {
  DECISIONS,
  type DecisionKind,
  type Difference,
  type Score,
  type Scores,
} from './decisions.ts';
export { type Depth, FIELDS } from './fields.ts';

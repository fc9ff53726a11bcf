/**
 * Two of the four kinds of trouble, the two that every package can meet: our bug and the caller's
 * mistake. The third (a bad input file) is trace's TraceFormatError; the fourth (a finding) is not
 * an error but a value.
 */

/**
 * We are wrong: a state that the code says cannot be. Caught only in the CLI's main, which asks for
 * a report.
 */
export class ModelBugError extends Error {
  override readonly name = 'ModelBugError';
}

/**
 * Throws ModelBugError unless `condition` holds. `sentence` says what should have been true: a
 * constant, because it is made whether or not it is needed (explain.ts adds who and where).
 */
export function assert(condition: boolean, sentence: string): asserts condition {
  if (!condition) throw new ModelBugError(sentence);
}

/**
 * Every code of a UsageError. A closed union: docs/errors.md has a paragraph for each, and it is
 * frozen within a major version.
 */
export type UsageCode =
  | 'ERR_ADDRESS'
  | 'ERR_BACKEND'
  | 'ERR_BUDGET'
  | 'ERR_CLOCK'
  | 'ERR_COROUTINE'
  | 'ERR_COST'
  | 'ERR_CPU_LIST'
  | 'ERR_CPU_RANGE'
  | 'ERR_EDITION'
  | 'ERR_FORMAT_NAME'
  | 'ERR_INPUT_FORMAT'
  | 'ERR_INPUT_OPEN'
  | 'ERR_INTERRUPT'
  | 'ERR_KCONFIG'
  | 'ERR_KERNEL'
  | 'ERR_MACHINE'
  | 'ERR_MEMORY'
  | 'ERR_NONDETERMINISM'
  | 'ERR_OPTION'
  | 'ERR_PROFILE'
  | 'ERR_STUCK'
  | 'ERR_TIME'
  | 'ERR_VALIDATE'
  | 'ERR_WORKLOAD';

/**
 * The caller is wrong: thrown at the edge, synchronously, with what was expected and what to do
 * next.
 */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly code: UsageCode;

  /** `cause`: the mistake itself, where `message` says besides which kernel code met it. */
  constructor(code: UsageCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

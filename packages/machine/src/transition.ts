/**
 * What can happen next, as one number: a driver keeps thousands of them and compares them. The
 * machine says which are enabled (`Machine.enabled`) and never which is better.
 */
import { MAX_CPUS } from './cpuList.ts';
import { assert } from './errors.ts';

/** What kind of thing happens. */
export const TransitionKind = {
  /** The CPU executes its next Op; `arg` is the way it goes, for an Op that has several. */
  step: 0,
  /** The CPU's oldest buffered store reaches memory. */
  drain: 1,
  /** The CPU takes its highest pending interrupt, or the pending NMI. */
  deliver: 2,
  /** The CPU applies the oldest invalidation that was broadcast to it. */
  apply: 3,
  /** What nobody asked for: `arg` is the index of the environment move. */
  move: 4,
} as const;

/** One of `TransitionKind`. */
export type TransitionKind = (typeof TransitionKind)[keyof typeof TransitionKind];

/** A transition, encoded. */
export type Transition = number & { readonly __brand: 'Transition' };

const KINDS = 8;
const ARGS = MAX_CPUS * KINDS;

/** Encodes; `arg` is 0 but for a step with several ways and for a move. */
export const transition = (kind: TransitionKind, cpu: number, arg = 0): Transition =>
  (arg * ARGS + cpu * KINDS + kind) as Transition;

/** Which CPU it happens on. */
export const transitionCpu = (of: Transition): number => Math.floor(of / KINDS) % MAX_CPUS;

/** What happens. */
export const transitionKind = (of: Transition): TransitionKind => {
  const kind = of % KINDS;
  assert(kind <= TransitionKind.move, 'a transition has a kind');
  return kind as TransitionKind;
};

/** The way of a step, the index of a move. */
export const transitionArg = (of: Transition): number => Math.floor(of / ARGS);

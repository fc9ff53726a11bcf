/**
 * All schedules of a small scenario, one by one, without any reduction: the oracle of the tests. A
 * generator cannot be copied, so every schedule is run from the start.
 */
import type { Machine } from './machine.ts';
import { guardDeterminism } from './determinism.ts';
import type { Transition } from './transition.ts';

/** A scenario: a fresh machine with its programs, and what to say of it when nothing can happen. */
export interface Scenario {
  readonly machine: Machine;
  readonly outcome: () => string;
}

/** What all schedules came to. */
export interface Enumeration {
  /** How many schedules ended with each outcome. */
  readonly outcomes: ReadonlyMap<string, number>;
  readonly schedules: number;
}

const LIMIT = 2_000_000;

/** Runs every schedule of what `build` builds. A schedule ends when nothing is enabled. */
export function enumerate(build: () => Scenario): Enumeration {
  const outcomes = new Map<string, number>();
  let schedules = 0;
  // Which of the enabled transitions was taken at each step, and how many there were.
  const taken: number[] = [];
  const choices: number[] = [];
  for (;;) {
    const { machine, outcome } = build();
    guardDeterminism(machine, () => runOnce(machine, taken, choices));
    const end = outcome();
    outcomes.set(end, (outcomes.get(end) ?? 0) + 1);
    schedules++;
    if (schedules > LIMIT) throw new Error(`more than ${LIMIT} schedules: make it smaller`);
    while (taken.length > 0 && (taken.at(-1) ?? 0) + 1 === choices.at(-1)) {
      taken.pop();
      choices.pop();
    }
    const last = taken.length - 1;
    if (last < 0) return { outcomes, schedules };
    taken[last] = (taken[last] ?? 0) + 1;
  }
}

function runOnce(machine: Machine, taken: number[], choices: number[]): void {
  const enabled: Transition[] = [];
  for (let step = 0; machine.enabled(enabled).length > 0; step++) {
    const pick = taken[step] ?? 0;
    taken[step] = pick;
    choices[step] = enabled.length;
    const next = enabled[pick];
    if (next === undefined) throw new Error(`step ${step} offers ${enabled.length} transitions`);
    machine.execute(next);
  }
}

/** The distinct outcomes, sorted. */
export const outcomesOf = (build: () => Scenario): readonly string[] =>
  [...enumerate(build).outcomes.keys()].toSorted();

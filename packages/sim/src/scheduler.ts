/**
 * Runs a machine under a scheduler: a policy that picks one of the enabled transitions, again and
 * again. Which policy it is says what a run is good for: round robin for something repeatable and
 * fair, random and PCT to look for bugs where exploring everything is out of reach.
 */
import {
  guardDeterminism,
  type Machine,
  type Transition,
  transitionCpu,
  TransitionKind,
  transitionKind,
  UsageError,
} from '@shootdown/machine';
import { stuckError } from './stuck.ts';

/** Decides what happens next: one method, and a name. */
export interface Scheduler {
  /** In reports: `pct(seed=7, depth=3)`. */
  readonly name: string;
  /** The index of one of `enabled`, which is never empty, in the order of `Machine.enabled`. */
  pick(enabled: readonly Transition[], machine: Machine): number;
}

/** How a scheduled run went. */
export interface ScheduledRun {
  readonly scheduler: string;
  /** Every transition that was taken: the same list, executed again, is the same run. */
  readonly schedule: readonly Transition[];
  /** Whether it ended because nothing was left to do; false: `maxSteps` was reached. */
  readonly ended: boolean;
}

/** See `schedule`. */
export interface ScheduleOptions {
  /** Stops after so many transitions. Default 1,000,000. */
  readonly maxSteps?: number | undefined;
}

/**
 * Runs `machine` until nothing is enabled.
 *
 * @throws UsageError ERR_STUCK when a CPU then still waits for something, ERR_NONDETERMINISM when
 * code asks for time or randomness.
 */
export function schedule(
  machine: Machine,
  scheduler: Scheduler,
  { maxSteps = 1_000_000 }: ScheduleOptions = {},
): ScheduledRun {
  if (!Number.isInteger(maxSteps) || maxSteps < 0)
    throw new UsageError('ERR_OPTION', `maxSteps is an integer from 0, not ${maxSteps}`);
  const taken: Transition[] = [];
  const enabled: Transition[] = [];
  const ended = guardDeterminism(machine, () => {
    while (machine.enabled(enabled).length > 0) {
      if (onlyMoves(enabled) && everybodyIsDone(machine)) break;
      if (taken.length === maxSteps) return false;
      const next = enabled[scheduler.pick(enabled, machine)];
      if (next === undefined)
        throw new UsageError('ERR_OPTION', `scheduler ${scheduler.name} picked nothing`);
      taken.push(next);
      machine.execute(next);
    }
    return true;
  });
  if (ended) {
    const stuck = stuckError(machine);
    if (stuck !== null) throw stuck;
  }
  return { scheduler: scheduler.name, schedule: taken, ended };
}

/** Executes a recorded schedule again. @throws UsageError ERR_NONDETERMINISM if it does not fit. */
export function replaySchedule(machine: Machine, recorded: readonly Transition[]): void {
  const enabled: Transition[] = [];
  guardDeterminism(machine, () => {
    for (const [step, next] of recorded.entries()) {
      if (!machine.enabled(enabled).includes(next))
        throw new UsageError(
          'ERR_NONDETERMINISM',
          `step ${step} of the schedule, on CPU ${transitionCpu(next)}, is not enabled: this machine was ` +
            'built differently, or its code is not deterministic',
        );
      machine.execute(next);
    }
  });
}

const onlyMoves = (enabled: readonly Transition[]): boolean =>
  enabled.every((next) => transitionKind(next) === TransitionKind.move);

const everybodyIsDone = (machine: Machine): boolean => machine.cpus.every(({ op }) => op === null);

/** How to run a machine by the clock. */
import { type Machine, UsageError } from '@shootdown/machine';
import type { CostTable } from './costs.ts';

/** Something the environment does at a given time: `move` indexes `Machine.environment`. */
export interface PlannedMove {
  readonly atNs: number;
  readonly move: number;
}

/** How to run. */
export interface ClockOptions {
  /** Changes to the default costs. */
  readonly costs?: CostTable | undefined;
  /** For choices. Default 1. */
  readonly seed?: number | undefined;
  /** CPUs per socket: further ones are far. Default: all in one socket. */
  readonly cpusPerSocket?: number | undefined;
  /** The chance, 0 to 1, that a `mayFail` of that name fails. Default 0. */
  readonly failures?: Readonly<Record<string, number>> | undefined;
  /** When the environment moves. Default never. */
  readonly plan?: readonly PlannedMove[] | undefined;
  /** Stops at this time. Default: when nothing is left to do. */
  readonly untilNs?: number | undefined;
  /** Whether whole-mask calls may be done at once (maskCall.ts). Default true. */
  readonly batch?: boolean | undefined;
}

const isTime = (ns: number): boolean => Number.isSafeInteger(ns) && ns >= 0;

/** Refuses options that make no sense for `machine`. @throws UsageError ERR_OPTION */
export function checkOptions(machine: Machine, options: ClockOptions): void {
  const { cpusPerSocket = 1, failures = {}, plan = [], untilNs = 0 } = options;
  const bad = (what: string): UsageError => new UsageError('ERR_OPTION', what);
  if (!Number.isInteger(cpusPerSocket) || cpusPerSocket < 1)
    throw bad(`a socket has 1 CPU or more, not ${cpusPerSocket}`);
  if (!(untilNs >= 0)) throw bad(`untilNs is a time from 0, not ${untilNs}`);
  for (const [name, chance] of Object.entries(failures))
    if (!(chance >= 0 && chance <= 1))
      throw bad(`the chance that ${name} fails is from 0 to 1, not ${chance}`);
  for (const { atNs, move } of plan) {
    const { name, times = 0 } = machine.environment[move] ?? {};
    if (name === undefined) throw bad(`the plan names move ${move}, which is none`);
    if (!isTime(atNs)) throw bad(`'${name}' is planned for ${atNs} ns; expected an integer from 0`);
    if (plan.filter((other) => other.move === move).length > times)
      throw bad(`'${name}' is planned more often than the ${times} times it may happen`);
  }
}

/**
 * A story is a fresh machine, a program per CPU, and what to say of the end. Its verdict is the set
 * of ends over all schedules: an outcome that is in it is allowed, one that is not is forbidden.
 */
import { outcomesOf } from './enumerate.testlib.ts';
import { Machine, type MachineOptions } from './machine.ts';
import type { Coroutine } from './op.ts';

/** What the CPUs run, the first on CPU 0, and the outcome when nothing can happen any more. */
export interface Story {
  readonly cpus: readonly Coroutine<unknown>[];
  readonly outcome: () => string;
}

/**
 * The outcomes of all schedules of a story, sorted; `stuck` for one in which a CPU waits for ever.
 * Footprints are audited on the way. Two CPUs unless `options` say otherwise.
 */
export const outcomes = (
  tell: (machine: Machine) => Story,
  options: Partial<MachineOptions> = {},
): readonly string[] =>
  outcomesOf(() => {
    const machine = new Machine({ cpus: 2, checked: true, ...options });
    const { cpus, outcome } = tell(machine);
    for (const [id, program] of cpus.entries()) machine.run(id, program);
    const stuck = (): boolean => machine.cpus.some(({ op }) => op !== null);
    return { machine, outcome: () => (stuck() ? 'stuck' : outcome()) };
  });

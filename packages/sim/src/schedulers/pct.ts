/**
 * PCT, probabilistic concurrency testing: random priorities, and `depth - 1` random moments at which
 * whoever runs falls behind everybody else. Finds a bug that needs d ordered events with probability
 * at least 1 / (n k^(d-1)) for n threads and k steps. Burckhardt, Kothari, Musuvathi, Nagarakatti,
 * "A randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010.
 *
 * A thread of PCT is a CPU's code, and apart from it each CPU's store buffer: who drains late is as
 * much a schedule as who runs late.
 */
import {
  type Transition,
  transitionCpu,
  TransitionKind,
  transitionKind,
  UsageError,
} from '@shootdown/machine';
import { random } from '../random.ts';
import type { Scheduler } from '../scheduler.ts';

/** What PCT wants to know beforehand. */
export interface PctOptions {
  readonly seed: number;
  /** How many ordered events a bug may need. Default 3. */
  readonly depth?: number | undefined;
  /** About how many transitions a run has: the moments of change lie among them. Default 1000. */
  readonly steps?: number | undefined;
}

const threadOf = (next: Transition): number => {
  const kind = transitionKind(next);
  const inHardware = kind === TransitionKind.drain || kind === TransitionKind.apply;
  return 2 * transitionCpu(next) + (inHardware ? 1 : 0);
};

/** The same options give the same schedule. @throws UsageError ERR_OPTION */
export function pct({ seed, depth = 3, steps = 1000 }: PctOptions): Scheduler {
  if (!Number.isInteger(depth) || depth < 1 || !Number.isInteger(steps) || steps < 1)
    throw new UsageError(
      'ERR_OPTION',
      `PCT takes a depth and steps from 1, not ${depth}, ${steps}`,
    );
  const next = random(seed);
  // Which priority a change hands out is as random as when: it may also put somebody above those
  // that fell behind earlier.
  const changes = new Map<number, number>();
  for (let label = 1; label < depth; label++) changes.set(next(steps), label - depth);
  const priorities = new Map<number, number>();
  let step = 0;
  const priorityOf = (thread: number): number => {
    let priority = priorities.get(thread);
    if (priority === undefined) {
      // Above every priority that a change hands out; all different with near certainty.
      priority = 1 + next(2 ** 31 - 1);
      priorities.set(thread, priority);
    }
    return priority;
  };
  return {
    name: `pct(seed=${seed}, depth=${depth})`,
    pick: (enabled) => {
      const best = Math.max(...enabled.map((one) => priorityOf(threadOf(one))));
      const candidates = [...enabled.keys()].filter(
        (index) => priorityOf(threadOf(enabled[index] as Transition)) === best,
      );
      // Several ways of one thread: a choice, an interrupt or none. PCT says nothing about those.
      const index = candidates[next(candidates.length)] ?? 0;
      const change = changes.get(step++);
      if (change !== undefined) priorities.set(threadOf(enabled[index] as Transition), change);
      return index;
    },
  };
}

/** Every CPU in turn, one transition each: fair, repeatable, and no test of anything. */
import { transitionCpu } from '@shootdown/machine';
import type { Scheduler } from '../scheduler.ts';

/** The CPU after the one that ran last; on it the first enabled transition. */
export function roundRobin(): Scheduler {
  let last = -1;
  return {
    name: 'round robin',
    pick: (enabled) => {
      const after = enabled.findIndex((next) => transitionCpu(next) > last);
      const index = after === -1 ? 0 : after;
      const next = enabled[index];
      if (next !== undefined) last = transitionCpu(next);
      return index;
    },
  };
}

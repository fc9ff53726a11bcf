/**
 * Every CPU in turn, one transition each, and for a CPU its code, its store buffer and its interrupts
 * in turn: fair, repeatable, and no test of anything. Of a choice it takes the first alternative.
 */
import { transitionCpu, transitionKind } from '@shootdown/machine';
import type { Scheduler } from '../scheduler.ts';

/** The CPU after the one that ran last; on it the kind of transition after the one it took last. */
export function roundRobin(): Scheduler {
  let last = -1;
  /** By CPU. */
  const lastKinds: number[] = [];
  return {
    name: 'round robin',
    pick: (enabled) => {
      const [lowest] = enabled;
      const after = enabled.find((next) => transitionCpu(next) > last) ?? lowest;
      if (after === undefined) return 0;
      const cpu = transitionCpu(after);
      const lastKind = lastKinds[cpu] ?? -1;
      const next =
        enabled.find((one) => transitionCpu(one) === cpu && transitionKind(one) > lastKind) ??
        after;
      last = cpu;
      lastKinds[cpu] = transitionKind(next);
      return enabled.indexOf(next);
    },
  };
}

/** Any enabled transition, all equally likely. Misses what needs a long run of one CPU: see PCT. */
import { random } from '../random.ts';
import type { Scheduler } from '../scheduler.ts';

/** The same `seed` gives the same schedule. */
export function randomScheduler(seed: number): Scheduler {
  const next = random(seed);
  return { name: `random(seed=${seed})`, pick: (enabled) => next(enabled.length) };
}

/**
 * Sleeping until something has happened a number of times: threads that have started, or ended.
 *
 * Follows kernel/sched/completion.c.
 */
import { atomicUpdate, call, type Cell, type Machine, readOnce } from '@shootdown/machine';
import type { Kernel, Kthread } from '../kernel.ts';
import { newSpinLock, type SpinLock, spinLock, spinUnlock } from './locking.ts';
import { currentTask } from './percpu.ts';
import { finishWait, prepareToSleep, schedule, type TaskStruct, wakeUp } from './sched.ts';

/** struct completion. */
export interface Completion {
  /** How often it has happened. */
  readonly done: Cell<number>;
  readonly waiters: Cell<readonly TaskStruct[]>;
  /** wait.lock: who is on the list stays there while the list is being woken. */
  readonly lock: SpinLock;
}

/** init_completion. */
export const completion = (machine: Machine, name: string): Completion => ({
  done: machine.cell(`${name}.done`, 0),
  waiters: machine.cell<readonly TaskStruct[]>(`${name}.wait`, []),
  lock: newSpinLock(machine, `${name}.wait.lock`),
});

/** complete: it has happened once more. */
export function* complete(k: Kernel, { done, waiters, lock }: Completion): Kthread {
  yield* spinLock(lock);
  yield* atomicUpdate(done, (count) => count + 1);
  for (const task of yield* readOnce(waiters)) yield* call(wakeUp(k, task));
  yield* spinUnlock(lock);
}

/** wait_for_completion: sleeps until it has happened `times` times. */
export function* waitForCompletion(k: Kernel, of: Completion, times: number): Kthread {
  if ((yield* readOnce(of.done)) >= times) return;
  const task = currentTask(k);
  yield* atomicUpdate(of.waiters, (waiters) => [...waiters, task]);
  for (;;) {
    // Announced as asleep before the count is read: who counts up later wakes us.
    yield* call(prepareToSleep(k));
    if ((yield* readOnce(of.done)) >= times) break;
    yield* call(schedule(k));
  }
  yield* call(finishWait(k));
  // Whoever has read the list wakes all of it before it changes: nobody is woken who has gone on, to
  // another CPU or to its end.
  yield* spinLock(of.lock);
  yield* atomicUpdate(of.waiters, (waiters) => waiters.filter((other) => other !== task));
  yield* spinUnlock(of.lock);
}

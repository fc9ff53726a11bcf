/**
 * Which of several calls of one address space goes first: mmap_lock, and when a gather ends.
 *
 * A call that takes the lock for writing waits for those that have it for reading. A page fault
 * waits for a call that has it for writing: such a call write-locks every VMA that it works on, and
 * a fork all of them. A call that is seen to return has had its turn.
 */
import type { Kthread } from '@shootdown/mmu-gather';
import type { Operation } from './operation.ts';
import type { Space, Thread } from './processes.ts';
import type { FlushListener, Stage } from './stage.ts';

/** What a call does when it has its turn. */
export interface Turn {
  readonly thread: Thread;
  readonly space: Space;
  readonly listener: FlushListener;
  readonly work: () => Kthread<unknown>;
  /** How it takes the lock first. */
  readonly lock: 'read' | 'write';
  /** It has it for reading when it flushes, so that other gathers overlap with its own. */
  readonly overlaps: boolean;
}

/** For what is not compared. */
export const unheard: FlushListener = () => undefined;

/** The mmap_locks of a recording. */
export class MmapLocks {
  readonly #stage: Stage;
  readonly #cpuOf: (thread: Thread) => number | null;
  readonly #listenTo: (operation: Operation) => FlushListener;

  /** `cpuOf` says where a task runs now; null: nowhere. */
  constructor(
    stage: Stage,
    cpuOf: (thread: Thread) => number | null,
    listenTo: (operation: Operation) => FlushListener,
  ) {
    this.#stage = stage;
    this.#cpuOf = cpuOf;
    this.#listenTo = listenTo;
  }

  /** A call is entered on `cpu`: it does its work, or waits for its turn. */
  enter(turn: Turn, cpu: number): void {
    const { space, lock } = turn;
    if (lock === 'write' && space.readers.size > 0) space.writers.push(turn);
    else this.#take(turn, cpu);
  }

  #take({ thread, space, listener, work, overlaps }: Turn, cpu: number): void {
    if (space.readers.size > 0)
      for (const { operation } of [thread, ...space.readers])
        if (operation !== null) operation.obstacle ??= 'gathers overlap';
    if (!overlaps) {
      this.#stage.run(cpu, listener, work);
      return;
    }
    this.#stage.hold(cpu, listener, work);
    if (this.#stage.holds(thread.task)) space.readers.add(thread);
  }

  /** The call of `thread` is seen to return on `cpu`. */
  leave(thread: Thread, space: Space, cpu: number): void {
    const at = space.writers.findIndex((turn) => turn.thread === thread);
    const [turn] = at === -1 ? [] : space.writers.splice(at, 1);
    if (turn !== undefined) {
      this.alone(space, cpu);
      this.#take(turn, cpu);
    }
    if (!space.readers.delete(thread)) return;
    this.#complete(thread, cpu);
    this.letWrite(space);
  }

  /** Whoever waits first goes on, if nobody reads and it runs. */
  letWrite({ readers, writers }: Space): void {
    while (readers.size === 0) {
      const [turn] = writers;
      const cpu = turn === undefined ? null : this.#cpuOf(turn.thread);
      if (turn === undefined || cpu === null) return;
      writers.shift();
      this.#take(turn, cpu);
    }
  }

  /** The lock is taken for writing by a call that has it for sure: whoever read has ended. */
  alone({ readers }: Space, cpu: number): void {
    for (const reader of readers) this.#complete(reader, cpu);
    readers.clear();
  }

  /** The gather of `thread` ends: where it runs, or on `cpu` if it does not run. */
  #complete(thread: Thread, cpu: number): void {
    const { task, operation } = thread;
    const listener = operation === null ? unheard : this.#listenTo(operation);
    const on = this.#cpuOf(thread);
    if (on !== null) {
      this.#stage.release(task, on, listener);
      return;
    }
    const before = this.#stage.current(cpu);
    this.#stage.switchTo(cpu, task, unheard);
    this.#stage.release(task, cpu, listener);
    this.#stage.switchTo(cpu, before, unheard);
  }

  /** `thread` has the lock for writing until its call returns. */
  own(thread: Thread, { owners }: Space): void {
    owners.add(thread);
  }

  /** It has not any more: who waits with a fault, and has not gone to sleep over it, goes on. */
  disown(thread: Thread, { owners, faulting }: Space): void {
    owners.delete(thread);
    if (owners.size > 0) return;
    for (const other of faulting) {
      const cpu = this.#cpuOf(other);
      if (cpu !== null && other.fault?.asleep === false) handleFault(other, cpu);
    }
  }

  /** A fault of `thread` is handled now, or waits for the lock. */
  fault(thread: Thread, space: Space, cpu: number, handle: (cpu: number) => void): void {
    const { owners, faulting } = space;
    if (owners.size === 0 || owners.has(thread)) return handle(cpu);
    if (thread.operation !== null) thread.operation.obstacle ??= 'fault waits for mmap_lock';
    thread.fault = { handle, asleep: false };
    faulting.add(thread);
  }
}

/** A fault that has waited is handled: its task runs again, or does something else by now. */
export function handleFault(thread: Thread, cpu: number): void {
  const { fault, space } = thread;
  if (fault === null) return;
  thread.fault = null;
  space?.faulting.delete(thread);
  fault.handle(cpu);
}

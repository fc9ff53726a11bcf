/** Where one CPU is in time, and what it does next. */
import { type Cell, computesFor, type ContextKind, type Cpu, type Op } from '@shootdown/machine';
import type { PlannedMove } from './clockOptions.ts';

/** Later than anything. */
export const NEVER: number = Infinity;

/** What a CPU does next. */
export const Next = {
  drain: 0,
  deliver: 1,
  step: 2,
  move: 3,
} as const;

/** A planned move with what kind it is. */
export interface KindOfMove extends PlannedMove {
  readonly kind: ContextKind;
}

/** One CPU in time. */
export class Timeline {
  readonly cpu: Cpu;
  /** When its last Op ended, or when its wait began to make sense. */
  freeAt = 0;
  /** Its next event: what, and when; the queue may hold older opinions. */
  what: (typeof Next)[keyof typeof Next] = Next.step;
  nextAt: number = NEVER;
  /** When it leaves its Op for an interrupt or the host; what is there then is decided by then. */
  leaveAt: number = NEVER;
  /** The planned move that it leaves for; null if it leaves for an interrupt. */
  leavesFor: KindOfMove | null = null;
  /** When its last store became visible. */
  drainedAt = 0;
  /** When each buffered store becomes visible, oldest first. */
  readonly drains: number[] = [];
  /** When each pending vector arrives, by vector. */
  readonly arrivals: Map<number, number> = new Map();
  /** What is left of computations that were interrupted, of all CPUs: a task may move. */
  readonly left: Map<Op, number>;
  /** Moves to come, by time. */
  readonly plan: KindOfMove[] = [];
  /** Whether an interrupt would find it in user mode, and the only one. */
  inUserMode = false;
  /** Whether it has nothing to execute. */
  idle = true;
  /** The Op that could not be executed when it was last looked at. */
  blocked: Op | null = null;
  /** The Op that runs, since when, and until when. */
  begun: Op | null = null;
  begunAt = 0;
  endAt: number = NEVER;
  /** The cell whose cache line that Op takes, and which CPU it comes from. */
  takes: Cell | null = null;
  fetches = -1;
  /** The Op that is woken when one of `watched` changes. */
  watcher: Op | null = null;
  watched: readonly Cell[] = [];

  constructor(cpu: Cpu, left: Map<Op, number>) {
    this.cpu = cpu;
    this.left = left;
    for (const vector of cpu.pending) this.arrivals.set(vector, 0);
  }

  /** When `vector`, which is pending, arrives. */
  arrival(vector: number): number {
    return this.arrivals.get(vector) ?? 0;
  }

  /** Notes how much of a computation is left at `at`, when something else gets the CPU. */
  suspend(at: number): void {
    const { op } = this.cpu;
    const lasts = op === null ? null : computesFor(op);
    if (op !== null && lasts !== null)
      this.left.set(op, (this.left.get(op) ?? lasts) - Math.max(0, at - this.freeAt));
  }

  /** Its next event is that something else has got the CPU. */
  leave(): void {
    this.suspend(this.leaveAt);
    this.freeAt = this.nextAt;
    this.leaveAt = NEVER;
  }
}

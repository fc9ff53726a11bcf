/** Where one CPU is in time, and what it does next. */
import { type Cell, computesFor, type Cpu, type Op } from '@shootdown/machine';
import type { PlannedMove } from './clock.ts';

/** Later than anything. */
export const NEVER: number = Infinity;

/** What a CPU does next. */
export const Next = {
  drain: 0,
  deliver: 1,
  step: 2,
  move: 3,
} as const;

/** One CPU in time. */
export class Timeline {
  readonly cpu: Cpu;
  /** When its last Op ended, or when its wait began to make sense. */
  freeAt = 0;
  /** Its next event: what, and when; the queue may hold older opinions. */
  what: (typeof Next)[keyof typeof Next] = Next.step;
  nextAt: number = NEVER;
  /** When its last store became visible. */
  drainedAt = 0;
  /** When each buffered store becomes visible, oldest first. */
  readonly drains: number[] = [];
  /** When each pending vector arrived, by vector. */
  readonly arrivals: Map<number, number> = new Map();
  /** What is left of computations that were interrupted. */
  readonly left: Map<Op, number> = new Map();
  readonly plan: PlannedMove[] = [];
  /** Whether an interrupt would find it in user mode, and the only one. */
  inUserMode = false;
  /** The Op that waits, and the cells it waits for. */
  waitsAt: Op | null = null;
  waiting: readonly Cell[] = [];

  readonly socket: number;

  constructor(cpu: Cpu, socket: number) {
    this.cpu = cpu;
    this.socket = socket;
  }

  /** Whether it computes or idles, with nothing pending that could end that. */
  private userMode(): boolean {
    const { cpu } = this;
    const { op } = cpu;
    return (
      (op === null || computesFor(op) !== null) &&
      cpu.irqsOn &&
      cpu.pending.length === 0 &&
      cpu.buffer.empty &&
      cpu.task.contexts.length === 0 &&
      this.plan.length === 0
    );
  }

  /** Looks again at what only events of this CPU change. */
  refresh(): void {
    this.inUserMode = this.userMode();
  }

  /** Notes how much of a computation is left at `at`, when something else gets the CPU. */
  suspend(at: number): void {
    const { op } = this.cpu;
    const lasts = op === null ? null : computesFor(op);
    if (op !== null && lasts !== null)
      this.left.set(op, (this.left.get(op) ?? lasts) - Math.max(0, at - this.freeAt));
  }
}


/**
 * What a kernel keeps per CPU. Only the run queue is a cell: the rest is looked at by its own CPU
 * alone, in code that interrupts cannot cut in two.
 */
import { assert, type Cell, type Cpu, type CpuId } from '@shootdown/machine';
import type { Kernel } from '../kernel.ts';
import type { MmStruct } from '../mmStruct.ts';
import type { TaskStruct } from './sched.ts';

/** struct rq: who runs, who could. One value, changed in one locked step, as under rq->lock. */
export interface RunQueue {
  readonly curr: TaskStruct;
  /** Who runs has decided to sleep: unless it is woken before, it does so at the next schedule(). */
  readonly currSleeps: boolean;
  /** Who could run, next first. */
  readonly queue: readonly TaskStruct[];
}

/** A task that sleeps until a time. */
export interface Sleeper {
  readonly atNs: number;
  readonly task: TaskStruct;
}

/** The variables of one CPU. */
export interface PerCpu {
  readonly id: CpuId;
  readonly hardware: Cpu;
  /** swapper/N: who runs when nobody else does. */
  readonly idle: TaskStruct;
  readonly rq: Cell<RunQueue>;
  /** `current`. */
  current: TaskStruct;
  /** TIF_NEED_RESCHED. */
  needResched: boolean;
  /** rq->prev_mm: a borrowed address space to give back once nothing runs on it here. */
  prevMm: MmStruct | null;
  /** Who is on the way to another CPU: queued there once this one has switched. */
  migrating: TaskStruct | null;
  /** hrtimers: sleepers of this CPU, by time. */
  sleepers: readonly Sleeper[];
  /** active_lockless_pt_walk_mm: whose tables are walked here, if walkers are tracked. */
  readonly activeLocklessPtWalkMm: Cell<MmStruct | null>;
}

/** smp_processor_id. */
export function smpProcessorId(k: Kernel): CpuId {
  const { current } = k.machine;
  assert(current !== null, 'kernel code asks for its CPU while it runs');
  return current.id;
}

/** The variables of CPU `cpu`. */
export function perCpu(k: Kernel, cpu: number): PerCpu {
  const found = k.percpu[cpu];
  assert(found !== undefined, 'every CPU has its variables');
  return found;
}

/** this_cpu_ptr. */
export const thisCpu = (k: Kernel): PerCpu => perCpu(k, smpProcessorId(k));

/** `current`. */
export const currentTask = (k: Kernel): TaskStruct => thisCpu(k).current;

/**
 * What the kernel counts about itself: /proc/vmstat's nr_tlb_* (CONFIG_DEBUG_TLBFLUSH), the TLB and
 * CAL rows of /proc/interrupts, and flushes by what their tracepoint would say, also when nobody
 * records.
 */
import type { CallFunction, CpuMask } from '@shootdown/machine';
import type { Kernel } from '../kernel.ts';
import { currentTask } from './percpu.ts';

/** Function-call interrupts sent for one function on behalf of one system call. */
export interface IpiCount {
  /** The function the targets run. */
  readonly func: string;
  /** What the sender was doing: a system call, `page_fault`, `exit`, or the thread's name. */
  readonly origin: string;
  /** Times it was sent, each to one CPU or to many. */
  sends: number;
  /** CPUs interrupted, summed. */
  interrupts: number;
}

/** The counters. All only grow. */
export class KernelStats {
  /** tlb:tlb_flush by `reason:pages`. */
  readonly flushes: Map<string, number> = new Map();
  /** /proc/vmstat. */
  readonly vmstat: {
    nr_tlb_remote_flush: number;
    nr_tlb_remote_flush_received: number;
    nr_tlb_local_flush_all: number;
    nr_tlb_local_flush_one: number;
    pgfault: number;
    thp_collapse_alloc: number;
    pgmigrate_success: number;
  } = {
    nr_tlb_remote_flush: 0,
    nr_tlb_remote_flush_received: 0,
    nr_tlb_local_flush_all: 0,
    nr_tlb_local_flush_one: 0,
    pgfault: 0,
    thp_collapse_alloc: 0,
    pgmigrate_success: 0,
  };
  /** /proc/interrupts, by CPU: functions that flushed user translations for another CPU. */
  readonly tlbRow: Float64Array;
  /** /proc/interrupts, by CPU: function-call interrupts. */
  readonly calRow: Float64Array;
  /** By function and origin. */
  readonly ipis: Map<string, IpiCount> = new Map();
  /** Calls that found their target's queue not empty: they share another call's interrupt. */
  coalesced = 0;

  constructor(cpus: number) {
    this.tlbRow = new Float64Array(cpus);
    this.calRow = new Float64Array(cpus);
  }

  /** One tlb_flush event. */
  flush(reason: number, pages: number): void {
    const key = `${reason}:${pages}`;
    this.flushes.set(key, (this.flushes.get(key) ?? 0) + 1);
  }
}

/** One interrupt was sent to `targets`, for a call of `run`. */
export function countIpis(k: Kernel, targets: CpuMask, run: CallFunction<never>): void {
  const { stats } = k;
  const { syscall, comm } = currentTask(k);
  const origin = syscall ?? comm;
  const key = `${run.name} ${origin}`;
  let count = stats.ipis.get(key);
  if (count === undefined) {
    count = { func: run.name, origin, sends: 0, interrupts: 0 };
    stats.ipis.set(key, count);
  }
  count.sends++;
  for (let cpu = targets.next(0); cpu !== -1; cpu = targets.next(cpu + 1)) {
    stats.calRow[cpu] = (stats.calRow[cpu] ?? 0) + 1;
    count.interrupts++;
  }
}

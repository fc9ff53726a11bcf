/**
 * One record of a trace: what a driver emits when kernel code passes a tracepoint, and what a
 * reader gets out of a recording. The machine knows no Linux, so what the event says and how a task
 * is named are type parameters; @shootdown/trace fills them with the recorded shapes.
 */
import type { CpuId, Nanoseconds } from './ids.ts';

/** What happened: `kind` selects the shape. */
export interface TraceEvent {
  readonly kind: string;
}

/** One event, where and when it happened. */
export interface TraceRecord<Event extends TraceEvent = TraceEvent, Task = unknown> {
  /**
   * Since the trace's origin; in a trace of a counter clock, counter ticks instead. Records of one
   * CPU never go backwards.
   */
  readonly time: Nanoseconds;
  /** The CPU that recorded the event. */
  readonly cpu: CpuId;
  /** The task that was running there, whether or not it had anything to do with the event. */
  readonly task: Task;
  /**
   * In what context the CPU was: bits of `Context`, or `CONTEXT_UNKNOWN` when the recording does
   * not say.
   */
  readonly context: number;
  readonly event: Event;
}

/**
 * The recording does not say in which context the CPU was. Not 0: 0 says "task context, interrupts
 * on".
 */
export const CONTEXT_UNKNOWN = -1;

/** Bits of TraceRecord.context. */
export const Context = {
  irqsOff: 0x01,
  needResched: 0x02,
  hardirq: 0x04,
  softirq: 0x08,
  nmi: 0x10,
  bhOff: 0x20,
  /** Bits 8-11: how deep preemption is disabled, 15 or more shown as 15. */
  preemptDepthShift: 8,
  /** Bits 12-15: how deep migration is disabled, 15 or more shown as 15. */
  migrateDisableShift: 12,
} as const;

/** What counting finds in one trace: plain data, made once at the end of the one pass. */
import type { CpuId } from '@shootdown/machine';
import type { LostEvents, TraceStatus } from '@shootdown/trace';
import type { CallKind } from './callKinds.ts';
import type { WhatIfRow } from './designs.ts';
import type { Matrix } from './callMatrix.ts';
import type { Cause, Received } from './ledger.ts';

/**
 * How good the evidence is. A: csd_queue_cpu names function and target. B: ipi_send_* names the
 * target, and a tlb_flush before it the purpose. C: tlb_flush sent and received, matched in
 * time. D: interrupt counts; how many, never who. Null: nothing about TLB work, IPIs or calls is in
 * the trace.
 */
export type EvidenceLevel = 'A' | 'B' | 'C' | 'D';

/** The evidence behind an answer. */
export interface Evidence {
  readonly level: EvidenceLevel | null;
  readonly why: string;
  /** C only: received flushes with exactly one sender in sight, with several, with none. */
  readonly matched: {
    readonly one: number;
    readonly ambiguous: number;
    readonly none: number;
  } | null;
}

/** What hit one CPU. */
export interface CpuAccount {
  readonly cpu: CpuId;
  readonly received: Received;
  /**
   * Entries of each interrupt by name (call_function, reschedule, ...); null when no irq_vectors
   * event is in the trace.
   */
  readonly interrupts: Readonly<Record<string, number>> | null;
  /**
   * call_function and call_function_single entries: what the CAL row would have counted. Null as
   * above.
   */
  readonly callInterrupts: number | null;
  /**
   * Clock units from entry to exit of those interrupts, summed, and the longest. Null when no pair
   * is in the trace.
   */
  readonly inInterrupts: { readonly total: number; readonly longest: number } | null;
  /**
   * What /proc/interrupts' TLB row would have counted meanwhile; null when the trace does not tell.
   */
  readonly tlbRow: number | null;
  /**
   * User-flush handlers that ran here and flushed nothing (generation reached already, or another
   * address space). Null when not in the trace.
   */
  readonly idleFlushes: number | null;
  /**
   * Tasks seen running here, idle and kernel threads left out, most records first; three at most.
   * Watched CPUs only.
   */
  readonly tasks: readonly string[];
  /**
   * Counts per kind (in the order of KIND_NAMES) in equal parts of the window; watched CPUs only.
   */
  readonly strip: readonly (readonly number[])[] | null;
}

/** tlb_flush events, and what became of the requests to flush remotely. */
export interface FlushCounts {
  /** Events by reason, 0 to 5. */
  readonly byReason: readonly number[];
  /**
   * Reason 4, traced once per flush whose mm_cpumask names another CPU, whether or not one is
   * interrupted: not a count of IPIs.
   */
  readonly requests: number;
  /**
   * Requests after which no flush call was queued, every target being lazy or elsewhere. Evidence A
   * only.
   */
  readonly requestsWithoutCall: number | null;
  /** Flush calls queued to other CPUs. Evidence A only. */
  readonly callsQueued: number | null;
}

/** The answer of `replay`. */
export interface ReplayCounts {
  readonly isolated: readonly CpuId[];
  /** What was cut: calls of other CPUs, records outside these times (absolute). Null: nothing. */
  readonly cut: {
    readonly cpus: readonly CpuId[] | null;
    readonly from: number | null;
    readonly to: number | null;
  };
  /** CPUs of the machine: as the header says, or as many as the trace shows. */
  readonly cpus: number;
  /** First and last counted record, absolute; null when none was counted. */
  readonly window: { readonly first: number; readonly last: number } | null;
  /** Unit of every time: microseconds, or ticks of a counter clock. */
  readonly unit: 'us' | 'ticks';
  /** Records counted, and how many of each event. */
  readonly records: number;
  readonly events: Readonly<Record<string, number>>;
  readonly evidence: Evidence;
  readonly lost: LostEvents;
  /** Who called whom, of the best evidence. */
  readonly matrix: Matrix;
  /** To the isolated CPUs together, or to all CPUs when none is isolated. */
  readonly received: Received;
  /** To all CPUs together. */
  readonly machine: Received;
  /** Of the calls to the isolated CPUs, or to all when none is; most calls first. */
  readonly causes: readonly Cause[];
  /** One per isolated CPU, or per CPU of the trace when none is isolated. */
  readonly accounts: readonly CpuAccount[];
  /** `at-least`: handlers may have run that the trace does not show. Null: it does not tell. */
  readonly tlbRowBasis: 'counted' | 'at-least' | null;
  /** Null when no tlb_flush event is in the trace. */
  readonly flushes: FlushCounts | null;
  readonly whatIf: readonly WhatIfRow[];
  /** Function-call interrupts sent before csd_queue_cpu was first seen: A's counts lack them. */
  readonly blind: number;
  /** Limits of this trace, in sentences. */
  readonly notes: readonly string[];
  readonly status: TraceStatus;
}

/** One call to a watched CPU, as it is seen. */
export interface ObservedCall {
  readonly evidence: EvidenceLevel;
  readonly time: number;
  readonly from: CpuId | null;
  readonly to: CpuId;
  readonly comm: string;
  readonly pid: number;
  readonly origin: string;
  readonly func: string;
  readonly kind: CallKind;
}

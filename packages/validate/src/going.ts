/** What is going on on one CPU, as far as records have begun it and not ended it. */
import type { FlushTlbInfo, TlbContext } from '@shootdown/arch-x86';
import type { Basis } from './bases.ts';
import type { KnownMm } from './model.ts';

/** A call that a flush has queued, as recorded. */
export interface QueuedCall {
  readonly target: number;
  /** The number of the record. */
  readonly seq: number;
  /** Whether it was alone; null: it may have been either way. */
  readonly alone: boolean | null;
  /** Whether ours made it too. */
  readonly ours: boolean;
}

/** The flush that a task is in. */
export interface FlushInFlight {
  /** Whose; null of a batch or a broadcast. */
  readonly entry: KnownMm | null;
  readonly what: 'mm' | 'batch' | 'broadcast';
  /** The number of the record that began it. */
  readonly since: number;
  freed: boolean;
  /** What is flushed, where no probe will show it. */
  readonly info: FlushTlbInfo | null;
  /** flush_tlb_multi() was reached. */
  multi: boolean;
  readonly queued: QueuedCall[];
  /** Who queued, as recorded; the interrupt is sent from the same place. */
  callsite: string;
  vectorJudged: boolean;
  /** The initiator has done its own part, where no call shows that. */
  done: boolean;
}

/** The flush_tlb_func() that a CPU is in. */
export interface FuncInFlight extends Basis {
  readonly info: FlushTlbInfo;
  /** The switch that it may turn out to be, where no probe shows that. */
  readonly leaving?: SwitchInFlight | undefined;
}

/** The switch_mm_irqs_off() that a CPU is in. */
export interface SwitchInFlight extends Basis {
  readonly entry: KnownMm;
  /** Nothing to decide: the same mm, and not lazy. */
  readonly trivial: boolean;
  readonly lazy: boolean;
  /** What its ASIDs held before, and which was next. */
  readonly before: readonly TlbContext[];
  readonly nextAsid: number;
  recordedAsid: number | null;
}

/** All of it. */
export interface Going {
  flush: FlushInFlight | null;
  func: FuncInFlight | null;
  switching: SwitchInFlight | null;
  /** Whose task the scheduler has switched to, -1 if that was not seen; and by which record. */
  nextPid: number;
  switchedAt: number;
  /** The last task that was seen to exit here, -1 if none was. */
  diedPid: number;
  /** By which record it was last seen to flush everything. */
  flushedAt: number;
  /** Of which CPU should_flush_tlb() was asked, where the answer does not say. */
  asked: number | null;
  /** A call runs that was queued before the recording. */
  stranger: boolean;
}

/** Nothing. */
export const nothingGoing = (): Going => ({
  flush: null,
  func: null,
  switching: null,
  nextPid: -1,
  switchedAt: -1,
  diedPid: -1,
  flushedAt: -1,
  asked: null,
  stranger: false,
});

/** A flush begins with record `since`. */
export const newFlush = (
  what: FlushInFlight['what'],
  entry: KnownMm | null,
  freed: boolean,
  since: number,
): FlushInFlight => ({
  entry,
  what,
  since,
  freed,
  info: null,
  multi: false,
  queued: [],
  callsite: '',
  vectorJudged: false,
  done: false,
});

/**
 * What every reader gives: a header at once, records in batches, and afterwards what was lost and
 * what could not be read.
 */
import type { CpuId } from '@shootdown/machine';
import type { TraceFormatError } from './errors.ts';
import type { RecordedRecord } from './events/shapes.ts';

/** The kinds of input that are read, by content. */
export type TraceKind = 'ftrace' | 'trace-cmd-report' | 'trace.dat';

/** What the front of the input says. Null: it does not say. */
export interface TraceHeader {
  readonly kind: TraceKind;
  /** trace.dat: 6 or 7. */
  readonly version: number | null;
  /** How the layout was decided, in words: `5 flag characters, tgid`, `v7, zstd`, ... */
  readonly layout: string;
  /** CPUs of the machine, as stated or (trace.dat) as recorded. */
  readonly cpus: number | null;
  /** Kernel release, `6.12.111-amd64`. */
  readonly kernel: string | null;
  readonly clock: TraceClock;
  /** Add to a record's `time` to get the time as the recorder printed it; a multiple of 10^9. */
  readonly origin: bigint;
  /** Ring buffers beside the main one (trace-cmd -B). */
  readonly buffers: readonly string[];
}

/** What the times count. */
export interface TraceClock {
  /** local, global, mono, x86-tsc, ... */
  readonly name: string | null;
  /** `ticks` for a counter clock: times order events but are not seconds. */
  readonly unit: 'ns' | 'ticks';
  /** The step in which this input states times: 1000 for text with microseconds. */
  readonly resolution: 1 | 1000;
}

/** Events that are not in the trace although they happened. */
export interface LostEvents {
  /** Per CPU, where that is known. */
  readonly byCpu: ReadonlyMap<CpuId, number>;
  /** All losses with a number, those of unknown CPUs too. */
  readonly counted: number;
  /** Places where the trace says "events were lost here" without a number. */
  readonly uncounted: number;
}

/** What is known once reading has ended, or so far. */
export interface TraceStatus {
  readonly records: number;
  readonly lost: LostEvents;
  /**
   * How many places were met where events of a CPU are missing between two records; null is a CPU
   * that the trace does not name. A batch ends where one is met: what has come here since the batch
   * before lies behind this batch's records of that CPU, and before its next.
   */
  readonly gaps: ReadonlyMap<CpuId | null, number>;
  /** The first 20 problems that were read over; only with `keepGoing`. */
  readonly problems: readonly TraceFormatError[];
  readonly problemCount: number;
  /**
   * Things worth saying that are not problems: "the header promises 2504 entries, the file holds
   * 40".
   */
  readonly notes: readonly string[];
}

/** An input, recognised and opened. */
export interface OpenedTrace {
  /** The name of the source. */
  readonly name: string;
  readonly header: TraceHeader;
  /**
   * The records, in the order of time as the recorder would print them. Once only. A batch belongs
   * to the receiver, and may be empty; an `other` payload keeps the block it came from alive.
   *
   * @throws TraceFormatError at the first thing that cannot be read, unless `keepGoing`.
   */
  batches(): AsyncIterable<readonly RecordedRecord[]>;
  status(): TraceStatus;
}

/** Options of every reader. */
export interface ReadOptions {
  /**
   * Read over what cannot be read, and list it in status().problems, instead of throwing at the
   * first.
   */
  readonly keepGoing?: boolean;
}

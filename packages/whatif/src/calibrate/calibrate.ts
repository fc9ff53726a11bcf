/**
 * What a recording says about time: how long each part of a shootdown takes, and which entries of a
 * cost table follow from that. One pass; memory is bounded by CPUs and by calls in progress.
 */
import type { OpenedTrace, TraceHeader, TraceStatus } from '@shootdown/trace';
import { Book, type LeftOut } from './book.ts';
import { type ClockOptions, type Times, timesOf } from './clock.ts';
import { type CalibratedEntry, type CostsByName, entriesOf, type MissingEntry } from './entries.ts';
import type { Histogram, Quantiles } from './histogram.ts';
import {
  INTERVAL_IDS,
  type IntervalFacts,
  type IntervalId,
  INTERVALS,
  NEEDED,
  whyNone,
} from './intervals.ts';
import { reasonWhyNot } from './reasons.ts';
import { Watch } from './watch.ts';

/** How to calibrate. */
export interface CalibrateOptions extends ClockOptions {
  /** The cost table whose entries are asked for. */
  readonly table: CostsByName;
}

/** One interval, in nanoseconds. Null is no data. */
export interface IntervalResult extends Pick<
  IntervalFacts,
  'title' | 'from' | 'to' | 'acrossCpus'
> {
  readonly id: IntervalId;
  readonly lengths: Quantiles | null;
  /** Of flushes, by pages; -1 is everything. */
  readonly byPages: readonly { readonly pages: number; readonly lengths: Quantiles }[];
  /** Intervals that began and were not used. */
  readonly leftOut: Readonly<Record<LeftOut, number>>;
  /** Why there is no data; null if there is. */
  readonly why: string | null;
}

/** The answer. */
export interface Calibration {
  readonly header: TraceHeader;
  readonly status: TraceStatus;
  readonly times: Omit<Times, 'steps'>;
  /** CPUs that recorded anything. */
  readonly cpus: number;
  readonly intervals: readonly IntervalResult[];
  readonly entries: readonly CalibratedEntry[];
  readonly missing: readonly MissingEntry[];
}

/**
 * Measures `trace`, which must not have been read before.
 *
 * @throws UsageError ERR_CLOCK when its clock measures nothing; TraceFormatError what its reader
 * throws.
 */
export async function calibrate(
  trace: OpenedTrace,
  options: CalibrateOptions,
): Promise<Calibration> {
  const { steps, ...times } = timesOf(trace.header.clock, options);
  const book = new Book({ ...times, steps });
  const watch = new Watch(book, { ...times, steps });
  const seen = new Set<string>();
  const cpus = new Set<number>();
  let gaps: TraceStatus['gaps'] = new Map();
  for await (const batch of trace.batches()) {
    for (const record of batch) {
      const { name } = record.event;
      if (NEEDED.has(name)) seen.add(name);
      cpus.add(record.cpu);
      watch.record(record);
    }
    const met = new Map(trace.status().gaps);
    for (const [cpu, count] of met) if (count > (gaps.get(cpu) ?? 0)) watch.lose(cpu);
    gaps = met;
  }
  watch.finish();
  const measured = { book, times: { ...times, steps }, seen, table: options.table };
  return {
    header: trace.header,
    status: trace.status(),
    times,
    cpus: cpus.size,
    intervals: INTERVAL_IDS.map((id) => intervalResult(id, book, times, seen)),
    ...entriesOf(measured, reasonWhyNot),
  };
}

function intervalResult(
  id: IntervalId,
  book: Book,
  { stepNs, perCpu }: Omit<Times, 'steps'>,
  seen: ReadonlySet<string>,
): IntervalResult {
  const { title, from, to, acrossCpus } = INTERVALS[id];
  const { all, byPages, leftOut } = book.tallies[id];
  const lengths = inNs(all, stepNs);
  const refused = acrossCpus ? perCpu : null;
  return {
    id,
    title,
    from,
    to,
    acrossCpus,
    lengths,
    byPages: [...byPages]
      .toSorted(([a], [b]) => a - b)
      .flatMap(([pages, histogram]) => {
        const some = inNs(histogram, stepNs);
        return some === null ? [] : [{ pages, lengths: some }];
      }),
    leftOut,
    why: refused ?? (lengths === null ? whyNone(id, seen) : null),
  };
}

function inNs(histogram: Histogram, stepNs: number): Quantiles | null {
  const steps = histogram.quantiles();
  if (steps === null) return null;
  const ns = (value: number): number => Math.round(value * stepNs);
  const { count, min, p50, p90, p99, max } = steps;
  return { count, min: ns(min), p50: ns(p50), p90: ns(p90), p99: ns(p99), max: ns(max) };
}

/**
 * The answer of `calibrate` as plain JSON: what `-f json` prints, what the schema describes, and all
 * that text and Markdown draw from. No data is null with a reason, never 0.
 */
import type { Calibration } from '@shootdown/whatif';

/** A distribution of lengths, nanoseconds. */
export interface LengthsView {
  readonly count: number;
  readonly minNs: number;
  readonly p50Ns: number;
  readonly p90Ns: number;
  readonly p99Ns: number;
  readonly maxNs: number;
}

/** One interval of a shootdown. */
export interface IntervalView {
  readonly id: string;
  readonly title: string;
  /** The events at its ends. */
  readonly from: string;
  readonly to: string;
  readonly acrossCpus: boolean;
  readonly lengths: LengthsView | null;
  /** Of flushes; -1 is everything. */
  readonly byPages: readonly { readonly pages: number; readonly lengths: LengthsView }[];
  /** Began and not used: the end came first, events were lost, sends shared an interrupt, no end. */
  readonly leftOut: {
    readonly negative: number;
    readonly lost: number;
    readonly shared: number;
    readonly unfinished: number;
  };
  /** Why there is no data; null if there is. */
  readonly why: string | null;
}

/** An entry of the cost table. */
export interface EntryView {
  readonly name: string;
  readonly ns: number;
  readonly plusMinusNs: number;
  readonly tableNs: number;
  readonly samples: number;
  readonly derivation: string;
}

/** The view. */
export interface CalibrateView {
  readonly schemaVersion: 1;
  readonly command: 'calibrate';
  readonly toolVersion: string;
  readonly input: {
    readonly file: string;
    readonly kind: string;
    readonly kernel: string | null;
    readonly cpus: number;
    readonly records: number;
    readonly problems: number;
    readonly notes: readonly string[];
  };
  readonly clock: {
    readonly name: string | null;
    readonly statedBy: 'trace' | 'option' | null;
    /** Nanoseconds of one step of the times. */
    readonly stepNs: number;
    /** Why intervals between CPUs cannot be measured; null if they can. */
    readonly perCpu: string | null;
    /** Why no entry can be had from these times; null if one can. */
    readonly coarse: string | null;
    readonly notes: readonly string[];
  };
  readonly lost: { readonly counted: number; readonly uncounted: number };
  readonly intervals: readonly IntervalView[];
  readonly entries: readonly EntryView[];
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
}

/** A cost profile as a file holds it: `calibrate -o` writes it, `run --costs` reads it. */
export interface CostProfile {
  readonly version: 1;
  readonly from?: string;
  readonly costs: Readonly<
    Record<
      string,
      number | { readonly ns: number; readonly source?: string; readonly samples?: number }
    >
  >;
}

/** What the view is made with. */
export interface CalibrateContext {
  readonly toolVersion: string;
  readonly file: string;
}

type Lengths = NonNullable<Calibration['intervals'][number]['lengths']>;

const lengthsView = ({ count, min, p50, p90, p99, max }: Lengths): LengthsView => ({
  count,
  minNs: min,
  p50Ns: p50,
  p90Ns: p90,
  p99Ns: p99,
  maxNs: max,
});

/** The view of a calibration. */
export function calibrateView(of: Calibration, context: CalibrateContext): CalibrateView {
  const { header, status, times } = of;
  return {
    schemaVersion: 1,
    command: 'calibrate',
    toolVersion: context.toolVersion,
    input: {
      file: context.file,
      kind: header.kind,
      kernel: header.kernel,
      cpus: of.cpus,
      records: status.records,
      problems: status.problemCount,
      notes: status.notes,
    },
    clock: {
      name: times.clock,
      statedBy: times.stated,
      stepNs: times.stepNs,
      perCpu: times.perCpu,
      coarse: times.coarse,
      notes: times.notes,
    },
    lost: { counted: status.lost.counted, uncounted: status.lost.uncounted },
    intervals: of.intervals.map(({ lengths, byPages, ...rest }) => ({
      ...rest,
      lengths: lengths === null ? null : lengthsView(lengths),
      byPages: byPages.map(({ pages, lengths: some }) => ({ pages, lengths: lengthsView(some) })),
    })),
    entries: of.entries,
    missing: of.missing,
  };
}

/** The entries of a view as a profile. */
export function costProfile({ input, clock, entries }: CalibrateView): CostProfile {
  const kernel = input.kernel === null ? '' : `, Linux ${input.kernel}`;
  const by = clock.name === null ? '' : `, clock ${clock.name}`;
  return {
    version: 1,
    from: `shootdown calibrate ${input.file}${kernel}${by}`,
    costs: Object.fromEntries(
      entries.map(({ name, ns, samples, derivation }) => [
        name,
        { ns, samples, source: `calibrated: ${derivation}` },
      ]),
    ),
  };
}

/**
 * Entries of the cost table out of measured intervals. An interval spans several of the table's
 * steps, so each entry is an equation: what was measured, less the entries that lie in it too. The
 * typical length is taken, the median: waiting for a CPU that has interrupts off is no step's cost,
 * it comes about in the model as it does in the kernel.
 */
import type { Book } from './book.ts';
import type { Times } from './clock.ts';
import type { Histogram } from './histogram.ts';
import { type IntervalId, INTERVALS, whyNone } from './intervals.ts';
import { type Estimate, less, lineThrough, medianOf, type Point } from './line.ts';

/** An entry of the cost table as this trace has it. */
export interface CalibratedEntry {
  readonly name: string;
  /** Nanoseconds, an integer from 0. */
  readonly ns: number;
  /** What the scatter leaves open: one standard error, about. */
  readonly plusMinusNs: number;
  /** What the table says. */
  readonly tableNs: number;
  readonly samples: number;
  /** How it was derived. */
  readonly derivation: string;
}

/** An entry that this trace does not give. */
export interface MissingEntry {
  readonly name: string;
  readonly reason: string;
}

/** A cost table as far as it matters here: nanoseconds by name. */
export type CostsByName = Readonly<Record<string, { readonly ns: number }>>;

/** What an entry is derived from. */
export interface Measured {
  readonly book: Book;
  readonly times: Times;
  readonly seen: ReadonlySet<string>;
  readonly table: CostsByName;
}

type Derived = Omit<CalibratedEntry, 'name' | 'tableNs'>;
/** A string is the reason why there is none. */
type Derive = (m: Measured) => Derived | string;

/** A full flush, where pages are counted. */
const EVERYTHING = -1;
/** A median of fewer says nothing. */
const FEWEST = 5;
/** Of more negative intervals than one in so many, the CPUs' clocks are not one. */
const SKEWED = 100;

/** The entries that a trace can give, by the table's names. */
const DERIVED: ReadonlyMap<string, Derive> = new Map<string, Derive>([
  ['sendIpi', sendIpi],
  ['ipiFlight', ipiFlight],
  ['invlpg', invlpg],
  ['writeCr3', writeCr3],
]);

/** Nanoseconds with their thousands apart. */
const show = (ns: number): string => String(Math.round(ns)).replace(/\B(?=(?:\d{3})+$)/g, ',');

/** A step that is less than so many of its errors is noise. */
const ERRORS = 2;

interface Median extends Estimate {
  readonly samples: number;
}

function median(m: Measured, id: IntervalId): Median | string {
  const { all, leftOut } = m.book.tallies[id];
  const { title, acrossCpus } = INTERVALS[id];
  const { coarse, perCpu, stepNs } = m.times;
  if (coarse !== null) return coarse;
  if (acrossCpus && perCpu !== null) return perCpu;
  if (all.count === 0) return whyNone(id, m.seen);
  if (all.count < FEWEST) return `'${title}': ${all.count} measured, ${FEWEST} are needed`;
  const calls = m.book.tallies['queue-handler'];
  const negative = calls.leftOut.negative + leftOut.negative;
  if (acrossCpus && negative * SKEWED > calls.all.count + all.count)
    return "the CPUs' clocks differ: too many intervals between CPUs are negative";
  return { ...medianOf(all, stepNs), samples: all.count };
}

/** A cost, if it stands out from scatter; `seen` is the length that the clock had to show for it. */
function cost(
  m: Measured,
  ns: Estimate,
  samples: number,
  derivation: string,
  seen: number = ns.value,
): Derived | string {
  const { stepNs } = m.times;
  const found = `${derivation}, is ${show(ns.value)} +- ${show(ns.error)} ns`;
  if (ns.value < ERRORS * ns.error) return `${found}: not told from the scatter`;
  if (seen < stepNs) return `${found}: times come in steps of ${show(stepNs)} ns`;
  return { ns: Math.round(ns.value), plusMinusNs: Math.ceil(ns.error), samples, derivation };
}

function sendIpi(m: Measured): Derived | string {
  const sent = median(m, 'send-own');
  if (typeof sent === 'string') return sent;
  return cost(m, sent, sent.samples, `median of '${INTERVALS['send-own'].title}'`);
}

function ipiFlight(m: Measured): Derived | string {
  const entered = median(m, 'send-entry');
  if (typeof entered === 'string') return entered;
  const own = sendIpi(m);
  const measured = typeof own !== 'string';
  const send: Estimate = measured
    ? { value: own.ns, error: own.plusMinusNs }
    : { value: m.table['sendIpi']?.ns ?? 0, error: 0 };
  const entry: Estimate = { value: m.table['irqEntry']?.ns ?? 0, error: 0 };
  const { title } = INTERVALS['send-entry'];
  return cost(
    m,
    less(less(entered, send), entry),
    entered.samples,
    `median of '${title}' (${show(entered.value)}), less sendIpi ${measured ? 'as measured' : 'of the table'} ` +
      `(${show(send.value)}) and irqEntry of the table (${show(entry.value)})`,
  );
}

interface FlushTimes {
  readonly title: string;
  readonly points: readonly Point[];
  readonly everything: Histogram | undefined;
  readonly samples: number;
}

/** The flushes, here or for another CPU, of which more were measured. */
function flushTimes(m: Measured): FlushTimes | string {
  const { coarse, stepNs } = m.times;
  if (coarse !== null) return coarse;
  const series = (['remote-flush', 'local-flush'] as const).map((id): FlushTimes => {
    const { byPages } = m.book.tallies[id];
    const points = [...byPages].flatMap(([x, lengths]): readonly Point[] =>
      x < 1 || lengths.count < FEWEST
        ? []
        : [{ x, y: medianOf(lengths, stepNs), weight: lengths.count }],
    );
    const samples = points.reduce((sum, { weight }) => sum + weight, 0);
    return { title: INTERVALS[id].title, points, everything: byPages.get(EVERYTHING), samples };
  });
  const [best] = series
    .filter(({ points }) => points.length >= 2)
    .toSorted((a, b) => b.samples - a.samples);
  if (best !== undefined) return best;
  const { 'remote-flush': remote, 'local-flush': local } = m.book.tallies;
  return remote.all.count + local.all.count > 0
    ? `flushes of two page counts are needed, ${FEWEST} of each`
    : whyNone('local-flush', m.seen);
}

function invlpg(m: Measured): Derived | string {
  const flushes = flushTimes(m);
  if (typeof flushes === 'string') return flushes;
  const { title, points, samples } = flushes;
  const { slope } = lineThrough(points);
  const pages = points.map(({ x }) => x);
  const [first, last] = [Math.min(...pages), Math.max(...pages)];
  const derivation = `slope of '${title}' over ${points.length} page counts, ${first} to ${last}`;
  return cost(m, slope, samples, derivation, slope.value * (last - first));
}

function writeCr3(m: Measured): Derived | string {
  const flushes = flushTimes(m);
  if (typeof flushes === 'string') return flushes;
  const { title, points, everything } = flushes;
  if (everything === undefined || everything.count < FEWEST)
    return `'${title}' of everything: ${everything?.count ?? 0} measured, ${FEWEST} are needed`;
  const whole = medianOf(everything, m.times.stepNs);
  const { intercept } = lineThrough(points);
  return cost(
    m,
    less(whole, intercept),
    everything.count,
    `median of '${title}' of everything (${show(whole.value)}), less what one of no page would take ` +
      `(${show(intercept.value)})`,
  );
}

/** Every name of the table: as this trace has it, or why it has not. */
export function entriesOf(
  m: Measured,
  reason: (name: string) => string,
): { readonly entries: readonly CalibratedEntry[]; readonly missing: readonly MissingEntry[] } {
  const entries: CalibratedEntry[] = [];
  const missing: MissingEntry[] = [];
  for (const [name, { ns: tableNs }] of Object.entries(m.table)) {
    const derived = DERIVED.get(name)?.(m) ?? reason(name);
    if (typeof derived === 'string') missing.push({ name, reason: derived });
    else entries.push({ name, ...derived, tableNs });
  }
  return { entries, missing };
}

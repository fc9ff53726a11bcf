/** The calibrate view as blocks: the answer, what it rests on, the lengths, the entries, the rest. */
import { type Block, left, NO_BREAK, right } from '../blocks.ts';
import { plural, thousands } from '../words.ts';
import type { CalibrateView, IntervalView, LengthsView } from './view.ts';

/** Rows of one flush by pages that text shows; JSON has all. */
const MOST_PAGES = 8;

/** The view as a list of blocks. */
export function calibrateBlocks(view: CalibrateView): readonly Block[] {
  const { entries, missing } = view;
  return [
    ...warnings(view),
    { kind: 'lead', lines: [headline(view)] },
    { kind: 'lines', lines: factLines(view) },
    { kind: 'heading', text: 'How long things take (between events of the trace)' },
    intervalTable(view.intervals),
    { kind: 'lines', lines: intervalLines(view.intervals) },
    ...(entries.length === 0 ? [] : entryBlocks(view)),
    ...(missing.length === 0 ? [] : missingBlocks(view)),
  ];
}

function headline({ entries, missing, intervals }: CalibrateView): string {
  if (intervals.every(({ lengths }) => lengths === null))
    return 'This trace does not say how long any part of a shootdown takes.';
  const all = entries.length + missing.length;
  if (entries.length === 0)
    return `None of the ${all} entries of the cost table can be had from this trace.`;
  const one = entries.length === 1 ? 'entry' : 'entries';
  return `${entries.length} ${one} of the cost table can be had from this trace, ${missing.length} cannot.`;
}

/** A length of time: `45 ns`, `8.0 us`, `12.30 ms`, `1.50 s`. */
export function duration(ns: number): string {
  if (ns < 1000) return `${ns} ns`;
  if (ns < 1e6) return `${(ns / 1000).toFixed(1)} us`;
  return ns < 1e9 ? `${(ns / 1e6).toFixed(2)} ms` : `${(ns / 1e9).toFixed(2)} s`;
}

function warnings({ intervals, lost, input, clock }: CalibrateView): readonly Block[] {
  const texts: string[] = [];
  if (lost.counted + lost.uncounted > 0) {
    const counted = lost.counted > 0 ? [plural(lost.counted, 'event') + ' lost'] : [];
    const places = lost.uncounted > 0 ? [`events lost in ${plural(lost.uncounted, 'place')}`] : [];
    const spoiled = intervals.reduce((sum, { leftOut }) => sum + leftOut.lost, 0);
    texts.push(
      `${[...counted, ...places].join(', ')}: ${plural(spoiled, 'interval')} across a loss not used.`,
    );
  }
  if (input.problems > 0)
    texts.push(`${plural(input.problems, 'place')} of the input could not be read.`);
  for (const { title, leftOut } of intervals)
    if (leftOut.negative > 0)
      texts.push(
        `${plural(leftOut.negative, 'interval')} of '${title}' ended before it began: the clocks of the ` +
          'CPUs differ. Negative ones are not used, and the others are wrong by as much.',
      );
  if (clock.perCpu !== null) texts.push(`No interval between CPUs: ${clock.perCpu}.`);
  if (clock.coarse !== null) texts.push(`No entry of the cost table: ${clock.coarse}.`);
  return texts.map((text) => ({ kind: 'warning', text }));
}

function factLines({ input, clock }: CalibrateView): readonly string[] {
  const step = clock.stepNs < 1 ? clock.stepNs.toFixed(3) : thousands(clock.stepNs);
  const said = clock.statedBy === 'option' ? ' (as you say)' : '';
  const facts = [
    input.kind,
    input.kernel === null ? null : `Linux ${input.kernel}`,
    plural(input.cpus, 'CPU'),
    plural(input.records, 'event'),
    `clock ${clock.name ?? 'not stated'}${said}`,
    `times in steps of ${step} ns`,
  ];
  return [
    facts
      .filter((fact) => fact !== null)
      .map((fact) => fact.replaceAll(' ', NO_BREAK))
      .join(`${NO_BREAK}· `),
    ...[...clock.notes, ...input.notes].map((note) => `note: ${note}`),
  ];
}

const cells = (lengths: LengthsView): readonly string[] => [
  thousands(lengths.count),
  ...[lengths.minNs, lengths.p50Ns, lengths.p90Ns, lengths.p99Ns, lengths.maxNs].map(duration),
];

function intervalTable(intervals: readonly IntervalView[]): Block {
  const rows = intervals.flatMap(({ title, lengths, byPages }) => [
    [title, ...(lengths === null ? ['no data'] : cells(lengths))],
    ...shown(byPages).map(({ pages, lengths: some }) => [
      `${NO_BREAK}${NO_BREAK}${pagesOf(pages)}`,
      ...cells(some),
    ]),
  ]);
  const columns = [
    left('interval'),
    right('count'),
    right('min'),
    right('p50'),
    right('p90'),
    right('p99'),
    right('max'),
  ];
  return { kind: 'table', columns, rows };
}

const pagesOf = (pages: number): string => (pages === -1 ? 'everything' : plural(pages, 'page'));

/** Those of which most were measured. */
function shown(byPages: IntervalView['byPages']): IntervalView['byPages'] {
  const most = byPages.toSorted((a, b) => b.lengths.count - a.lengths.count).slice(0, MOST_PAGES);
  return byPages.filter((row) => most.includes(row));
}

function intervalLines(intervals: readonly IntervalView[]): readonly string[] {
  const lines: string[] = [];
  const reasons = new Map<string, string[]>();
  for (const { title, lengths, why, leftOut, byPages } of intervals) {
    if (why !== null && lengths === null) reasons.set(why, [...(reasons.get(why) ?? []), title]);
    const parts = [
      leftOut.shared > 0 ? `${thousands(leftOut.shared)} that shared an interrupt` : null,
      leftOut.unfinished > 0
        ? `${thousands(leftOut.unfinished)} whose end is not in the trace`
        : null,
      leftOut.lost > 0 ? `${thousands(leftOut.lost)} across lost events` : null,
    ].filter((part) => part !== null);
    if (parts.length > 0) lines.push(`${title}: not used ${parts.join(', ')}.`);
    if (byPages.length > MOST_PAGES)
      lines.push(`${title}: ${byPages.length - MOST_PAGES} more page counts: -f json.`);
  }
  return [
    ...[...reasons].map(([why, titles]) => `no data: ${titles.join(', ')}: ${why}.`),
    ...lines,
    'What tracing itself costs is in every length.',
  ];
}

function entryBlocks({ entries }: CalibrateView): readonly Block[] {
  const rows = entries.map(({ name, ns, plusMinusNs, tableNs, samples, derivation }) => [
    name,
    thousands(ns),
    thousands(plusMinusNs),
    thousands(tableNs),
    thousands(samples),
    derivation,
  ]);
  const columns = [
    left('entry'),
    right('ns'),
    right('+-'),
    right('table'),
    right('samples'),
    left('derived as'),
  ];
  return [
    { kind: 'heading', text: 'Entries of the cost table from this trace' },
    { kind: 'table', columns, rows },
  ];
}

function missingBlocks({ missing }: CalibrateView): readonly Block[] {
  const reasons = new Map<string, string[]>();
  for (const { name, reason } of missing)
    reasons.set(reason, [...(reasons.get(reason) ?? []), name]);
  const rows = [...reasons].map(([reason, names]) => [names.join(', '), reason]);
  return [
    { kind: 'heading', text: 'Entries that this trace does not give' },
    { kind: 'table', columns: [left('entries'), left('why')], rows },
  ];
}

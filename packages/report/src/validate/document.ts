/** The validate view as blocks: the answer, what it rests on, the scores, and what differs. */
import { type Block, left, right } from '../blocks.ts';
import { plural, thousands } from '../words.ts';
import type { DecisionView, DifferenceView, ScoreView, ValidateView } from './view.ts';

/** What is shown beyond the answer. */
export interface ValidateParts {
  /** Which fields are inputs and which are judged. */
  readonly fields?: boolean;
  /** How many differences; default: all that the view has. */
  readonly differences?: number;
}

/** Where there is no data. */
const NONE = '-';

/** The view as a list of blocks. */
export function validateBlocks(view: ValidateView, parts: ValidateParts = {}): readonly Block[] {
  const { decisions, total, workload } = view;
  const marked =
    workload === null
      ? []
      : [
          heading('Between WORKLOAD_BEGIN and WORKLOAD_END'),
          scoreTable(decisions, workload, (of) => of.workload),
        ];
  return [
    { kind: 'lead', lines: headline(view) },
    { kind: 'lines', lines: factLines(view) },
    ...warnings(view),
    heading('Decisions of the model beside those recorded'),
    scoreTable(decisions, total, ({ all }) => all),
    ...learnedLines(view),
    ...marked,
    ...causeBlocks(view),
    ...differenceBlocks(view, parts.differences),
    ...resyncBlocks(view),
    ...(parts.fields === true ? fieldBlocks(view) : []),
  ];
}

const heading = (text: string): Block => ({ kind: 'heading', text });

function headline({ total, differences, depth }: ValidateView): readonly string[] {
  if (total.total === 0)
    return [`Nothing could be decided: the recording shows no decision at depth ${depth}.`];
  const { decided, different, learned, learnedDifferent, notDecidable } = total;
  const first = differences.first.find((one) => one.learned === (different === 0));
  const which =
    first === undefined
      ? ''
      : `; the first: ${first.kind} at record ${thousands(first.record)}, ours ${first.ours}, ` +
        `recorded ${first.recorded}`;
  const lines: string[] = [];
  if (decided === 0 && learned === 0)
    lines.push('Nothing could be decided, so nothing is said about the model.');
  else if (decided === 0) lines.push('Nothing could be decided from what is known.');
  else if (different > 0)
    lines.push(`${thousands(different)} of ${plural(decided, 'decided decision')} differ${which}.`);
  else if (decided === 1) lines.push('The one decided decision is equal.');
  else lines.push(`All ${thousands(decided)} decided decisions are equal.`);
  const some = plural(learned, 'more rests', 'more rest');
  if (learned > 0 && learnedDifferent === 0)
    lines.push(`${some} on what was learned from the recording: equal.`);
  if (learnedDifferent > 0)
    lines.push(
      `${some} on what was learned from the recording: ${thousands(learnedDifferent)} of them differ` +
        `${different > 0 ? '' : which}.`,
    );
  const were = notDecidable === 1 ? 'was' : 'were';
  lines.push(`${thousands(notDecidable)} of all ${thousands(total.total)} ${were} not decidable.`);
  return lines;
}

function factLines(view: ValidateView): readonly string[] {
  const { input, kernel, cpus, pcid, pti } = view;
  const facts = [
    input.kind,
    ...(input.kernel === null ? [] : [`Linux ${input.kernel}`]),
    ...(input.clock === null ? [] : [`clock ${input.clock}`]),
    plural(input.records, 'record'),
  ];
  const onOff = (on: boolean): string => (on ? 'on' : 'off');
  return [
    `${input.file} · ${facts.join(' · ')}`,
    `Depth ${view.depth}, backend ${view.backend}.`,
    `Kernel ${kernel.value} (${kernel.by}).`,
    `${plural(cpus.value, 'CPU')} (${cpus.by}), PCID ${onOff(pcid.value)} (${pcid.by}), PTI ${onOff(pti.value)} (${pti.by}).`,
    ...input.notes.map((note) => `note: ${note}`),
  ];
}

function warnings({ lost, input, cpus }: ValidateView): readonly Block[] {
  const { counted, uncounted } = lost;
  const texts: string[] = [];
  if (input.wrapped)
    texts.push(
      `The ring buffers were full: ${plural(counted, 'event')} lost at the beginning, and each CPU's records ` +
        'begin at another time. What was there before is not known until every CPU has a record.',
    );
  else if (counted + uncounted > 0) {
    const some = [
      ...(counted > 0 ? [`${plural(counted, 'event')} lost`] : []),
      ...(uncounted > 0 ? [`events lost in ${plural(uncounted, 'place')}`] : []),
    ];
    texts.push(`${some.join(', ')}: what was known before is forgotten there.`);
  }
  if (input.problems > 0)
    texts.push(`${plural(input.problems, 'place')} of the input could not be read.`);
  if (input.outside > 0)
    texts.push(
      `${plural(input.outside, 'record')} of CPUs from ${cpus.value} on not looked at: the machine is taken to ` +
        `have ${plural(cpus.value, 'CPU')} (${cpus.by}).`,
    );
  return texts.map((text) => ({ kind: 'warning', text }));
}

/** `99.9`, cut already; `-` for a share of nothing. */
const percent = (share: number | null): string => (share === null ? NONE : share.toFixed(1));

function cells(score: ScoreView | null): readonly string[] {
  if (score === null || score.total === 0) return Array.from({ length: 8 }, () => NONE);
  const { learned } = score;
  const ofDecided = (count: number): string => (score.decided === 0 ? NONE : thousands(count));
  return [
    thousands(score.decided),
    ofDecided(score.equal),
    ofDecided(score.reordered),
    ofDecided(score.different),
    thousands(learned),
    thousands(score.notDecidable),
    percent(score.percentEqual),
    percent(score.percentDecided),
  ];
}

function scoreTable(
  kinds: readonly DecisionView[],
  total: ScoreView,
  of: (decision: DecisionView) => ScoreView | null,
): Block {
  const columns = [
    left('Decision'),
    right('Decided'),
    right('Equal'),
    right('Reordered'),
    right('Different'),
    right('Learned'),
    right('Not decidable'),
    right('% equal'),
    right('% decided'),
  ];
  const rows = kinds.map((kind) => [kind.kind, ...cells(of(kind))]);
  return { kind: 'table', columns, rows: [...rows, ['all', ...cells(total)]] };
}

/** Those of the learned ones that differ: no column, since there should be none. */
function learnedLines({ decisions }: ValidateView): readonly Block[] {
  const wrong = decisions.filter(({ all }) => all.learnedDifferent > 0);
  if (wrong.length === 0) return [];
  const each = wrong.map(({ kind, all }) => `${kind} ${thousands(all.learnedDifferent)}`);
  return [{ kind: 'lines', lines: [`Of the learned ones differ: ${each.join(', ')}.`] }];
}

function causeBlocks(view: ValidateView): readonly Block[] {
  const marked = view.workload !== null;
  const rows = view.decisions.flatMap(({ kind, all, workload }) =>
    all.causes.map(({ cause, count }) => {
      const inside = workload?.causes.find((other) => other.cause === cause)?.count ?? 0;
      return [kind, thousands(count), ...(marked ? [thousands(inside)] : []), cause];
    }),
  );
  if (rows.length === 0) return [];
  const columns = [
    left('Decision'),
    right('Count'),
    ...(marked ? [right('In workload')] : []),
    left('What is missing'),
  ];
  return [heading('Not decidable'), { kind: 'table', columns, rows }];
}

function differenceBlocks(
  { differences }: ValidateView,
  shown: number = differences.first.length,
): readonly Block[] {
  const first = differences.first.slice(0, shown);
  if (first.length === 0) return [];
  const { count } = differences;
  const said =
    count === first.length
      ? 'Differences'
      : `The first ${first.length === 1 ? '' : `${first.length} `}of ${thousands(count)} differences`;
  return [heading(said), ...first.flatMap(differenceBlock)];
}

function differenceBlock(one: DifferenceView, at: number): readonly Block[] {
  const { kind, record, time, cpu, task, ours, recorded, because, learned, rule } = one;
  const where = one.inWorkload ? ', in the workload' : '';
  const basis = learned ? ' (partly learned from the recording)' : '';
  return [
    heading(
      `${at + 1}. ${kind}: record ${thousands(record)} at ${time}, CPU ${cpu}, task ${task}${where}`,
    ),
    { kind: 'table', columns: [left('Ours'), left('Recorded')], rows: [[ours, recorded]] },
    { kind: 'lines', lines: [`ours rests on: ${because}${basis}`, `by the rule: ${rule}`] },
  ];
}

function resyncBlocks({ resyncs }: ValidateView): readonly Block[] {
  if (resyncs.length === 0) return [];
  const rows = resyncs.map(({ reason, count }) => [reason, thousands(count)]);
  return [
    heading('How often the model was put right'),
    { kind: 'table', columns: [left('At'), right('Times')], rows },
  ];
}

function fieldBlocks({ fields, depth }: ValidateView): readonly Block[] {
  const words = (names: readonly string[]): string =>
    names.length === 0 ? NONE : names.join(', ');
  const rows = fields.map(({ event, inputs, judged }) => [event, words(inputs), words(judged)]);
  const columns = [left('Event'), left('Input'), left('Judged')];
  return [heading(`Inputs and judged fields at depth ${depth}`), { kind: 'table', columns, rows }];
}

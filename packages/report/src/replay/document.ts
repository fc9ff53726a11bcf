/**
 * The replay view as blocks, in the order in which a reader asks: the answer, what it rests on,
 * who, what, when, and what would be left.
 */
import { parseCpuList } from '@shootdown/machine';
import { type Block, left, NO_BREAK, right } from '../blocks.ts';
import { cpusOf, plural, seconds, thousands, timestamp } from '../words.ts';
import { accountBlocks, flushBlocks, tlbRowSentence, whenBlocks } from './cpus.ts';
import { causeTable } from './causes.ts';
import { matrixBlock } from './matrix.ts';
import type { ReplayView, WhatIfView } from './view.ts';

const KIND_NAMES: ReadonlyMap<string, string> = new Map([
  ['ftrace', 'ftrace text'],
  ['trace-cmd-report', 'trace-cmd report text'],
]);

/** The view as a list of blocks. */
export function replayBlocks(view: ReplayView): readonly Block[] {
  const blocks: Block[] = [
    ...holes(view),
    { kind: 'lead', lines: view.headline },
    { kind: 'lines', lines: factLines(view) },
  ];
  if (view.evidence.level === null) return [...blocks, ...noteBlocks(view)];
  const target = targetOf(view);
  const isolated = view.isolated === '' ? [] : parseCpuList(view.isolated, null);
  if (view.matrix.cells.length > 0) {
    const how = view.evidence.level === 'A' ? 'function calls queued' : 'calls seen';
    blocks.push({
      kind: 'heading',
      text: `Who interrupts whom (${how}; rows send, columns receive)`,
    });
    blocks.push(matrixBlock(view.matrix.cells, view.cpus, isolated));
  }
  if (view.causes.length > 0 && view.received !== null) {
    const calls = plural(view.received.calls, 'call');
    blocks.push({ kind: 'heading', text: `What was sent to ${target}: ${calls}` });
    blocks.push(causeTable(view));
  }
  blocks.push(...whenBlocks(view), ...accountBlocks(view));
  const row = tlbRowSentence(view, target);
  if (row !== null) blocks.push({ kind: 'warning', text: row });
  blocks.push(...flushBlocks(view));
  blocks.push({
    kind: 'heading',
    text: `What another design would leave (calls to ${target})`,
  });
  blocks.push(whatIfTable(view), { kind: 'lines', lines: whatIfNotes(view) });
  return [...blocks, ...noteBlocks(view)];
}

function targetOf(view: ReplayView): string {
  if (view.isolated === '')
    return view.cut.cpus === null ? 'all CPUs' : `and from ${cpusOf(view.cut.cpus)}`;
  return cpusOf(view.isolated);
}

/** A trace with holes is said to have them before anything is concluded from it. */
function holes({ lost, input }: ReplayView): readonly Block[] {
  const blocks: Block[] = [];
  if (lost.counted + lost.uncounted > 0) {
    const cpus = lost.byCpu.map(({ cpu, events }) => `${thousands(events)} on CPU ${cpu}`);
    const where = cpus.length === 0 ? '' : ` (${cpus.slice(0, 8).join(', ')})`;
    const places = plural(lost.uncounted, 'place');
    const more = lost.uncounted === 0 ? '' : `, and an unknown number in ${places}`;
    const counted = `${plural(lost.counted, 'event')} lost${where}${more}`;
    const lostText = lost.counted === 0 ? `Events lost, an unknown number in ${places}` : counted;
    const then = 'counts are lower bounds, and causes may be wrong near the gaps.';
    const text = `${lostText}: ${then}`;
    blocks.push({ kind: 'warning', text });
  }
  const { count, first } = input.unreadable;
  if (count > 0) {
    const what = `${plural(count, 'place')} of the input could not be read`;
    blocks.push({ kind: 'warning', text: `${what}; the first: ${first[0] ?? ''}` });
  }
  return blocks;
}

function factLines(view: ReplayView): readonly string[] {
  const { input, window, cut, unit } = view;
  const length = window === null ? '' : ` in ${seconds(window.length, unit)}`;
  const facts = [
    KIND_NAMES.get(input.kind) ?? input.kind,
    input.layout,
    input.kernel === null ? null : `Linux ${input.kernel}`,
    plural(view.cpus, 'CPU'),
    window === null ? 'no events' : `${plural(view.records, 'event')}${length}`,
    window === null ? null : `from ${timestamp(window.first, unit)}`,
    view.lost.counted + view.lost.uncounted === 0 ? 'no events lost' : null,
  ];
  const lines = [
    facts
      .filter((fact) => fact !== null)
      .map((fact) => fact.replaceAll(' ', NO_BREAK))
      .join(`${NO_BREAK}· `),
  ];
  if (cut.cpus !== null) lines.push(`cut: only calls from or to ${cpusOf(cut.cpus)}`);
  if (cut.from !== null || cut.to !== null) {
    const from = cut.from === null ? 'the start' : timestamp(cut.from, unit);
    const to = cut.to === null ? 'the end' : timestamp(cut.to, unit);
    lines.push(`cut: only events from ${from} to ${to}`);
  }
  const { level, why, matched } = view.evidence;
  if (level !== null) lines.push(`evidence ${level}: ${why}`);
  if (matched !== null && (view.received?.calls ?? 0) > 0) {
    const { one, ambiguous, none } = matched;
    const received = plural(one + ambiguous + none, 'flush', 'flushes');
    const several = `${thousands(ambiguous)} several (ambiguous)`;
    lines.push(
      `of ${received} received, ${thousands(one)} had one sender in sight, ${several}, ${thousands(none)} none`,
    );
  }
  return lines;
}

function whatIfTable(view: ReplayView): Block {
  const least = view.complete ? '' : '>= ';
  const range = (value: WhatIfView['calls'], before: string): string => {
    if (value === null) return 'no data';
    const show = (n: number): string => (n < 0 ? `-${thousands(-n)}` : thousands(n));
    const both = value.min === value.max ? '' : ` to ${show(value.max)}`;
    return `${before}${show(value.min)}${both}`;
  };
  const rows = view.whatIf.map((row) => [
    row.title,
    range(row.calls, least),
    range(row.change, ''),
    row.basis,
  ]);
  const columns = [left('design'), right('calls'), right('change'), left('basis')];
  return { kind: 'table', columns, rows };
}

/** What each row of the table assumes, rows with the same words together. */
function whatIfNotes(view: ReplayView): readonly string[] {
  const titles = new Map<string, string[]>();
  for (const { title, note, basis } of view.whatIf) {
    if (basis !== 'measured') titles.set(note, [...(titles.get(note) ?? []), title]);
  }
  return [
    ...[...titles].map(([note, rows]) => `${rows.join(', ')}: ${note}`),
    'Inputs held as recorded: a design is taken not to change what programs do next. ' +
      'Calls, not interrupts: several may share one.',
  ];
}

function noteBlocks(view: ReplayView): readonly Block[] {
  const notes = [...view.notes, ...view.input.notes];
  return notes.length === 0 ? [] : [{ kind: 'lines', lines: notes.map((note) => `note: ${note}`) }];
}

/**
 * The replay view as blocks, in the order in which a reader asks: the answer, what it rests on,
 * who, what, when, and what would be left.
 */
import { parseCpuList } from '@shootdown/machine';
import type { CallKind } from '@shootdown/whatif';
import { BAR, type Block, type Column, NO_BREAK } from '../blocks.ts';
import { plural, seconds, thousands, timestamp } from '../words.ts';
import { matrixBlock } from './matrix.ts';
import type { AccountView, CauseView, ReplayView } from './view.ts';

const left = (title: string): Column => ({ title, align: 'left' });
const right = (title: string): Column => ({ title, align: 'right' });

/** Causes and CPUs shown before the rest is summed up; `-f json` has all. */
const CAUSES = 14;
const ACCOUNTS = 16;

/**
 * One letter per kind, capitals for TLB work; a bucket shows the first of these that came in it.
 */
const LETTERS: readonly (readonly [CallKind, string, string])[] = [
  ['table-sync', 'P', 'page-table sync'],
  ['user-flush', 'U', 'user TLB flush'],
  ['flush-all', 'A', 'flush of everything'],
  ['kernel-range', 'K', 'kernel-range flush'],
  ['text-patching', 't', 'text patching'],
  ['membarrier', 'm', 'membarrier'],
  ['rcu', 'r', 'RCU'],
  ['scheduler', 's', 'scheduler'],
  ['other', 'o', 'other'],
];

/** The view as a list of blocks. */
export function replayBlocks(view: ReplayView): readonly Block[] {
  const blocks: Block[] = [];
  const lost = lostSentence(view);
  // A trace with holes is said to have them before anything is concluded from it.
  if (lost !== null) blocks.push({ kind: 'warning', text: lost });
  if (view.input.unreadable.count > 0) {
    const { count, first } = view.input.unreadable;
    blocks.push({
      kind: 'warning',
      text: `${plural(count, 'place')} of the input could not be read; the first: ${first[0] ?? ''}`,
    });
  }
  blocks.push({ kind: 'lead', lines: view.headline });
  blocks.push({ kind: 'lines', lines: factLines(view) });
  if (view.evidence.level === null) return [...blocks, ...noteBlocks(view)];
  const target =
    view.isolated === ''
      ? 'all CPUs'
      : `CPU${view.accounts.length === 1 ? '' : 's'} ${view.isolated}`;
  const isolated = view.isolated === '' ? [] : parseCpuList(view.isolated, null);
  if (view.matrix.length > 0) {
    const how = view.evidence.level === 'A' ? 'function calls queued' : 'calls seen';
    blocks.push({
      kind: 'heading',
      text: `Who interrupts whom (${how}; rows send, columns receive)`,
    });
    blocks.push(matrixBlock(view.matrix, view.cpus, isolated));
  }
  if (view.causes.length > 0) {
    blocks.push({
      kind: 'heading',
      text: `What was sent to ${target}: ${plural(view.received.calls, 'call')}`,
    });
    blocks.push(causeTable(view));
  }
  if (view.accounts.some((account) => account.when !== null && account.calls > 0))
    blocks.push(...whenBlocks(view));
  if (view.evidence.level !== null && view.isolated !== '') {
    blocks.push({ kind: 'heading', text: 'What hit each isolated CPU' }, accountTable(view));
  }
  const row = tlbRowSentence(view, target);
  if (row !== null) blocks.push({ kind: 'warning', text: row });
  blocks.push(...flushBlocks(view));
  blocks.push(
    { kind: 'heading', text: `What another design would leave (calls to ${target})` },
    whatIfTable(view),
  );
  blocks.push({
    kind: 'lines',
    lines: [
      ...whatIfNotes(view),
      'Inputs held as recorded: a design is taken not to change what programs do next. Calls, not interrupts: several may share one.',
    ],
  });
  return [...blocks, ...noteBlocks(view)];
}

function lostSentence({ lost }: ReplayView): string | null {
  if (lost.counted === 0 && lost.uncounted === 0) return null;
  const cpus = lost.byCpu
    .map(({ cpu, events }) => `${thousands(events)} on CPU ${cpu}`)
    .slice(0, 8);
  const where = cpus.length === 0 ? '' : ` (${cpus.join(', ')})`;
  const more =
    lost.uncounted === 0 ? '' : `, and an unknown number in ${plural(lost.uncounted, 'place')}`;
  return `${plural(lost.counted, 'event')} lost${where}${more}: every count below is a lower bound.`;
}

function factLines(view: ReplayView): readonly string[] {
  const { input } = view;
  const facts = [
    input.version === null ? `${input.kind} text` : input.kind,
    input.layout,
    input.kernel === null ? null : `Linux ${input.kernel}`,
    `${view.cpus} CPUs`,
    view.window === null
      ? 'no events'
      : `${plural(view.records, 'event')} in ${seconds(view.window.length, view.unit)}`,
    view.window === null ? null : `from ${timestamp(view.window.first, view.unit)}`,
    view.lost.counted + view.lost.uncounted === 0 ? 'no events lost' : null,
  ];
  const lines = [
    facts
      .filter((fact) => fact !== null)
      .map((fact) => fact.replaceAll(' ', NO_BREAK))
      .join(`${NO_BREAK}· `),
  ];
  if (view.evidence.level !== null)
    lines.push(`evidence ${view.evidence.level}: ${view.evidence.why}`);
  const { matched } = view.evidence;
  if (matched !== null && view.received.calls > 0) {
    const { one, ambiguous, none } = matched;
    lines.push(
      `of ${plural(one + ambiguous + none, 'flush', 'flushes')} received, ${thousands(one)} had one sender in sight, ` +
        `${thousands(ambiguous)} several (ambiguous), ${thousands(none)} none`,
    );
  }
  return lines;
}

/** `rmmod x2` when two tasks of that name sent; `trace-cmd (recorder)` for one that records. */
function taskName({ task, tasks, recorder }: CauseView): string {
  return `${task}${tasks > 1 ? ` x${tasks}` : ''}${recorder ? ' (recorder)' : ''}`;
}

function causeTable(view: ReplayView): Block {
  const shown = view.causes.slice(0, CAUSES);
  const most = Math.max(1, ...shown.map((cause) => cause.calls));
  const rows = shown.map((cause) => [
    taskName(cause),
    cause.in === 'not in a traced system call' ? '(not traced)' : cause.in,
    cause.function,
    cause.kind,
    thousands(cause.requests),
    thousands(cause.calls),
    '█'.repeat(Math.max(1, Math.round((cause.calls * BAR) / most))),
  ]);
  const rest = view.causes.slice(CAUSES);
  if (rest.length > 0) {
    rows.push([
      `${rest.length} more`,
      '',
      '',
      '',
      '',
      thousands(rest.reduce((sum, cause) => sum + cause.calls, 0)),
      '',
    ]);
  }
  const from = view.evidence.level === 'A' ? 'function' : 'seen as';
  return {
    kind: 'table',
    columns: [
      left('task'),
      left('in'),
      left(from),
      left('kind'),
      right('requests'),
      right('calls'),
      { title: '', align: 'bar' },
    ],
    rows,
  };
}

function whenBlocks(view: ReplayView): readonly Block[] {
  const shown = view.accounts.filter((account) => account.when !== null).slice(0, ACCOUNTS);
  const buckets = shown[0]?.when?.buckets ?? 1;
  const lines = shown.map(
    (account) => `CPU ${String(account.cpu).padStart(4)}  ${stripLetters(account)}`,
  );
  const used = LETTERS.filter(([kind]) =>
    shown.some((account) => account.when?.byKind[kind] !== undefined),
  );
  const { window } = view;
  const end = window === null ? '' : `+${seconds(window.length, view.unit)}`;
  lines.push(`          ${'+0'.padEnd(buckets - end.length)}${end}`);
  const width =
    window === null
      ? ''
      : ` (one column is ${seconds(Math.round(window.length / buckets), view.unit)})`;
  return [
    { kind: 'heading', text: `When each isolated CPU was called${width}` },
    {
      kind: 'drawing',
      lines: [...lines, ...legend(used.map(([, letter, label]) => `${letter} ${label}`))],
    },
  ];
}

/** Five entries a line: 100 columns hold them whatever they are. */
function legend(entries: readonly string[]): readonly string[] {
  const lines: string[] = [];
  for (let i = 0; i < entries.length; i += 5) lines.push(entries.slice(i, i + 5).join('   '));
  return lines;
}

function stripLetters({ when }: AccountView): string {
  if (when === null) return '';
  return Array.from(
    { length: when.buckets },
    (_, i) => LETTERS.find(([kind]) => (when.byKind[kind]?.[i] ?? 0) > 0)?.[1] ?? '·',
  ).join('');
}

function accountTable(view: ReplayView): Block {
  // Below A the calls are those that the evidence shows, not all there were.
  const least = view.evidence.level === 'A' ? '' : '>= ';
  const number = (value: number | null): string => (value === null ? 'no data' : thousands(value));
  const rows = view.accounts
    .slice(0, ACCOUNTS)
    .map((account) => [
      String(account.cpu),
      number(account.callInterrupts),
      account.inInterrupts === null ? 'no data' : seconds(account.inInterrupts.total, view.unit),
      account.inInterrupts === null ? 'no data' : seconds(account.inInterrupts.longest, view.unit),
      `${least}${thousands(account.calls)}`,
      `${least}${thousands(account.tlbCalls)}`,
      view.tlbRow.basis === 'at-least' ? `>= ${number(account.tlbRow)}` : number(account.tlbRow),
      account.ownTasks.length === 0 ? 'none seen' : account.ownTasks.join(', '),
    ]);
  if (view.accounts.length > ACCOUNTS)
    rows.push([`${view.accounts.length - ACCOUNTS} more`, '', '', '', '', '', '', 'see -f json']);
  const titles = [
    'cpu',
    'interrupted',
    'in handlers',
    'longest',
    'calls',
    'of them TLB',
    'TLB row',
  ];
  return { kind: 'table', columns: [...titles.map(right), left('own tasks')], rows };
}

function tlbRowSentence(view: ReplayView, target: string): string | null {
  const { basis, total } = view.tlbRow;
  if (basis === null || total === null) return null;
  const least = basis === 'at-least' ? 'at least ' : '';
  const shown = `/proc/interrupts would have shown ${least}${thousands(total)} in its TLB row for ${target}.`;
  const hidden = view.received.tlbCalls - (view.received.byKind['user-flush'] ?? 0);
  if (view.evidence.level !== 'A' || hidden === 0)
    return `${shown} That row counts user flushes only.`;
  const parts = (['flush-all', 'kernel-range', 'table-sync'] as const)
    .filter((kind) => (view.received.byKind[kind] ?? 0) > 0)
    .map((kind) =>
      plural(view.received.byKind[kind] ?? 0, KIND_WORDS[kind][0], KIND_WORDS[kind][1]),
    );
  return `${shown} That row counts user flushes only; the other TLB work (${parts.join(', ')}) is hidden in CAL.`;
}

const KIND_WORDS: Readonly<
  Record<'flush-all' | 'kernel-range' | 'table-sync', readonly [string, string]>
> = {
  'flush-all': ['flush of everything', 'flushes of everything'],
  'kernel-range': ['kernel-range flush', 'kernel-range flushes'],
  'table-sync': ['page-table sync', 'page-table syncs'],
};

function flushBlocks(view: ReplayView): readonly Block[] {
  const { requests, requestsWithoutCall, callsQueued } = view.flushes;
  const lines: string[] = [];
  if (view.isolated !== '' && view.evidence.level === 'A') {
    const syncs = view.machine.byKind['table-sync'] ?? 0;
    const of = syncs === 0 ? '' : `, ${thousands(syncs)} of those page-table syncs`;
    lines.push(
      `On the whole machine ${plural(view.machine.calls, 'call')} were queued, ${thousands(view.machine.tlbCalls)} of them TLB work${of}.`,
    );
  }
  if (requestsWithoutCall !== null && requests > 0) {
    lines.push(
      `On the whole machine ${plural(requests, 'remote flush request')} (tlb_flush reason 4) queued ${plural(callsQueued ?? 0, 'call')}; ` +
        `${thousands(requestsWithoutCall)} found no CPU to interrupt. Reason 4 is not a count of IPIs.`,
    );
  }
  const idle = view.accounts.reduce((sum, account) => sum + (account.idleFlushes ?? 0), 0);
  if (idle > 0) {
    lines.push(
      `${plural(idle, 'flush handler')} that ran here had nothing left to flush (generation reached already, or another address space).`,
    );
  }
  return lines.length === 0 ? [] : [{ kind: 'lines', lines }];
}

function whatIfTable(view: ReplayView): Block {
  const range = (value: { min: number; max: number } | null, sign: boolean): string => {
    if (value === null) return 'no data';
    const show = (n: number): string => (sign && n < 0 ? `-${thousands(-n)}` : thousands(n));
    return value.min === value.max ? show(value.min) : `${show(value.min)} to ${show(value.max)}`;
  };
  const rows = view.whatIf.map((row) => [
    row.title,
    range(row.calls, false),
    range(row.change, true),
    row.basis,
  ]);
  return {
    kind: 'table',
    columns: [left('design'), right('calls'), right('change'), left('basis')],
    rows,
  };
}

/** What each row of the table assumes, rows with the same words together. */
function whatIfNotes(view: ReplayView): readonly string[] {
  const titles = new Map<string, string[]>();
  for (const { title, note } of view.whatIf.slice(1))
    titles.set(note, [...(titles.get(note) ?? []), title]);
  return [...titles].map(([note, rows]) => `${rows.join(', ')}: ${note}`);
}

function noteBlocks(view: ReplayView): readonly Block[] {
  const notes = [...view.notes, ...view.input.notes];
  return notes.length === 0 ? [] : [{ kind: 'lines', lines: notes.map((note) => `note: ${note}`) }];
}

/** What hit the isolated CPUs: when, how often, and what /proc/interrupts would have shown. */
import type { CallKind } from '@shootdown/whatif';
import { type Block, left, right } from '../blocks.ts';
import { plural, seconds, thousands } from '../words.ts';
import type { AccountView, ReplayView } from './view.ts';

/** CPUs shown before the rest is summed up; `-f json` has all. */
const ACCOUNTS = 16;
/** Entries of a legend in one line: 100 columns hold them whatever they are. */
const LEGEND = 4;

/**
 * Which kind a part of a strip shows when several came in it: what an owner of a quiet CPU would
 * least expect first.
 */
const BY_INTEREST: readonly CallKind[] = [
  'table-sync',
  'user-flush',
  'flush-all',
  'kernel-range',
  'cpa-flush',
  'text-patching',
  'membarrier',
  'rcu',
  'scheduler',
  'other',
];

/** A strip per CPU, one letter for each part of the window. */
export function whenBlocks(view: ReplayView): readonly Block[] {
  const { window, unit } = view;
  const shown = view.accounts.filter((account) => account.when !== null).slice(0, ACCOUNTS);
  const buckets = shown[0]?.when?.buckets;
  const used = BY_INTEREST.filter((kind) =>
    shown.some((account) => account.when?.byKind[kind] !== undefined),
  );
  if (window === null || buckets === undefined || used.length === 0) return [];
  const lines = shown.map(
    (account) => `CPU ${String(account.cpu).padStart(4)}  ${letters(account, view)}`,
  );
  const end = `+${seconds(window.length, unit)}`;
  lines.push(`          ${'+0'.padEnd(buckets - end.length)}${end}`);
  const legend = used.map((kind) => `${view.kinds[kind].letter} ${view.kinds[kind].label}`);
  for (let i = 0; i < legend.length; i += LEGEND)
    lines.push(legend.slice(i, i + LEGEND).join('   '));
  const width = seconds(Math.round(window.length / buckets), unit);
  return [
    { kind: 'heading', text: `When each isolated CPU was called (one column is ${width})` },
    { kind: 'drawing', lines },
  ];
}

function letters({ when }: AccountView, { kinds }: ReplayView): string {
  if (when === null) return '';
  const letter = (i: number): string => {
    const kind = BY_INTEREST.find((candidate) => (when.byKind[candidate]?.[i] ?? 0) > 0);
    return kind === undefined ? '·' : kinds[kind].letter;
  };
  return Array.from({ length: when.buckets }, (_, i) => letter(i)).join('');
}

/** A row per isolated CPU. */
export function accountBlocks(view: ReplayView): readonly Block[] {
  if (view.isolated === '') return [];
  const least = view.complete ? '' : '>= ';
  const rowLeast = view.tlbRow.basis === 'at-least' ? '>= ' : '';
  const number = (value: number | null, before: string): string =>
    value === null ? 'no data' : `${before}${thousands(value)}`;
  const time = (value: number | undefined): string =>
    value === undefined ? 'no data' : seconds(value, view.unit);
  const rows = view.accounts
    .slice(0, ACCOUNTS)
    .map((account) => [
      String(account.cpu),
      number(account.callInterrupts, ''),
      time(account.inInterrupts?.total),
      time(account.inInterrupts?.longest),
      number(account.calls, least),
      number(account.tlbCalls, least),
      number(account.tlbRow, rowLeast),
      account.ownTasks.length === 0 ? 'none seen' : account.ownTasks.join(', '),
    ]);
  const more = view.accounts.length - ACCOUNTS;
  if (more > 0) rows.push([`${more} more`, '', '', '', '', '', '', 'see -f json']);
  const titles = ['cpu', 'call IRQs', 'in them', 'longest', 'calls', 'of them TLB', 'TLB row'];
  const columns = [...titles.map(right), left('own tasks')];
  const blocks: Block[] = [
    { kind: 'heading', text: 'What hit each isolated CPU' },
    { kind: 'table', columns, rows },
  ];
  const others = otherInterrupts(view.accounts);
  if (others !== null) blocks.push({ kind: 'lines', lines: [others] });
  return blocks;
}

/** Call-function interrupts have a column; what else was recorded gets a line. */
function otherInterrupts(accounts: readonly AccountView[]): string | null {
  const sums = new Map<string, number>();
  for (const { interrupts } of accounts) {
    for (const [name, n] of Object.entries(interrupts ?? {})) {
      if (!/^(?:call_function|Function call)/.test(name)) sums.set(name, (sums.get(name) ?? 0) + n);
    }
  }
  if (sums.size === 0) return null;
  const parts = [...sums]
    .toSorted((a, b) => b[1] - a[1])
    .map(([name, n]) => `${thousands(n)} ${name}`);
  return `Other interrupts there that were recorded: ${parts.join(', ')}.`;
}

/** What the row would have shown, and what it hides; null when there is nothing to say. */
export function tlbRowSentence(view: ReplayView, target: string): string | null {
  const { basis, total } = view.tlbRow;
  // "At least 0" is no statement.
  if (basis === null || total === null || (basis === 'at-least' && total === 0)) return null;
  const least = basis === 'at-least' ? 'at least ' : '';
  const shown = `/proc/interrupts would have shown ${least}${thousands(total)} in its TLB row for ${target}.`;
  const byKind = view.received?.byKind ?? {};
  const hidden = (['flush-all', 'kernel-range', 'cpa-flush', 'table-sync'] as const).flatMap(
    (kind) => {
      const n = byKind[kind] ?? 0;
      return n === 0 ? [] : [plural(n, view.kinds[kind].label, view.kinds[kind].plural)];
    },
  );
  if (view.evidence.level !== 'A' || hidden.length === 0) {
    return `${shown} That row counts user flushes only.`;
  }
  const parts = hidden.join(', ');
  return `${shown} That row counts user flushes only; the other TLB work (${parts}) is hidden in CAL.`;
}

/** What the whole machine did, and what was for nothing. */
export function flushBlocks(view: ReplayView): readonly Block[] {
  const lines: string[] = [];
  const whole = view.cut.cpus === null;
  if (whole && view.isolated !== '' && view.evidence.level === 'A' && view.machine !== null) {
    const { calls, tlbCalls, byKind } = view.machine;
    const syncs = byKind['table-sync'] ?? 0;
    const of = syncs === 0 ? '' : `, ${thousands(syncs)} of those page-table syncs`;
    const queued = `${plural(calls, 'call')} ${calls === 1 ? 'was' : 'were'} queued`;
    lines.push(`On the whole machine ${queued}, ${thousands(tlbCalls)} of them TLB work${of}.`);
  }
  const { requests = 0, requestsWithoutCall = null, callsQueued = null } = view.flushes ?? {};
  if (whole && requestsWithoutCall !== null && requests > 0) {
    const asked = `${plural(requests, 'remote flush request')} (tlb_flush reason 4)`;
    const found = `${thousands(requestsWithoutCall)} found no CPU to interrupt`;
    lines.push(
      `On the whole machine ${asked} queued ${plural(callsQueued ?? 0, 'call')}; ${found}. ` +
        'Reason 4 is not a count of IPIs.',
    );
  }
  const idle = view.accounts.reduce((sum, account) => sum + (account.idleFlushes ?? 0), 0);
  if (idle > 0) {
    const ran = `${plural(idle, 'flush handler')} that ran here had nothing left to flush`;
    lines.push(`${ran} (generation reached already, or another address space).`);
  }
  const unexplained = unexplainedInterrupts(view);
  if (unexplained !== null) lines.push(unexplained);
  return lines.length === 0 ? [] : [{ kind: 'lines', lines }];
}

/** Evidence C sees user flushes only: the other interrupts have causes that it cannot name. */
function unexplainedInterrupts({ accounts, evidence, received }: ReplayView): string | null {
  if (evidence.level !== 'C' || received === null) return null;
  let interrupts = 0;
  for (const { callInterrupts } of accounts) {
    if (callInterrupts === null) return null;
    interrupts += callInterrupts;
  }
  const rest = interrupts - received.calls;
  if (rest <= 0) return null;
  return (
    `${thousands(rest)} of the ${thousands(interrupts)} call-function interrupts there are not ` +
    'explained by a flush that is traced: what they were for, this trace cannot say.'
  );
}

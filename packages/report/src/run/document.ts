/** The run view as blocks: the answer, what it rests on, who was interrupted why, and the flushes. */
import { formatCpuList, parseCpuList } from '@shootdown/machine';
import { type Block, left, NO_BREAK, right } from '../blocks.ts';
import { cpusOf, plural, thousands } from '../words.ts';
import type { FlushView, PhaseView, RunView } from './view.ts';

/** enum tlb_flush_reason in the kernel's words, with who traces it. */
const REASONS = [
  'flush on task switch',
  'remote shootdown (received)',
  'local shootdown (batched unmap)',
  'local MM shootdown',
  'remote IPI send (asked for)',
  'remote wrong CPU',
];

/** The view as a list of blocks. */
export function runBlocks(view: RunView): readonly Block[] {
  const { total, phases } = view;
  const blocks: Block[] = [
    { kind: 'lead', lines: headline(view) },
    { kind: 'lines', lines: factLines(view) },
    ...view.warnings.map((text): Block => ({ kind: 'warning', text: `kernel WARN: ${text}` })),
  ];
  if (total.ipis.length > 0) blocks.push(...ipiBlocks(view), ...cpuBlocks(view));
  if (total.flushes.length > 0) {
    blocks.push({ kind: 'heading', text: 'Flushes (tlb:tlb_flush events)' });
    blocks.push(flushTable(total.flushes));
  }
  if (phases.length > 1) {
    blocks.push({ kind: 'heading', text: 'By phase (events x pages, by reason)' });
    blocks.push(phaseTable(phases));
  }
  return blocks;
}

const sum = (counts: readonly number[]): number => counts.reduce((all, one) => all + one, 0);

/** Simulated time: `1.38 s`, `34.4 us`. */
export function simulated(ns: number): string {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(2)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(2)} ms`;
  return ns >= 1000 ? `${(ns / 1000).toFixed(1)} us` : `${ns} ns`;
}

function headline(view: RunView): readonly string[] {
  const { total } = view;
  const ipis = sum(total.interrupts);
  const hit = total.interrupts.filter((count) => count > 0).length;
  const lines = [
    ipis === 0
      ? `No CPU was interrupted, in ${simulated(total.timeNs)} of simulated time.`
      : `${plural(ipis, 'IPI')} to ${plural(hit, 'CPU')}, in ${simulated(total.timeNs)} of simulated time.`,
  ];
  if (view.isolated !== '') {
    const quiet = parseCpuList(view.isolated, view.cpus);
    const reached = sum(quiet.map((cpu) => total.interrupts[cpu] ?? 0));
    lines.push(`${thousands(reached)} of them reached the isolated ${cpusOf(view.isolated)}.`);
  }
  return lines;
}

function factLines(view: RunView): readonly string[] {
  const { simulated: run, threads, lazy, isolated } = view;
  const parameters = Object.entries(view.parameters)
    .map(
      ([name, value]) =>
        `${name} ${typeof value === 'number' ? thousands(value) : value.join(',')}`,
    )
    .join(', ');
  const places = [
    plural(threads, 'thread'),
    ...(lazy === '' ? [] : [`lazy ${cpusOf(lazy)}`]),
    ...(isolated === '' ? [] : [`isolated ${cpusOf(isolated)}`]),
  ].join(', ');
  return [
    `${view.workload}: ${view.title}.`,
    `${plural(view.cpus, 'CPU')}, ${places}; ${parameters}.`,
    `Kernel ${view.kernel}, backend ${view.backend}, edition ${view.editions.join(', ')}. ` +
      'Basis: model; times are of the cost table, not measured.',
    ...profileLines(view),
    `The whole run, start and exit included: ${simulated(run.timeNs)}, ` +
      `${plural(run.ops, 'step')}, ${plural(run.interrupts, 'interrupt')} of every kind.`,
  ];
}

function profileLines({ costProfile }: RunView): readonly string[] {
  if (costProfile === null) return [];
  const { file, entries } = costProfile;
  const which = entries.length === 0 ? '' : ` (${entries.join(', ')})`;
  const set = plural(entries.length, 'entry', 'entries');
  return [`Costs: ${file} sets ${set} of the table${which}.`];
}

function ipiBlocks({ total }: RunView): readonly Block[] {
  const rows = total.ipis
    .toSorted((a, b) => b.interrupts - a.interrupts)
    .map(({ function: func, during, sends, interrupts }) => [
      func,
      during,
      thousands(sends),
      thousands(interrupts),
      (interrupts / sends).toFixed(1),
    ]);
  const columns = [
    left('Function'),
    left('Sent during'),
    right('Sends'),
    right('IPIs'),
    right('CPUs each'),
  ];
  return [
    { kind: 'heading', text: 'IPIs by cause' },
    { kind: 'table', columns, rows },
  ];
}

/** CPUs that were interrupted equally often share a row. */
function cpuBlocks({ total }: RunView): readonly Block[] {
  const groups = new Map<string, number[]>();
  for (const [cpu, count] of total.interrupts.entries()) {
    if (count === 0) continue;
    const key = `${count} ${total.tlbRow[cpu] ?? 0}`;
    groups.set(key, [...(groups.get(key) ?? []), cpu]);
  }
  const rows = Array.from(groups, ([key, cpus]) => {
    const [count = 0, tlb = 0] = key.split(' ').map(Number);
    return { cpus, count, tlb };
  })
    .toSorted((a, b) => b.count - a.count || (a.cpus[0] ?? 0) - (b.cpus[0] ?? 0))
    .slice(0, MOST_ROWS)
    .map(({ cpus, count, tlb }) => [formatCpuList(cpus), thousands(count), thousands(tlb)]);
  const more = groups.size > MOST_ROWS;
  return [
    { kind: 'heading', text: 'CPUs interrupted' },
    {
      kind: 'table',
      columns: [left('CPUs'), right('IPIs each'), right('TLB row each')],
      rows,
    },
    ...(more
      ? [{ kind: 'lines', lines: [`${groups.size - MOST_ROWS} more groups: -f json`] } as const]
      : []),
  ];
}

const MOST_ROWS = 12;

const pagesOf = (pages: number): string => (pages === -1 ? 'all' : thousands(pages));

function flushTable(flushes: readonly FlushView[]): Block {
  const rows = flushes.map(({ reason, pages, count }) => [
    String(reason),
    REASONS[reason] ?? 'unknown',
    pagesOf(pages),
    thousands(count),
  ]);
  const columns = [right('Reason'), left(''), right('Pages'), right('Events')];
  return { kind: 'table', columns, rows };
}

function phaseTable(phases: readonly PhaseView[]): Block {
  const byReason = ({ flushes }: PhaseView, reason: number): string =>
    flushes
      .filter((flush) => flush.reason === reason)
      .map(({ pages, count }) =>
        `${thousands(count)} x ${pagesOf(pages)}`.replaceAll(' ', NO_BREAK),
      )
      .join(', ');
  const rows = phases.map((phase) => [
    phase.name,
    simulated(phase.timeNs),
    thousands(sum(phase.interrupts)),
    byReason(phase, 4),
    byReason(phase, 3),
    byReason(phase, 1),
  ]);
  const columns = [
    left('Phase'),
    right('Time'),
    right('IPIs'),
    left('Asked (4)'),
    left('Local (3)'),
    left('Received (1)'),
  ];
  return { kind: 'table', columns, rows };
}

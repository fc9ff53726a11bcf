/**
 * What another design would leave, as far as counting can tell: take the recorded calls and leave
 * out those that the design does not send. Inputs are held as recorded, so a row says nothing about
 * what programs would do next; and calls are counted, not interrupts, since several calls may share
 * one. Each row states its basis; only rows whose kernel code ran may say `model`, and none here
 * does.
 */
import type { CallKind } from './callKinds.ts';
import { CALL_KINDS } from './callKinds.ts';
import type { Cause, Received } from './ledger.ts';
import type { EvidenceLevel } from './result.ts';

/** What a row rests on. */
export type Basis =
  'measured' | 'counted from the trace' | 'model' | 'bounds' | 'no data in this trace';

/** One row of the table. */
export interface WhatIfRow {
  readonly id: string;
  readonly title: string;
  /** Calls left, from fewest to most; null without data. */
  readonly calls: { readonly min: number; readonly max: number } | null;
  readonly basis: Basis;
  /** What the row assumes or leaves out. */
  readonly note: string;
}

/** What a table is made from. */
export interface WhatIfInput {
  readonly level: EvidenceLevel | null;
  readonly received: Received;
  readonly causes: readonly Cause[];
  readonly cpus: number;
  readonly lossless: boolean;
}

/** A design that leaves out calls by their kind. */
interface KindDesign {
  readonly id: string;
  readonly title: string;
  /** Kinds that are certainly not sent any more. */
  readonly never: readonly CallKind[];
  /** Kinds that may or may not be sent: what decides is not in the trace. */
  readonly perhaps: readonly CallKind[];
  readonly note: string;
}

/** INVLPGB is used for an address space only when it is loaded on more than 3 CPUs. */
const INVLPGB_CPUS = 4;

const DESIGNS: readonly KindDesign[] = [
  {
    id: 'no-table-sync',
    title: 'no page-table sync',
    never: ['table-sync'],
    perhaps: [],
    note: 'the most that skipping or targeting tlb_remove_table_sync_one can save',
  },
  {
    id: 'invlpgb',
    title: 'INVLPGB broadcast (AMD, 6.15)',
    never: ['flush-all', 'kernel-range'],
    perhaps: ['user-flush', 'cpa-flush'],
    note:
      'on a CPU that has it, PTI off; user flushes only once their process runs on 4 CPUs or ' +
      'more, and then by a draw, those of reclaim always; table syncs stay',
  },
  {
    id: 'deferred-kernel-ipis',
    title: 'deferred kernel IPIs (nohz_full)',
    never: [],
    perhaps: ['flush-all', 'kernel-range', 'text-patching'],
    note:
      'only on nohz_full CPUs in user mode, until they enter the kernel; which flushes it would ' +
      'defer the trace does not tell (RFC v8 of March 2026, not merged)',
  },
];

/** Call sites that get a row of their own. */
const CALL_SITES = 3;

/** The table. */
export function whatIfRows(input: WhatIfInput): readonly WhatIfRow[] {
  const { level, received, causes, lossless } = input;
  const total = received.calls;
  if (level === null || level === 'D') {
    const note = 'the trace does not say who sent what; record csd_queue_cpu';
    return [{ id: 'today', title: 'today', calls: null, basis: 'no data in this trace', note }];
  }
  const counted = (id: string, title: string, gone: number, note: string): WhatIfRow => ({
    id,
    title,
    calls: { min: total - gone, max: total - gone },
    basis: 'counted from the trace',
    note,
  });
  const today =
    level === 'A' && lossless
      ? { ...counted('today', 'today', 0, 'calls queued'), basis: 'measured' as const }
      : counted('today', 'today', 0, 'only calls that this trace shows; there may be more');
  const sites = callSites(causes)
    .slice(0, CALL_SITES)
    .map(({ id, title, calls }) => counted(id, title, calls, 'this call site sends none'));
  return [today, ...sites, ...DESIGNS.map((design) => designRow(design, input, counted))];
}

function designRow(
  { id, title, never, perhaps, note }: KindDesign,
  { level, received, causes, cpus }: WhatIfInput,
  counted: (id: string, title: string, gone: number, note: string) => WhatIfRow,
): WhatIfRow {
  // Below A the trace names no function, so user flushes are all that can be told apart.
  if (level !== 'A') {
    const needs = 'needs csd_queue_cpu, which names the function';
    return { id, title, calls: null, basis: 'no data in this trace', note: needs };
  }
  const gone = sum(received, never);
  let maybe = sum(received, perhaps);
  if (id === 'invlpgb' && cpus < INVLPGB_CPUS) maybe -= byProcesses(causes);
  if (gone + maybe === 0) {
    const kinds = [...never, ...perhaps].map((kind) => CALL_KINDS[kind].label).join(' or ');
    return counted(id, title, 0, `no ${kinds} among these calls that it would leave out`);
  }
  if (maybe === 0) return counted(id, title, gone, note);
  const calls = { min: received.calls - gone - maybe, max: received.calls - gone };
  return { id, title, calls, basis: 'bounds', note };
}

/** User flushes of processes; those of kernel threads (reclaim) are not bound to one. */
function byProcesses(causes: readonly Cause[]): number {
  return causes
    .filter(({ kind, origin }) => kind === 'user-flush' && origin.kind !== 'kthread')
    .reduce((calls, cause) => calls + cause.calls, 0);
}

function sum(received: Received, kinds: readonly CallKind[]): number {
  return kinds.reduce((calls, kind) => calls + (received.byKind[kind] ?? 0), 0);
}

/**
 * TLB causes by task and origin, most calls first: one call site may send calls of several kinds.
 */
function callSites(
  causes: readonly Cause[],
): readonly { id: string; title: string; calls: number }[] {
  const sites = new Map<string, { id: string; title: string; calls: number }>();
  for (const { comm, origin, kind, calls } of causes) {
    if (!CALL_KINDS[kind].tlb || origin.kind === 'untraced') continue;
    const title =
      origin.kind === 'kthread' ? `without ${comm}` : `without ${origin.name} in ${comm}`;
    const site = sites.get(title) ?? { id: `without:${comm}:${origin.name}`, title, calls: 0 };
    site.calls += calls;
    sites.set(title, site);
  }
  return [...sites.values()].toSorted((a, b) => b.calls - a.calls);
}

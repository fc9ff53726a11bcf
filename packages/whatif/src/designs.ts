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
    // Kernel ranges and flush-all are always broadcast; an address space only from the fourth CPU
    // on, and after a 1-in-32 draw per flush.
    never: ['flush-all', 'kernel-range'],
    perhaps: ['user-flush'],
    note: 'user flushes only for a process on 4 CPUs or more; table syncs stay',
  },
  {
    id: 'deferred-kernel-ipis',
    title: 'deferred kernel IPIs (nohz_full)',
    never: [],
    perhaps: ['flush-all', 'kernel-range', 'text-patching'],
    note: 'waits for the next kernel entry, if the CPU is in user mode (RFC, not merged)',
  },
];

/** Call sites that get a row of their own. */
const CALL_SITES = 3;

/** The table for calls `received` with `causes`, on evidence `level`. */
export function whatIfRows(
  level: EvidenceLevel | null,
  received: Received,
  causes: readonly Cause[],
): readonly WhatIfRow[] {
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
  const rows: WhatIfRow[] = [
    level === 'A'
      ? {
          id: 'today',
          title: 'today',
          calls: { min: total, max: total },
          basis: 'measured',
          note: 'calls queued',
        }
      : counted('today', 'today', 0, 'calls that this evidence shows; there may be more'),
  ];
  for (const site of callSites(causes).slice(0, CALL_SITES))
    rows.push(counted(site.id, site.title, site.calls, 'this call site sends none'));
  for (const design of DESIGNS) {
    // Below A the trace names no function, so user flushes are all that can be told apart.
    if (level !== 'A') {
      const note = 'needs csd_queue_cpu, which names the function';
      rows.push({
        id: design.id,
        title: design.title,
        calls: null,
        basis: 'no data in this trace',
        note,
      });
      continue;
    }
    const never = sum(received, design.never);
    const perhaps = sum(received, design.perhaps);
    if (never + perhaps === 0) {
      const kinds = [...design.never, ...design.perhaps]
        .map((kind) => CALL_KINDS[kind].label)
        .join(' or ');
      rows.push(counted(design.id, design.title, 0, `no ${kinds} among these calls`));
    } else if (perhaps === 0) {
      rows.push(counted(design.id, design.title, never, design.note));
    } else {
      const calls = { min: total - never - perhaps, max: total - never };
      rows.push({ id: design.id, title: design.title, calls, basis: 'bounds', note: design.note });
    }
  }
  return rows;
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

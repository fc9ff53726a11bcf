/**
 * The answer of `replay` as plain JSON: what `-f json` prints, what the schema describes, and all
 * that the text, Markdown and HTML forms draw from. Two files of one recording give equal views
 * except for `input`.
 */
import { formatCpuList } from '@shootdown/machine';
import type { TraceHeader } from '@shootdown/trace';
import type { CallKind, KindFacts, ReplayCounts } from '@shootdown/whatif';
import { headline } from './headline.ts';

/** Where the answer came from. The only part that differs between the forms of one recording. */
export interface InputView {
  readonly file: string;
  readonly kind: string;
  readonly version: number | null;
  readonly layout: string;
  readonly bytes: number | null;
  readonly kernel: string | null;
  readonly clock: string | null;
  readonly resolutionNs: number;
  readonly buffers: readonly string[];
  readonly notes: readonly string[];
  /** What `--keep-going` read over: how many, and the first of them. */
  readonly unreadable: { readonly count: number; readonly first: readonly string[] };
}

/** Calls, added up. */
export interface ReceivedView {
  readonly calls: number;
  readonly tlbCalls: number;
  readonly byKind: Readonly<Partial<Record<CallKind, number>>>;
}

/** One cause of calls. */
export interface CauseView {
  readonly task: string;
  /** System call, fault, kernel thread or place in the kernel. */
  readonly in: string;
  readonly inKind: string;
  readonly function: string;
  readonly kind: CallKind;
  readonly what: string;
  readonly tlb: boolean;
  readonly reach: KindFacts['reach'];
  readonly calls: number;
  readonly requests: number;
  readonly tasks: number;
  readonly pids: readonly number[];
  readonly recorder: boolean;
}

/** What hit one CPU. */
export interface AccountView {
  readonly cpu: number;
  readonly calls: number;
  readonly tlbCalls: number;
  readonly byKind: Readonly<Partial<Record<CallKind, number>>>;
  readonly callInterrupts: number | null;
  readonly interrupts: Readonly<Record<string, number>> | null;
  readonly inInterrupts: { readonly total: number; readonly longest: number } | null;
  readonly tlbRow: number | null;
  readonly idleFlushes: number | null;
  readonly ownTasks: readonly string[];
  readonly when: {
    readonly buckets: number;
    readonly byKind: Readonly<Partial<Record<CallKind, readonly number[]>>>;
  } | null;
}

/** The view. */
export interface ReplayView {
  readonly schemaVersion: 1;
  readonly command: 'replay';
  readonly tool: { readonly name: 'shootdown'; readonly version: string };
  readonly input: InputView;
  /** The answer in one or two sentences. */
  readonly headline: readonly string[];
  readonly isolated: string;
  readonly cpus: number;
  readonly unit: 'us' | 'ticks';
  readonly window: {
    readonly first: number;
    readonly last: number;
    readonly length: number;
  } | null;
  readonly lost: {
    readonly counted: number;
    readonly uncounted: number;
    readonly byCpu: readonly { readonly cpu: number; readonly events: number }[];
  };
  readonly evidence: ReplayCounts['evidence'];
  readonly records: number;
  readonly events: Readonly<Record<string, number>>;
  /** Calls to the isolated CPUs, or to all when none is. */
  readonly received: ReceivedView;
  /** Calls to all CPUs. */
  readonly machine: ReceivedView;
  readonly matrix: readonly {
    readonly from: number;
    readonly to: number;
    readonly calls: number;
  }[];
  readonly causes: readonly CauseView[];
  readonly accounts: readonly AccountView[];
  readonly tlbRow: { readonly basis: 'counted' | 'at-least' | null; readonly total: number | null };
  readonly flushes: ReplayCounts['flushes'];
  readonly whatIf: readonly {
    readonly id: string;
    readonly title: string;
    readonly calls: { readonly min: number; readonly max: number } | null;
    readonly change: { readonly min: number; readonly max: number } | null;
    readonly basis: string;
    readonly note: string;
  }[];
  readonly notes: readonly string[];
}

/**
 * What the view needs beside the counts; the kinds are whatif's CALL_KINDS, handed over because
 * this package imports only its types.
 */
export interface ReplayContext {
  readonly toolVersion: string;
  readonly file: string;
  readonly bytes: number | null;
  readonly header: TraceHeader;
  readonly kinds: Readonly<Record<CallKind, KindFacts>>;
}

/** Makes the view of `counts`. */
export function replayView(counts: ReplayCounts, context: ReplayContext): ReplayView {
  const { kinds, header } = context;
  const names = Object.keys(kinds) as CallKind[];
  const tlbOf = (byKind: Readonly<Partial<Record<CallKind, number>>>): number =>
    names.filter((kind) => kinds[kind].tlb).reduce((sum, kind) => sum + (byKind[kind] ?? 0), 0);
  const accounts = counts.accounts.map((account): AccountView => ({
    cpu: account.cpu,
    calls: account.received.calls,
    tlbCalls: tlbOf(account.received.byKind),
    byKind: account.received.byKind,
    callInterrupts: account.callInterrupts,
    interrupts: account.interrupts,
    inInterrupts: account.inInterrupts,
    tlbRow: account.tlbRow,
    idleFlushes: account.idleFlushes,
    ownTasks: account.tasks,
    when: account.strip === null ? null : whenView(account.strip, names),
  }));
  const today = counts.received.calls;
  const view: Omit<ReplayView, 'headline'> = {
    schemaVersion: 1,
    command: 'replay',
    tool: { name: 'shootdown', version: context.toolVersion },
    input: {
      file: context.file,
      kind: header.kind,
      version: header.version,
      layout: header.layout,
      bytes: context.bytes,
      kernel: header.kernel,
      clock: header.clock.name,
      resolutionNs: header.clock.resolution,
      buffers: header.buffers,
      notes: counts.status.notes,
      unreadable: {
        count: counts.status.problemCount,
        first: counts.status.problems.map((problem) => problem.message),
      },
    },
    isolated: formatCpuList(counts.isolated),
    cpus: counts.cpus,
    unit: counts.unit,
    window:
      counts.window === null
        ? null
        : { ...counts.window, length: counts.window.last - counts.window.first },
    lost: {
      counted: counts.lost.counted,
      uncounted: counts.lost.uncounted,
      byCpu: [...counts.lost.byCpu]
        .toSorted(([a], [b]) => a - b)
        .map(([cpu, events]) => ({ cpu, events })),
    },
    evidence: counts.evidence,
    records: counts.records,
    events: counts.events,
    received: {
      calls: today,
      tlbCalls: tlbOf(counts.received.byKind),
      byKind: counts.received.byKind,
    },
    machine: {
      calls: counts.machine.calls,
      tlbCalls: tlbOf(counts.machine.byKind),
      byKind: counts.machine.byKind,
    },
    matrix: counts.matrix,
    causes: counts.causes.map((cause) => ({
      task: cause.comm,
      in: cause.origin.name,
      inKind: cause.origin.kind,
      function: cause.func,
      kind: cause.kind,
      what: kinds[cause.kind].label,
      tlb: kinds[cause.kind].tlb,
      reach: kinds[cause.kind].reach,
      calls: cause.calls,
      requests: cause.requests,
      tasks: cause.tasks,
      pids: cause.pids,
      recorder: cause.recorder,
    })),
    accounts,
    tlbRow: {
      basis: counts.tlbRowBasis,
      total:
        counts.tlbRowBasis === null
          ? null
          : accounts.reduce((sum, account) => sum + (account.tlbRow ?? 0), 0),
    },
    flushes: counts.flushes,
    whatIf: counts.whatIf.map((row) => ({
      ...row,
      change:
        row.calls === null ? null : { min: row.calls.min - today, max: row.calls.max - today },
    })),
    notes: counts.notes,
  };
  return { ...view, headline: headline(view) };
}

/** Only the kinds that occur: a strip of 72 zeros says nothing. */
function whenView(
  strip: readonly (readonly number[])[],
  names: readonly CallKind[],
): AccountView['when'] {
  const byKind: Partial<Record<CallKind, readonly number[]>> = {};
  for (const [lane, kind] of names.entries()) {
    const row = strip.map((bucket) => bucket[lane] ?? 0);
    if (row.some((n) => n > 0)) byKind[kind] = row;
  }
  return { buckets: strip.length, byKind };
}

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
  /** As the user named it. */
  readonly file: string;
  /** `ftrace`, `trace-cmd-report` or `trace.dat`. */
  readonly kind: string;
  /** Of a trace.dat: 6 or 7. */
  readonly version: number | null;
  /** How it was read, in words. */
  readonly layout: string;
  /** Size of the file; null for a pipe. */
  readonly bytes: number | null;
  /** Kernel release; null when the input does not say. */
  readonly kernel: string | null;
  /** Trace clock, `mono` for example; null when the input does not say. */
  readonly clock: string | null;
  /** In what steps the input states times: 1 or 1000 ns. */
  readonly resolutionNs: number;
  /** Ring buffers beside the main one. */
  readonly buffers: readonly string[];
  readonly notes: readonly string[];
  /** What `--keep-going` read over: how many, and the first of them. */
  readonly unreadable: { readonly count: number; readonly first: readonly string[] };
}

/** How a kind of call is called. */
export interface KindView {
  readonly label: string;
  readonly plural: string;
  /** In a strip; capitals for TLB work. */
  readonly letter: string;
  readonly tlb: boolean;
}

/** Calls, added up. */
export interface ReceivedView {
  readonly calls: number;
  /** Those of kinds that are TLB work. */
  readonly tlbCalls: number;
  readonly byKind: Readonly<Partial<Record<CallKind, number>>>;
}

/** One cause of calls. */
export interface CauseView {
  /** Command name of the tasks that sent. */
  readonly task: string;
  /** System call, fault, kernel thread or place in the kernel. */
  readonly in: string;
  readonly inKind: 'syscall' | 'fault' | 'kthread' | 'callsite' | 'idle' | 'untraced';
  /** What ran on the target; below evidence A, the place that sent or the event seen. */
  readonly function: string;
  readonly kind: CallKind;
  /** The kind in words. */
  readonly what: string;
  readonly tlb: boolean;
  /** Whom such calls go to. */
  readonly reach: KindFacts['reach'];
  /** Calls to the isolated CPUs, or to all when none is. */
  readonly calls: number;
  /** Decisions to send; one calls one or many CPUs. */
  readonly requests: number;
  /** How many tasks of that name sent, and the first 16 of their pids. */
  readonly tasks: number;
  readonly pids: readonly number[];
  /** A program that records traces. */
  readonly recorder: boolean;
}

/** What hit one CPU. Null is "the trace does not tell". */
export interface AccountView {
  readonly cpu: number;
  readonly calls: number | null;
  readonly tlbCalls: number | null;
  readonly byKind: Readonly<Partial<Record<CallKind, number>>> | null;
  /** Entries of call-function interrupts: what the CAL row would have counted. */
  readonly callInterrupts: number | null;
  /** Entries of every interrupt in the trace, by name. */
  readonly interrupts: Readonly<Record<string, number>> | null;
  /** Time from entry to exit of call-function interrupts, in `unit`s: all, and the longest. */
  readonly inInterrupts: { readonly total: number; readonly longest: number } | null;
  /** What the TLB row of /proc/interrupts would have counted: see `tlbRow.basis`. */
  readonly tlbRow: number | null;
  /** Flush handlers that ran here and flushed nothing. */
  readonly idleFlushes: number | null;
  /** Tasks that ran here, `comm-pid`, three at most; none when no CPU is isolated. */
  readonly ownTasks: readonly string[];
  /** Calls per kind in `buckets` equal parts of the window; null when no CPU is isolated. */
  readonly when: {
    readonly buckets: number;
    readonly byKind: Readonly<Partial<Record<CallKind, readonly number[]>>>;
  } | null;
}

/** One row of the what-if table. */
export interface WhatIfView {
  readonly id: string;
  readonly title: string;
  /** Calls left; null without data. */
  readonly calls: { readonly min: number; readonly max: number } | null;
  /** Against today: negative is fewer. */
  readonly change: { readonly min: number; readonly max: number } | null;
  /** `measured`, `counted from the trace`, `model`, `bounds` or `no data in this trace`. */
  readonly basis: string;
  readonly note: string;
}

/** The view. Times are absolute, in `unit`s. */
export interface ReplayView {
  readonly schemaVersion: 1;
  readonly command: 'replay';
  readonly tool: { readonly name: 'shootdown'; readonly version: string };
  readonly input: InputView;
  /** The answer in one or two sentences. */
  readonly headline: readonly string[];
  /** The CPUs asked about, as a cpu list; empty for all. */
  readonly isolated: string;
  /** What `--cpu-list`, `--from` and `--to` left out; null for what was not given. */
  readonly cut: {
    readonly cpus: string | null;
    readonly from: number | null;
    readonly to: number | null;
  };
  readonly cpus: number;
  /** Microseconds, or ticks of a counter clock. */
  readonly unit: 'us' | 'ticks';
  /** First and last event counted; null when there is none. */
  readonly window: {
    readonly first: number;
    readonly last: number;
    readonly length: number;
  } | null;
  /** Events that happened and are not in the trace. `uncounted`: places without a number. */
  readonly lost: {
    readonly counted: number;
    readonly uncounted: number;
    readonly byCpu: readonly { readonly cpu: number; readonly events: number }[];
  };
  readonly evidence: ReplayCounts['evidence'];
  /** Evidence A from the first event, nothing lost, everything readable: no call is missing. */
  readonly complete: boolean;
  /** Events counted, and how many of each. */
  readonly records: number;
  readonly events: Readonly<Record<string, number>>;
  readonly kinds: Readonly<Record<CallKind, KindView>>;
  /** Calls to the isolated CPUs, or to all when none is; null below evidence C. */
  readonly received: ReceivedView | null;
  /** Calls to all CPUs; null below evidence C. */
  readonly machine: ReceivedView | null;
  /**
   * Who called whom. `group` CPUs share a row and a column, named by their first; it is 1 unless
   * there are more than 262,144 cells.
   */
  readonly matrix: {
    readonly group: number;
    readonly cells: readonly {
      readonly from: number;
      readonly to: number;
      readonly calls: number;
    }[];
  };
  readonly causes: readonly CauseView[];
  readonly accounts: readonly AccountView[];
  /** `at-least`: handlers may have run that the trace does not show. */
  readonly tlbRow: { readonly basis: 'counted' | 'at-least' | null; readonly total: number | null };
  /** Events of tlb_flush, by reason and what became of requests; null when none is recorded. */
  readonly flushes: ReplayCounts['flushes'];
  readonly whatIf: readonly WhatIfView[];
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
  const { level } = counts.evidence;
  const callsKnown = level !== null && level !== 'D';
  const receivedView = ({ calls, byKind }: ReplayCounts['received']): ReceivedView | null =>
    callsKnown ? { calls, tlbCalls: tlbOf(byKind), byKind } : null;
  const accounts = counts.accounts.map((account): AccountView => ({
    cpu: account.cpu,
    calls: callsKnown ? account.received.calls : null,
    tlbCalls: callsKnown ? tlbOf(account.received.byKind) : null,
    byKind: callsKnown ? account.received.byKind : null,
    callInterrupts: account.callInterrupts,
    interrupts: account.interrupts,
    inInterrupts: account.inInterrupts,
    tlbRow: account.tlbRow,
    idleFlushes: account.idleFlushes,
    ownTasks: account.tasks,
    when: account.strip === null || !callsKnown ? null : whenView(account.strip, names),
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
    cut: {
      cpus: counts.cut.cpus === null ? null : formatCpuList(counts.cut.cpus),
      from: counts.cut.from,
      to: counts.cut.to,
    },
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
    complete:
      level === 'A' &&
      counts.lost.counted + counts.lost.uncounted === 0 &&
      counts.status.problemCount === 0 &&
      counts.blind === 0,
    records: counts.records,
    events: counts.events,
    kinds: Object.fromEntries(
      names.map((kind) => {
        const { label, plural, letter, tlb } = kinds[kind];
        return [kind, { label, plural, letter, tlb }];
      }),
    ) as Record<CallKind, KindView>,
    received: receivedView(counts.received),
    machine: receivedView(counts.machine),
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

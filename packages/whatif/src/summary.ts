/** From what one pass has collected to the answer: which book is the best, and what it allows to be said. */
import { type CpuId, cpuId, formatCpuList } from '@shootdown/machine';
import type { TraceHeader, TraceStatus } from '@shootdown/trace';
import { whatIfRows } from './designs.ts';
import { type Ledger, type Received, sumReceived } from './ledger.ts';
import type { AllCpus } from './perCpu.ts';
import type { CpuAccount, Evidence, EvidenceLevel, ReplayCounts } from './result.ts';
import { REMOTE_SEND_IPI } from './senders.ts';

/** What one pass over a trace has collected. */
export interface Collected {
  readonly header: TraceHeader;
  readonly status: TraceStatus;
  readonly isolated: readonly CpuId[];
  readonly only: ReadonlySet<CpuId> | null;
  /** Absolute; infinite when there is no bound. */
  readonly from: number;
  readonly to: number;
  readonly ledgers: Readonly<Record<'A' | 'B' | 'C', Ledger>>;
  readonly cpus: AllCpus;
  /** The highest CPU that was called; -1 for none. */
  readonly maxTarget: number;
  readonly events: ReadonlyMap<string, { readonly count: number }>;
  /** First and last record, in the window or not; null when there is none. */
  readonly span: { readonly first: number; readonly last: number } | null;
  /** Records earlier than the one before them. */
  readonly backwards: number;
  readonly window: { readonly first: number; readonly last: number } | null;
  readonly records: number;
  readonly matched: { readonly one: number; readonly ambiguous: number; readonly none: number };
  readonly byReason: readonly number[];
  readonly requestsWithoutCall: number;
  readonly flushCalls: number;
  /** Text patching calls in the first second of the trace. */
  readonly patchedAtStart: number;
  readonly openEnded: readonly string[];
  /** Function-call interrupts sent while csd_queue_cpu had not been seen yet. */
  readonly blind: number;
}

/** Parts of a strip. */
const STRIP_BUCKETS = 72;

const WHY: Readonly<Record<EvidenceLevel, string>> = {
  A: 'csd_queue_cpu names the function and the target',
  B: 'ipi_send_* names the target; a tlb_flush before it tells a flush from other calls',
  C: 'tlb_flush sent and received, matched in time; no event names the target',
  D: 'interrupt counts only: how many, never who',
};
const NO_EVIDENCE = 'no event about TLB flushes, IPIs or function calls is in the trace';

/** Which kinds of event the trace has: what a missing number means hangs on it. */
interface Has {
  readonly calls: boolean;
  readonly sends: boolean;
  readonly flushes: boolean;
  readonly handlers: boolean;
  readonly handlerEnds: boolean;
  /** Call-function interrupts: another irq_vectors event says nothing about those. */
  readonly interrupts: boolean;
  readonly syscalls: boolean;
  /** arm and arm64: no TLB row, remote TLBs are invalidated in hardware. */
  readonly arm: boolean;
}

/** The answer. */
export function summarise(collected: Collected): ReplayCounts {
  const { header, status, isolated, ledgers } = collected;
  const found = hasOf(collected);
  // A queue event that comes only behind the window says nothing about what is in it.
  const blind = found.calls && collected.blind > 0;
  const has = { ...found, calls: found.calls && (!blind || ledgers.A.total > 0) };
  const quiet = quietWindow(collected);
  const window = collected.window ?? quiet;
  const level = window === null ? null : levelOf(has);
  const ledger = ledgers[level === 'A' || level === 'B' || level === 'C' ? level : 'A'];
  const cpus = Math.max(header.cpus ?? 0, collected.cpus.end, collected.maxTarget + 1);
  const all = Array.from({ length: cpus }, (_, cpu) => cpuId(cpu));
  const subject =
    isolated.length > 0 ? isolated : all.filter((cpu) => collected.only?.has(cpu) ?? true);
  const machine = sumReceived(all.map((cpu) => ledger.received(cpu)));
  // Of all CPUs when none is isolated: with a cut by CPU, of all calls that it leaves.
  const received =
    isolated.length > 0 ? sumReceived(isolated.map((cpu) => ledger.received(cpu))) : machine;
  const causes = ledger.causes();
  const names = [...collected.events].flatMap(([name, { count }]) => (count > 0 ? [name] : []));
  const lossless = status.lost.counted + status.lost.uncounted === 0 && !blind;
  const basis = tlbRowBasis(collected, has, subject, ledger);
  return {
    isolated,
    cut: {
      cpus: collected.only === null ? null : [...collected.only],
      from: Number.isFinite(collected.from) ? collected.from : null,
      to: Number.isFinite(collected.to) ? collected.to : null,
    },
    cpus,
    window,
    unit: header.clock.unit === 'ticks' ? 'ticks' : 'us',
    records: collected.records,
    events: Object.fromEntries(
      names.toSorted().map((name) => [name, collected.events.get(name)?.count ?? 0]),
    ),
    evidence: evidenceOf(collected, level),
    lost: status.lost,
    matrix: ledger.matrix(),
    received,
    machine,
    causes,
    accounts: subject.map((cpu) => accountOf(collected, has, basis, cpu, ledger)),
    tlbRowBasis: basis,
    flushes: has.flushes
      ? {
          byReason: [...collected.byReason],
          requests: collected.byReason[REMOTE_SEND_IPI] ?? 0,
          // With losses, a request whose calls were lost would look like one that found nobody.
          requestsWithoutCall: level === 'A' && lossless ? collected.requestsWithoutCall : null,
          callsQueued: level === 'A' ? collected.flushCalls : null,
        }
      : null,
    whatIf: whatIfRows({ level, received, causes, cpus, lossless }),
    notes: notesOf(collected, has, level, received, missingHandlers(collected, subject, ledger)),
    blind: collected.blind,
    status,
  };
}

/** A window inside the recording in which nothing happened at all: that is an observation too. */
function quietWindow({ span, from, to, records }: Collected): Collected['window'] {
  if (records > 0 || span === null || from > to) return null;
  if (from < span.first || to > span.last) return null;
  return { first: from, last: to };
}

function hasOf({ events }: Collected): Has {
  const some = (pattern: RegExp): boolean => [...events.keys()].some((name) => pattern.test(name));
  return {
    calls: events.has('csd_queue_cpu'),
    sends: some(/^(?:ipi_send_cpu|ipi_send_cpumask|ipi_raise)$/),
    flushes: events.has('tlb_flush'),
    handlers: events.has('csd_function_entry'),
    handlerEnds: events.has('csd_function_exit'),
    interrupts: some(/^(?:call_function_entry|call_function_single_entry|ipi_entry)$/),
    syscalls: some(/^sys_enter_/),
    arm: some(/^(?:ipi_raise|ipi_entry)$/),
  };
}

function levelOf(has: Has): EvidenceLevel | null {
  if (has.calls) return 'A';
  if (has.sends) return 'B';
  // tlb_flush is on: that no remote one occurs is then an observation, not a gap.
  if (has.flushes) return 'C';
  return has.interrupts || has.handlers ? 'D' : null;
}

function evidenceOf(collected: Collected, level: EvidenceLevel | null): Evidence {
  const empty = collected.span === null ? 'the trace holds no event' : 'no event is in this window';
  const nothing = collected.records === 0 ? empty : NO_EVIDENCE;
  return {
    level,
    why: level === null ? nothing : WHY[level],
    matched: level === 'C' ? { ...collected.matched } : null,
  };
}

/**
 * User flushes queued to these CPUs whose handlers are not in the trace: it was filtered, cut, or
 * ended while they were on their way.
 */
function missingHandlers(
  { cpus }: Collected,
  subject: readonly CpuId[],
  ledger: Ledger,
): readonly { readonly cpu: CpuId; readonly missing: number }[] {
  return subject
    .map((cpu) => {
      const queued = ledger.received(cpu).byKind['user-flush'] ?? 0;
      return { cpu, missing: queued - cpus.get(cpu).handlerRuns };
    })
    .filter(({ missing }) => missing > 0);
}

function tlbRowBasis(
  collected: Collected,
  has: Has,
  subject: readonly CpuId[],
  ledger: Ledger,
): ReplayCounts['tlbRowBasis'] {
  // With only some senders counted, the row and the calls would speak of different things.
  if (has.arm || collected.only !== null) return null;
  if (has.handlers) {
    const lost = collected.status.lost.counted + collected.status.lost.uncounted > 0;
    const whole = !has.calls || missingHandlers(collected, subject, ledger).length === 0;
    return whole && !lost ? 'counted' : 'at-least';
  }
  return has.flushes ? 'at-least' : null;
}

function accountOf(
  { cpus, isolated, only, window, status }: Collected,
  has: Has,
  basis: ReplayCounts['tlbRowBasis'],
  cpu: CpuId,
  ledger: Ledger,
): CpuAccount {
  const totals = cpus.get(cpu);
  let tlbRow: number | null = null;
  if (basis !== null) tlbRow = has.handlers ? totals.handlerRuns : totals.received;
  const interrupts = [...totals.interrupts].toSorted(([a], [b]) => (a < b ? -1 : 1));
  // An interrupt does not say whose call it runs: with a cut by CPU it cannot be counted.
  const counted = has.interrupts && only === null;
  const lossless = status.lost.counted + status.lost.uncounted === 0;
  const ends = has.flushes && has.handlers && has.handlerEnds && only === null && lossless;
  return {
    cpu,
    received: ledger.received(cpu),
    interrupts: counted ? Object.fromEntries(interrupts) : null,
    callInterrupts: counted ? totals.callInterrupts : null,
    inInterrupts:
      totals.pairs === 0 || !counted ? null : { total: totals.total, longest: totals.longest },
    tlbRow,
    idleFlushes: ends ? totals.idleFlushes : null,
    tasks: totals.topTasks(),
    strip:
      isolated.length === 0 || window === null
        ? null
        : ledger.strip(cpu, STRIP_BUCKETS, window.last),
  };
}

function notesOf(
  { openEnded, patchedAtStart, header, backwards, blind }: Collected,
  has: Has,
  level: EvidenceLevel | null,
  received: Received,
  missing: ReturnType<typeof missingHandlers>,
): readonly string[] {
  const notes: string[] = [];
  if (level !== null && !has.syscalls) {
    notes.push('no system call is in the trace: causes name tasks only');
  }
  if (openEnded.length > 0) {
    const names = openEnded.join(', ');
    notes.push(`entries but no exits of ${names}: what follows in the same task is blamed on them`);
  }
  if (level !== null && level !== 'D' && !has.interrupts) {
    notes.push('no call-function interrupt is in the trace: interrupts are not counted');
  }
  if (level === 'A' && has.handlers && missing.length > 0) {
    const all = missing.reduce((sum, { missing: n }) => sum + n, 0);
    const cpus = formatCpuList(missing.map(({ cpu }) => cpu));
    const least = 'interrupts and handlers are counted from what is there, at least';
    notes.push(`${all} user flushes queued to CPU ${cpus} have no handler in the trace: ${least}`);
  }
  if (backwards > 0) {
    const times = `time goes backwards at ${backwards} records`;
    notes.push(`${times}: what depends on their order (causes, evidence C) may be wrong`);
  }
  if (level === 'A' && blind > 0) {
    const sent = `${blind} function-call interrupts were sent before the first csd_queue_cpu`;
    notes.push(`${sent}: calls until then are not in the counts`);
  }
  if (header.clock.unit === 'ns' && patchedAtStart > 0) {
    const share = `${patchedAtStart} of the ${received.calls} calls are text patching`;
    notes.push(`${share} in the first second, probably tracing being switched on`);
  }
  return notes;
}

/**
 * `replay` by counting: one pass over the records, three books in parallel (calls queued, interrupts sent, flushes received), and at the end the best
 * book the trace could fill. Nothing of one book is mixed into another.
 */
import { type CpuId, cpuId, type Nanoseconds } from '@shootdown/machine';
import type { OpenedTrace, RecordedEvent, RecordedRecord, RecordedTask } from '@shootdown/trace';
import { CALL_KINDS, type CallKind, callKind } from './callKinds.ts';
import { whatIfRows } from './designs.ts';
import { type Call, Ledger, sumReceived } from './ledger.ts';
import { type Origin, Origins } from './origins.ts';
import { AllCpus } from './perCpu.ts';
import { Requests } from './requests.ts';
import type { CpuAccount, Evidence, EvidenceLevel, FlushCounts, ObservedCall, ReplayCounts } from './result.ts';
import { REMOTE_SEND_IPI, REMOTE_SHOOTDOWN, type Sender, Senders } from './senders.ts';

/** A time on the trace's axis: absolute, in `unit`s of the result, or counted from the first record. */
export interface TimeBound {
  readonly value: number;
  readonly relative: boolean;
}

/** What to count. */
export interface CountOptions {
  /** The CPUs the question is about; none asks about all. */
  readonly isolated?: readonly CpuId[];
  /** Keep only calls from or to these CPUs, and accounts of these CPUs. */
  readonly only?: readonly CpuId[] | undefined;
  readonly from?: TimeBound | undefined;
  readonly to?: TimeBound | undefined;
  /** Told of every call to a watched CPU as it is seen. */
  readonly onCall?: ((call: ObservedCall) => void) | undefined;
}

/** Parts of a strip. */
export const STRIP_BUCKETS = 72;

const WHY: Readonly<Record<EvidenceLevel, string>> = {
  A: 'csd_queue_cpu names the function and the target',
  B: 'ipi_send_* names the target; a tlb_flush right before it tells a flush from other calls',
  C: 'tlb_flush sent and received, matched in time; no event names the target',
  D: 'interrupt counts only: how many, never who',
};
const NO_EVIDENCE = 'no event about TLB flushes, IPIs or function calls is in the trace';
const UNKNOWN_TASK: RecordedTask = { pid: -1, comm: '?', tgid: null };
const AMBIGUOUS: Origin = { kind: 'untraced', name: 'several senders at once' };
const NO_SENDER: Origin = { kind: 'untraced', name: 'no sender in sight' };

/**
 * Counts who interrupts whom in `trace`, which must not have been read before.
 *
 * @throws TraceFormatError what the trace's reader throws.
 */
export async function countReplay(trace: OpenedTrace, options: CountOptions = {}): Promise<ReplayCounts> {
  const counter = new Counter(trace, options);
  for await (const batch of trace.batches()) for (const record of batch) counter.record(record);
  return counter.result();
}

class Counter {
  readonly #trace: OpenedTrace;
  readonly #options: CountOptions;
  readonly #isolated: readonly CpuId[];
  readonly #watched: ReadonlySet<CpuId> | null;
  readonly #only: ReadonlySet<CpuId> | null;
  readonly #ledgers: Readonly<Record<'A' | 'B' | 'C', Ledger>>;
  readonly #origins = new Origins();
  readonly #senders = new Senders();
  readonly #requests = new Requests();
  readonly #cpus = new AllCpus();
  readonly #events = new Map<string, { count: number }>();
  readonly #toUnits: (time: Nanoseconds) => number;
  readonly #byReason = [0, 0, 0, 0, 0, 0];
  readonly #request = new Map<CpuId, boolean>();
  readonly #matched = { one: 0, ambiguous: 0, none: 0 };
  #requestsWithoutCall = 0;
  #flushCalls = 0;
  #maxTarget = -1;
  #from = -Infinity;
  #to = Infinity;
  #started = false;
  #window: { first: number; last: number } | null = null;
  #records = 0;

  constructor(trace: OpenedTrace, options: CountOptions) {
    this.#trace = trace;
    this.#options = options;
    this.#isolated = options.isolated ?? [];
    this.#watched = this.#isolated.length === 0 ? null : new Set(this.#isolated);
    this.#only = options.only === undefined ? null : new Set(options.only);
    this.#ledgers = { A: new Ledger(this.#watched), B: new Ledger(this.#watched), C: new Ledger(this.#watched) };
    const { clock, origin } = trace.header;
    if (clock.unit === 'ticks') {
      const base = Number(origin);
      this.#toUnits = (time) => base + time;
    } else {
      // To the nearest microsecond, as trace-cmd prints: a recording gives the same answer in each of its forms.
      const base = Number(origin / 1000n);
      this.#toUnits = (time) => base + Math.floor((time + 500) / 1000);
    }
  }

  record(record: RecordedRecord): void {
    const { cpu, task, event } = record;
    const time = this.#toUnits(record.time);
    if (!this.#started) this.#start(time);
    const inside = time >= this.#from && time <= this.#to;
    if (inside) this.#inside(record, time);
    // State goes on outside the window: a call that began before it still explains what happens inside.
    this.#senders.observe(record, this.#sender);
    this.#origins.observe(task, event);
  }

  /** Who it is that sends a flush; one function for all records, not one each. */
  readonly #sender = ({ cpu, task }: RecordedRecord): Sender => ({ cpu, task, origin: this.#origins.of(task), request: this.#requests.single() });

  #start(time: number): void {
    this.#started = true;
    const { from, to } = this.#options;
    if (from !== undefined) this.#from = from.relative ? time + from.value : from.value;
    if (to !== undefined) this.#to = to.relative ? time + to.value : to.value;
  }

  #inside(record: RecordedRecord, time: number): void {
    const { cpu, task, event } = record;
    this.#records++;
    if (this.#window === null) {
      this.#window = { first: time, last: time };
      for (const ledger of Object.values(this.#ledgers)) ledger.begin(time);
    } else this.#window.last = time;
    const seen = this.#events.get(event.name);
    if (seen === undefined) this.#events.set(event.name, { count: 1 });
    else seen.count++;
    const totals = this.#cpus.get(cpu);
    totals.observe(time, event);
    if (this.#watched?.has(cpu) === true) totals.running(task);
    switch (event.kind) {
      case 'csd_queue_cpu': {
        const kind = callKind(event.func);
        if (kind === 'user-flush') {
          this.#flushCalls++;
          this.#request.delete(cpu);
        }
        const origin = CALL_KINDS[kind].blame === 'task' ? this.#origins.of(task) : this.#origins.at(event.callsite);
        const { target: to, func } = event;
        this.#call('A', { time, from: cpu, to, task, origin, func, kind, request: this.#requests.of(cpu, to, func, event.callsite) });
        break;
      }
      case 'ipi_send':
        this.#sent(time, cpu, task, event.targets ?? [], event.callsite, event.callback);
        break;
      case 'ipi_raise':
        this.#sent(time, cpu, task, event.targets, event.reason, /resched/i.test(event.reason) ? '0x0' : event.reason);
        break;
      case 'tlb_flush':
        this.#flush(time, cpu, task, event);
        break;
      default:
    }
  }

  #sent(time: number, cpu: CpuId, task: RecordedTask, targets: readonly CpuId[], callsite: string, callback: string): void {
    const reschedule = callback === '0x0' || callback === '(nil)';
    const flush = !reschedule && this.#senders.justSent(cpu);
    let kind: CallKind = 'other';
    if (reschedule) kind = 'scheduler';
    if (flush) kind = 'user-flush';
    const origin = reschedule ? this.#origins.at(callsite) : this.#origins.of(task);
    const func = reschedule ? 'reschedule' : callsite;
    this.#requests.sent(cpu, callsite);
    const request = this.#requests.single();
    for (const to of targets) this.#call('B', { time, from: cpu, to, task, origin, func, kind, request });
  }

  #flush(time: number, cpu: CpuId, task: RecordedTask, event: RecordedEvent & { kind: 'tlb_flush' }): void {
    this.#byReason[event.reason] = (this.#byReason[event.reason] ?? 0) + 1;
    if (event.reason === REMOTE_SEND_IPI) {
      if (this.#request.has(cpu)) this.#requestsWithoutCall++;
      this.#request.set(cpu, true);
    }
    if (event.reason !== REMOTE_SHOOTDOWN) return;
    const senders = this.#senders.inSight(cpu);
    const [sender] = senders;
    const call = { time, to: cpu, func: 'tlb_flush', kind: 'user-flush' } as const;
    if (sender !== undefined && senders.length === 1) {
      this.#matched.one++;
      this.#call('C', { ...call, from: sender.cpu, task: sender.task, origin: sender.origin, request: sender.request });
    } else {
      this.#matched[senders.length > 1 ? 'ambiguous' : 'none']++;
      const origin = senders.length > 1 ? AMBIGUOUS : NO_SENDER;
      this.#call('C', { ...call, from: null, task: UNKNOWN_TASK, origin, request: this.#requests.single() });
    }
  }

  #call(evidence: 'A' | 'B' | 'C', call: Call): void {
    const { time, from, to, task, origin, func, kind } = call;
    this.#maxTarget = Math.max(this.#maxTarget, to);
    if (this.#only !== null && !this.#only.has(to) && (from === null || !this.#only.has(from))) return;
    this.#ledgers[evidence].add(call);
    const { onCall } = this.#options;
    if (onCall === undefined || (this.#watched !== null && !this.#watched.has(to))) return;
    // The queue event comes before the send event of the same call: once there are calls, the weaker books are not told again.
    if (evidence !== 'A' && this.#ledgers.A.total > 0) return;
    if (evidence === 'C' && this.#ledgers.B.total > 0) return;
    onCall({ evidence, time, from, to, comm: task.comm, pid: task.pid, origin: origin.name, func, kind });
  }

  result(): ReplayCounts {
    const status = this.#trace.status();
    const level = this.#level();
    const ledger = this.#ledgers[level === 'A' || level === 'B' || level === 'C' ? level : 'A'];
    const cpus = Math.max(this.#trace.header.cpus ?? 0, this.#cpus.end, this.#maxTarget + 1);
    const subject = this.#isolated.length > 0 ? this.#isolated : this.#shown(cpus);
    const received = sumReceived(subject.map((cpu) => ledger.received(cpu)));
    const causes = ledger.causes();
    return {
      isolated: this.#isolated,
      cpus,
      window: this.#window,
      unit: this.#trace.header.clock.unit === 'ticks' ? 'ticks' : 'us',
      records: this.#records,
      events: Object.fromEntries([...this.#events].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, { count }]) => [name, count])),
      evidence: this.#evidence(level),
      lost: status.lost,
      matrix: ledger.cells(),
      received,
      machine: sumReceived(Array.from({ length: cpus }, (_, cpu) => ledger.received(cpuId(cpu)))),
      causes,
      accounts: subject.map((cpu) => this.#account(cpu, ledger)),
      tlbRowBasis: this.#tlbRowBasis(),
      flushes: this.#flushCounts(level),
      whatIf: whatIfRows(level, received, causes),
      notes: this.#notes(level),
      status,
    };
  }

  #shown(cpus: number): readonly CpuId[] {
    const all = Array.from({ length: cpus }, (_, cpu) => cpuId(cpu));
    return this.#only === null ? all : all.filter((cpu) => this.#only?.has(cpu) === true);
  }

  #has(kind: RecordedEvent['kind'], names: (name: string) => boolean = () => false): boolean {
    return [...this.#events.keys()].some((name) => name === kind || names(name));
  }

  #level(): EvidenceLevel | null {
    if (this.#has('csd_queue_cpu')) return 'A';
    if (this.#has('ipi_raise', (name) => name.startsWith('ipi_send_cpu'))) return 'B';
    // tlb_flush is on: that no remote one occurs is then an observation, not a gap.
    if (this.#has('tlb_flush')) return 'C';
    return this.#countsInterrupts() || this.#has('csd_function_entry') ? 'D' : null;
  }

  /** Whether call-function interrupts were recorded: another irq_vectors event says nothing about those. */
  #countsInterrupts(): boolean {
    return this.#has('ipi_entry', (name) => /^call_function(?:_single)?_entry$/.test(name));
  }

  #evidence(level: EvidenceLevel | null): Evidence {
    const empty = this.#started ? 'no event is in this window' : 'the trace holds no event';
    const nothing = this.#records === 0 ? empty : NO_EVIDENCE;
    return { level, why: level === null ? nothing : WHY[level], matched: level === 'C' ? { ...this.#matched } : null };
  }

  #tlbRowBasis(): ReplayCounts['tlbRowBasis'] {
    // arm and arm64 invalidate remote TLBs in hardware and have no such row.
    if (this.#has('ipi_raise') || this.#has('ipi_entry')) return null;
    if (this.#has('csd_function_entry')) return 'counted';
    return this.#has('tlb_flush') ? 'at-least' : null;
  }

  #account(cpu: CpuId, ledger: Ledger): CpuAccount {
    const totals = this.#cpus.get(cpu);
    const vectors = this.#countsInterrupts();
    const basis = this.#tlbRowBasis();
    let tlbRow: number | null = null;
    if (basis !== null) tlbRow = basis === 'counted' ? totals.handlerRuns : totals.received;
    return {
      cpu,
      received: ledger.received(cpu),
      interrupts: vectors ? Object.fromEntries([...totals.interrupts].toSorted(([a], [b]) => (a < b ? -1 : 1))) : null,
      callInterrupts: vectors ? totals.callInterrupts : null,
      inInterrupts: totals.pairs === 0 ? null : { total: totals.total, longest: totals.longest },
      tlbRow,
      idleFlushes: basis === 'counted' && this.#has('tlb_flush') && this.#has('csd_function_exit') ? totals.idleFlushes : null,
      tasks: totals.topTasks(),
      strip: this.#watched === null || this.#window === null ? null : ledger.strip(cpu, STRIP_BUCKETS, this.#window.last),
    };
  }

  #flushCounts(level: EvidenceLevel | null): FlushCounts {
    return {
      byReason: [...this.#byReason],
      requests: this.#byReason[REMOTE_SEND_IPI] ?? 0,
      requestsWithoutCall: level === 'A' ? this.#requestsWithoutCall + this.#request.size : null,
      callsQueued: level === 'A' ? this.#flushCalls : null,
    };
  }

  #notes(level: EvidenceLevel | null): readonly string[] {
    const notes: string[] = [];
    if (level !== null && !this.#has('sys_enter', (name) => name.startsWith('sys_enter_'))) {
      notes.push('no system call is in the trace: causes name tasks only');
    }
    const open = this.#origins.openEnded();
    if (open.length > 0) notes.push(`entries but no exits of ${open.join(', ')}: what follows in the same task is blamed on them`);
    if (level !== null && level !== 'D' && !this.#countsInterrupts()) notes.push('no call-function interrupt is in the trace: interrupts are not counted');
    return notes;
  }
}

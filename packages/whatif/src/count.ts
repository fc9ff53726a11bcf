/**
 * `replay` by counting: one pass over the records, three books in parallel (calls queued,
 * interrupts sent, flushes received), and at the end the best book the trace could fill. Nothing of
 * one book is mixed into another.
 */
import type { CpuId, Nanoseconds } from '@shootdown/machine';
import type { OpenedTrace, RecordedEvent, RecordedRecord, RecordedTask } from '@shootdown/trace';
import { CALL_KINDS, callKind, SCHEDULER_CALLSITES } from './callKinds.ts';
import { type Call, Ledger } from './ledger.ts';
import { type Origin, Origins } from './origins.ts';
import { AllCpus } from './perCpu.ts';
import { Requests } from './requests.ts';
import type { ObservedCall, ReplayCounts } from './result.ts';
import { REMOTE_SEND_IPI, REMOTE_SHOOTDOWN, type Sender, Senders } from './senders.ts';
import { summarise } from './summary.ts';
import { Teller } from './teller.ts';

/**
 * A time on the trace's axis: absolute, in `unit`s of the result, or counted from the first record.
 */
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

/** How a reschedule interrupt's missing callback is printed. */
const NO_CALLBACK: ReadonlySet<string> = new Set(['0x0', '(nil)', '']);

/** A kernel with everything built in has about 3,000 events. */
const MAX_EVENT_NAMES = 1 << 14;
const OTHER_EVENTS = '(other events)';

const UNKNOWN_TASK: RecordedTask = { pid: -1, comm: '?', tgid: null };
const AMBIGUOUS: Origin = { kind: 'untraced', name: 'several senders at once' };
const NO_SENDER: Origin = { kind: 'untraced', name: 'no sender in sight' };

/**
 * Counts who interrupts whom in `trace`, which must not have been read before.
 *
 * @throws TraceFormatError what the trace's reader throws.
 */
export async function countReplay(
  trace: OpenedTrace,
  options: CountOptions = {},
): Promise<ReplayCounts> {
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
  readonly #teller: Teller | null;
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
  #firstSecond = 0;
  #last = -Infinity;
  #backwards = 0;
  readonly #span = { first: Infinity, last: -Infinity };
  #patchedAtStart = 0;
  #queueSeen = false;
  #blind = 0;
  #window: { first: number; last: number } | null = null;
  #records = 0;

  constructor(trace: OpenedTrace, options: CountOptions) {
    this.#trace = trace;
    this.#options = options;
    this.#teller = options.onCall === undefined ? null : new Teller(options.onCall);
    this.#isolated = options.isolated ?? [];
    this.#watched = this.#isolated.length === 0 ? null : new Set(this.#isolated);
    this.#only = options.only === undefined ? null : new Set(options.only);
    this.#ledgers = {
      A: new Ledger(this.#watched),
      B: new Ledger(this.#watched),
      C: new Ledger(this.#watched),
    };
    const { clock, origin } = trace.header;
    if (clock.unit === 'ticks') {
      const base = Number(origin);
      this.#toUnits = (time) => base + time;
    } else {
      // To the nearest microsecond, as trace-cmd prints: a recording gives the same answer in each
      // of its forms.
      const base = Number(origin / 1000n);
      this.#toUnits = (time) => base + Math.floor((time + 500) / 1000);
    }
  }

  record(record: RecordedRecord): void {
    const { task, event } = record;
    const time = this.#toUnits(record.time);
    if (!this.#started) this.#start(time);
    if (time < this.#last) this.#backwards++;
    this.#last = time;
    if (time > this.#span.last) this.#span.last = time;
    if (time < this.#span.first) this.#span.first = time;
    const inside = time >= this.#from && time <= this.#to;
    // An event seen anywhere says that it was recorded, so that none of it in the window is 0.
    if (event.kind === 'csd_queue_cpu') this.#queueSeen = true;
    let seen = this.#events.get(event.name) ?? this.#otherEvents();
    if (seen === undefined) this.#events.set(event.name, (seen = { count: 0 }));
    if (inside) {
      seen.count++;
      this.#inside(record, time);
    }
    // State goes on outside the window: a call that began before it still explains what happens
    // inside.
    this.#senders.observe(record, this.#sender);
    this.#origins.observe(task, event);
  }

  /** What counts an event of a new name when there are already more names than a kernel has. */
  #otherEvents(): { count: number } | undefined {
    if (this.#events.size < MAX_EVENT_NAMES) return undefined;
    let others = this.#events.get(OTHER_EVENTS);
    if (others === undefined) this.#events.set(OTHER_EVENTS, (others = { count: 0 }));
    return others;
  }

  /** Who it is that sends a flush; one function for all records, not one each. */
  readonly #sender = ({ cpu, task }: RecordedRecord): Sender => ({
    cpu,
    task,
    origin: this.#origins.of(task),
    request: this.#requests.single(),
  });

  #start(time: number): void {
    this.#started = true;
    this.#firstSecond = time + 1_000_000;
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
    } else {
      this.#window.first = Math.min(this.#window.first, time);
      this.#window.last = Math.max(this.#window.last, time);
    }
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
        const origin =
          CALL_KINDS[kind].blame === 'task'
            ? this.#origins.of(task)
            : this.#origins.at(event.callsite);
        const { target: to, func } = event;
        this.#call('A', {
          time,
          from: cpu,
          to,
          task,
          origin,
          func,
          kind,
          request: this.#requests.of(cpu, to, func, event.callsite),
        });
        break;
      }
      case 'ipi_send':
        this.#requests.sent(cpu, event.callsite);
        // A reschedule (no callback) is an interrupt and no call.
        if (!NO_CALLBACK.has(event.callback))
          this.#sent(time, record, event.targets ?? [], event.callsite, event.callback);
        break;
      case 'ipi_raise':
        if (/function call/i.test(event.reason))
          this.#sent(time, record, event.targets, event.reason, event.reason);
        break;
      case 'tlb_flush':
        this.#flush(time, cpu, task, event);
        break;
      default:
    }
  }

  /** An interrupt sent for a function call; which function, only its callback or place may tell. */
  #sent(
    time: number,
    { cpu, task }: RecordedRecord,
    targets: readonly CpuId[],
    callsite: string,
    callback: string,
  ): void {
    let kind = callKind(callback);
    if (SCHEDULER_CALLSITES.has(callsite)) kind = 'scheduler';
    else if (this.#senders.sending(cpu)) kind = 'user-flush';
    const byTask = CALL_KINDS[kind].blame === 'task';
    const origin = byTask ? this.#origins.of(task) : this.#origins.at(callsite);
    const call = { time, from: cpu, task, origin, func: callsite, kind };
    const request = this.#requests.single();
    // To itself: irq_work, no call to another CPU.
    const others = targets.filter((to) => to !== cpu);
    // Each such interrupt follows its csd_queue_cpu, if that is recorded.
    if (!this.#queueSeen) this.#blind += others.length;
    for (const to of others) this.#call('B', { ...call, to, request });
  }

  #flush(
    time: number,
    cpu: CpuId,
    task: RecordedTask,
    event: RecordedEvent & { kind: 'tlb_flush' },
  ): void {
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
      const { cpu: from, task: by, origin, request } = sender;
      const booked = this.#call('C', { ...call, from, task: by, origin, request });
      if (booked) this.#matched.one++;
    } else {
      const origin = senders.length > 1 ? AMBIGUOUS : NO_SENDER;
      const request = this.#requests.single();
      const booked = this.#call('C', { ...call, from: null, task: UNKNOWN_TASK, origin, request });
      if (booked) this.#matched[senders.length > 1 ? 'ambiguous' : 'none']++;
    }
  }

  /** Books a call, unless a cut leaves it out: then false. */
  #call(evidence: 'A' | 'B' | 'C', call: Call): boolean {
    const { time, from, to, task, origin, func, kind } = call;
    this.#maxTarget = Math.max(this.#maxTarget, to);
    if (this.#only !== null && !this.#only.has(to) && (from === null || !this.#only.has(from)))
      return false;
    this.#ledgers[evidence].add(call);
    const watched = this.#watched === null || this.#watched.has(to);
    if (kind === 'text-patching' && watched && time < this.#firstSecond) this.#patchedAtStart++;
    if (!watched) return true;
    this.#teller?.tell(evidence, {
      evidence,
      time,
      from,
      to,
      comm: task.comm,
      pid: task.pid,
      origin: origin.name,
      func,
      kind,
    });
    return true;
  }

  result(): ReplayCounts {
    this.#teller?.release();
    return summarise({
      header: this.#trace.header,
      status: this.#trace.status(),
      isolated: this.#isolated,
      only: this.#only,
      from: this.#from,
      to: this.#to,
      ledgers: this.#ledgers,
      cpus: this.#cpus,
      maxTarget: this.#maxTarget,
      events: this.#events,
      span: this.#started ? this.#span : null,
      backwards: this.#backwards,
      window: this.#window,
      records: this.#records,
      matched: this.#matched,
      byReason: this.#byReason,
      requestsWithoutCall: this.#requestsWithoutCall + this.#request.size,
      flushCalls: this.#flushCalls,
      patchedAtStart: this.#patchedAtStart,
      blind: this.#blind,
      openEnded: this.#origins.openEnded(),
    });
  }
}

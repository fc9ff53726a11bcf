/** Which events begin and end which intervals. */
import type { CpuId } from '@shootdown/machine';
import type { IrqVector, RecordedEvent, RecordedRecord } from '@shootdown/trace';
import { countsInTlbRow, SCHEDULER_CALLSITES } from '../callKinds.ts';
import { REMOTE_SHOOTDOWN } from '../senders.ts';
import type { Book } from './book.ts';
import type { Times } from './clock.ts';
import { Crossings } from './crossings.ts';
import { Spans } from './spans.ts';
import { Waits } from './waits.ts';

const ON_TASK_SWITCH = 0;
const LOCAL_MM_SHOOTDOWN = 3;
/** Callbacks of interrupts that are sent for no function call: a reschedule has none. */
const NO_CALL = /^(?:0x0|\(nil\)|)$|irq_work/;

type Of<Kind extends RecordedEvent['kind']> = RecordedEvent & { readonly kind: Kind };

/** Measures every interval of one trace, record by record. */
export class Watch {
  readonly #times: Times;
  readonly #waits: Waits;
  readonly #calls: Crossings;
  readonly #sends: Crossings;
  readonly #sendOwn: Spans;
  readonly #interrupt: Spans;
  readonly #handler: Spans;
  readonly #ownHandler: Spans;
  readonly #remoteFlush: Spans;
  readonly #localFlush: Spans;
  readonly #switch: Spans;

  constructor(book: Book, times: Times) {
    this.#times = times;
    this.#waits = new Waits(book);
    this.#calls = new Crossings(book, 'queue-handler', false);
    this.#sends = new Crossings(book, 'send-entry', true);
    this.#sendOwn = new Spans(book, 'send-own');
    this.#interrupt = new Spans(book, 'interrupt');
    this.#handler = new Spans(book, 'handler');
    this.#ownHandler = new Spans(book, 'own-handler');
    this.#remoteFlush = new Spans(book, 'remote-flush');
    this.#localFlush = new Spans(book, 'local-flush');
    this.#switch = new Spans(book, 'switch');
  }

  /** The next record. */
  record({ cpu, time, event }: RecordedRecord): void {
    const now = this.#times.steps(time);
    // Where the trace shows no run of a call that is done, it shows no interrupt for it either. The
    // other way round an interrupt may come late, and find that its call is done.
    if (this.#waits.observe(cpu, event, now))
      for (const to of this.#calls.goesOn(cpu))
        for (const many of [false, true]) this.#sends.abandon(sendKey(to, many), cpu);
    this.#apart(cpu, event, now);
    switch (event.kind) {
      case 'csd_queue_cpu':
        this.#calls.begin({
          key: event.csd,
          from: cpu,
          to: event.target,
          time: now,
          waited: this.#waits.waits(cpu) && countsInTlbRow(event.func),
        });
        break;
      case 'ipi_send':
        this.#send(cpu, event, now);
        break;
      case 'vector_entry':
        if (!isCall(event)) break;
        this.#interrupt.begin(cpu, now, event.irq);
        this.#sends.end(sendKey(cpu, event.irq === MANY), cpu, now);
        break;
      case 'vector_exit':
        if (isCall(event)) this.#interrupt.end(cpu, now, event.irq);
        break;
      case 'csd_function_entry':
      case 'csd_function_exit':
        this.#function(cpu, event, now);
        break;
      case 'tlb_flush':
        this.#flushed(cpu, event, now);
        break;
      case 'other':
        // A probe right at the function, closer than csd_function_entry.
        if (event.name !== 'flush_tlb_func') break;
        for (const flush of [this.#remoteFlush, this.#localFlush]) {
          flush.forget(cpu);
          flush.begin(cpu, now);
        }
        break;
      default:
    }
  }

  /** Intervals between neighbours: anything in between on their CPU makes them something else. */
  #apart(cpu: CpuId, event: RecordedEvent, now: number): void {
    if (event.kind === 'csd_function_entry' && event.csd === 0) this.#sendOwn.end(cpu, now);
    else this.#sendOwn.forget(cpu);
    if (event.kind === 'tlb_flush' && event.reason === ON_TASK_SWITCH)
      this.#switch.end(cpu, now, null, event.pages);
    else if (event.kind !== 'other') this.#switch.forget(cpu);
    if (event.kind === 'sched_switch') this.#switch.begin(cpu, now);
  }

  #send(cpu: CpuId, { name, targets, callback, callsite }: Of<'ipi_send'>, now: number): void {
    if (targets === null || NO_CALL.test(callback)) return;
    if (this.#waits.waits(cpu) && !SCHEDULER_CALLSITES.has(callsite)) this.#sendOwn.begin(cpu, now);
    for (const to of targets) {
      if (to === cpu) continue;
      const key = sendKey(to, name === 'ipi_send_cpumask');
      this.#sends.begin({ key, from: cpu, to, time: now, waited: false });
    }
  }

  #function(cpu: CpuId, event: Of<'csd_function_entry' | 'csd_function_exit'>, now: number): void {
    const { kind, csd, func } = event;
    const own = csd === 0;
    const entry = kind === 'csd_function_entry';
    if (entry && !own) this.#calls.end(csd, cpu, now);
    if (!countsInTlbRow(func)) return;
    const handler = own ? this.#ownHandler : this.#handler;
    const flush = own ? this.#localFlush : this.#remoteFlush;
    if (entry) {
      handler.begin(cpu, now, csd);
      flush.forget(cpu);
      flush.begin(cpu, now);
    } else {
      handler.end(cpu, now, csd);
      // It had nothing to flush.
      flush.forget(cpu);
    }
  }

  #flushed(cpu: CpuId, { reason, pages }: Of<'tlb_flush'>, now: number): void {
    if (reason === REMOTE_SHOOTDOWN) this.#remoteFlush.end(cpu, now, null, pages);
    else if (reason === LOCAL_MM_SHOOTDOWN) this.#localFlush.end(cpu, now, null, pages);
    this.#remoteFlush.forget(cpu);
    this.#localFlush.forget(cpu);
  }

  /** Events of `cpu`, or of an unknown one, are missing before the next record. */
  lose(cpu: CpuId | null): void {
    this.#waits.lose(cpu);
    for (const crossings of [this.#calls, this.#sends]) crossings.lose(cpu);
    for (const spans of [
      this.#sendOwn,
      this.#interrupt,
      this.#handler,
      this.#ownHandler,
      this.#remoteFlush,
      this.#localFlush,
      this.#switch,
    ])
      spans.lose(cpu);
  }

  /** The trace ends. */
  finish(): void {
    this.#calls.finish();
    this.#sends.finish();
  }
}

/** The interrupts of function calls: for one target, and for several. */
const SINGLE = 'call_function_single';
const MANY = 'call_function';

const isCall = ({ irq }: IrqVector): boolean => irq === SINGLE || irq === MANY;

/** One interrupt of a kind is pending on a CPU at most. */
const sendKey = (to: CpuId, many: boolean): number => to * 2 + (many ? 1 : 0);

/**
 * How long who asks for a flush waits for it: from tlb_flush reason 4 to its return, where that is
 * probed, and to the end of the last handler that it called. Who finds nobody to call does not wait.
 */
import type { CpuId } from '@shootdown/machine';
import { goesOn, REMOTE_SEND_IPI } from '../senders.ts';
import type { RecordedEvent } from '@shootdown/trace';
import { countsInTlbRow } from '../callKinds.ts';
import type { Book } from './book.ts';

interface Request {
  readonly start: number;
  readonly targets: Set<CpuId>;
  /** Called and not done yet. */
  readonly pending: Set<number>;
  last: number;
}

/** Every CPU's request in progress. */
export class Waits {
  readonly #book: Book;
  readonly #open = new Map<CpuId, Request>();
  readonly #callers = new Map<number, CpuId>();
  #queueSeen = false;

  constructor(book: Book) {
    this.#book = book;
  }

  /** Whether `cpu` is in a request. */
  waits(cpu: CpuId): boolean {
    return this.#open.has(cpu);
  }

  /** Takes note of an event; gives whether `cpu` has gone on from a request. */
  observe(cpu: CpuId, event: RecordedEvent, time: number): boolean {
    switch (event.kind) {
      case 'csd_queue_cpu': {
        this.#queueSeen = true;
        const request = this.#open.get(cpu);
        if (request === undefined || !countsInTlbRow(event.func)) return false;
        request.targets.add(event.target);
        request.pending.add(event.csd);
        this.#callers.set(event.csd, cpu);
        return false;
      }
      case 'csd_function_exit':
        this.#done(event.csd, time);
        return false;
      default:
    }
    const returns = event.kind === 'other' && event.name === 'flush_tlb_mm_range_ret';
    const asks = event.kind === 'tlb_flush' && event.reason === REMOTE_SEND_IPI;
    const request = this.#open.get(cpu);
    const ended = request !== undefined && (returns || asks || goesOn(event));
    if (ended) this.#end(cpu, request, returns ? time : null);
    if (asks)
      this.#open.set(cpu, { start: time, targets: new Set(), pending: new Set(), last: -Infinity });
    return ended;
  }

  #done(csd: number, time: number): void {
    const caller = this.#callers.get(csd);
    if (caller === undefined) return;
    const request = this.#open.get(caller);
    if (request?.pending.delete(csd) === true) request.last = Math.max(request.last, time);
    this.#callers.delete(csd);
  }

  #end(cpu: CpuId, request: Request, returned: number | null): void {
    this.#close(cpu, request);
    const { start, targets, pending, last } = request;
    const waited = targets.size > 0 || !this.#queueSeen;
    if (returned !== null && waited) this.#book.add('wait-return', start, returned);
    if (targets.size === 0) return;
    if (pending.size === 0) this.#book.add('wait-last', start, last);
    else this.#book.leaveOut('wait-last', 'unfinished');
  }

  /** Events of `cpu`, or of an unknown one, are missing here. */
  lose(cpu: CpuId | null): void {
    for (const [on, request] of this.#open) {
      const own = cpu === null || on === cpu;
      if (!own && !request.targets.has(cpu)) continue;
      this.#close(on, request);
      this.#book.leaveOut('wait-last', 'lost');
      if (own) this.#book.leaveOut('wait-return', 'lost');
    }
  }

  #close(cpu: CpuId, { pending }: Request): void {
    this.#open.delete(cpu);
    for (const csd of pending) this.#callers.delete(csd);
  }
}

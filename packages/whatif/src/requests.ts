/**
 * Which calls belong together. One request queues its calls CPU by CPU, numbers ascending
 * (kernel/smp.c walks a mask), and then sends the interrupts from the same place in the kernel. So
 * a request ends with that send, or when the numbers start over; an interrupt that comes between
 * and sends calls of its own does not end it.
 */
import type { CpuId } from '@shootdown/machine';

interface Open {
  readonly callsite: string;
  readonly id: number;
  last: number;
}

/** Numbers the requests of one trace. */
export class Requests {
  /** By sending CPU, then by function. */
  readonly #open = new Map<CpuId, Map<string, Open>>();
  #next = 0;

  /** The number of the request that a call of `func` from `from` to `to` belongs to. */
  of(from: CpuId, to: CpuId, func: string, callsite: string): number {
    let requests = this.#open.get(from);
    if (requests === undefined) this.#open.set(from, (requests = new Map()));
    const open = requests.get(func);
    if (open !== undefined && to > open.last) {
      open.last = to;
      return open.id;
    }
    const id = this.#next++;
    requests.set(func, { callsite, id, last: to });
    return id;
  }

  /** A request of its own. */
  single(): number {
    return this.#next++;
  }

  /** `from` has sent the interrupts of what it queued at `callsite`. */
  sent(from: CpuId, callsite: string): void {
    const requests = this.#open.get(from);
    for (const [func, open] of requests ?? [])
      if (open.callsite === callsite) requests?.delete(func);
  }
}

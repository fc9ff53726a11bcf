/**
 * Which calls belong together. One request queues its calls CPU by CPU, numbers ascending (kernel/smp.c walks a mask), and then sends the interrupts; so
 * a request ends with a send event, with another function, or when the numbers start over.
 */
import type { CpuId } from '@shootdown/machine';

interface Open {
  func: string;
  last: number;
  id: number;
}

export class Requests {
  readonly #open = new Map<CpuId, Open>();
  #next = 0;

  /** The number of the request that a call of `func` from `from` to `to` belongs to. */
  of(from: CpuId, to: CpuId, func: string): number {
    const open = this.#open.get(from);
    if (open !== undefined && open.func === func && to > open.last) {
      open.last = to;
      return open.id;
    }
    const id = this.#next++;
    this.#open.set(from, { func, last: to, id });
    return id;
  }

  /** A request of its own. */
  single(): number {
    return this.#next++;
  }

  /** The interrupts of `from`'s request are sent: what comes next is another. */
  sent(from: CpuId): void {
    this.#open.delete(from);
  }
}

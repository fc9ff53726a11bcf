/** Intervals that begin and end on one CPU, one at a time. */
import type { CpuId } from '@shootdown/machine';
import type { Book } from './book.ts';
import type { IntervalId } from './intervals.ts';

/** All intervals of one name. */
export class Spans {
  readonly #book: Book;
  readonly #id: IntervalId;
  readonly #open = new Map<CpuId, { readonly key: unknown; readonly start: number }>();

  constructor(book: Book, id: IntervalId) {
    this.#book = book;
    this.#id = id;
  }

  /** Begins one on `cpu`, in place of one whose end never came. `key` joins it with its end. */
  begin(cpu: CpuId, time: number, key: unknown = null): void {
    if (this.#open.has(cpu)) this.#book.leaveOut(this.#id, 'unfinished');
    this.#open.set(cpu, { key, start: time });
  }

  /** Ends the one with `key` on `cpu`, if it is open. */
  end(cpu: CpuId, time: number, key: unknown = null, pages?: number): void {
    const open = this.#open.get(cpu);
    if (open === undefined || open.key !== key) return;
    this.#open.delete(cpu);
    this.#book.add(this.#id, open.start, time, pages);
  }

  /** What is open on `cpu` was something else, or begins anew. */
  forget(cpu: CpuId): void {
    this.#open.delete(cpu);
  }

  /** Events of `cpu`, or of an unknown one, are missing here. */
  lose(cpu: CpuId | null): void {
    for (const on of cpu === null ? [...this.#open.keys()] : [cpu])
      if (this.#open.delete(on)) this.#book.leaveOut(this.#id, 'lost');
  }
}

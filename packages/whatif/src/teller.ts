/**
 * Tells of calls as they are seen, those of the best book only. A weaker book's are held until a
 * better one shows that they are not to be told, or the trace ends, or too many are held.
 */
import type { ObservedCall } from './result.ts';

type Book = 'A' | 'B' | 'C';

/** Calls of weaker evidence that wait. */
const MAX_HELD = 1 << 17;

/** Stands between the books and whoever wants to hear of single calls. */
export class Teller {
  readonly #listener: (call: ObservedCall) => void;
  #book: Book = 'C';
  /** Null: calls of `#book` are told at once. */
  #held: ObservedCall[] | null = [];

  constructor(listener: (call: ObservedCall) => void) {
    this.#listener = listener;
  }

  /** A call of the book `call.evidence`. */
  tell(book: Book, call: ObservedCall): void {
    if (book > this.#book) return;
    if (book < this.#book) {
      this.#book = book;
      // There is no better one than A to wait for.
      this.#held = book === 'A' ? null : [];
    }
    if (this.#held === null) this.#listener(call);
    else if (this.#held.push(call) >= MAX_HELD) this.release();
  }

  /** Tells what is held; from now on nothing is. */
  release(): void {
    for (const call of this.#held ?? []) this.#listener(call);
    this.#held = null;
  }
}

/**
 * The list of what a reader could not read: throws at the first, or keeps the first few and counts
 * the rest.
 */
import { type TraceFormatDetails, TraceFormatError } from './errors.ts';

/** How many problems are kept in full: enough to see the pattern, few enough for a hostile file. */
const KEPT = 20;

/** What one reader could not read. */
export class Problems {
  readonly #source: string;
  readonly #keepGoing: boolean;
  readonly list: TraceFormatError[] = [];
  count = 0;

  constructor(source: string, keepGoing: boolean) {
    this.#source = source;
    this.#keepGoing = keepGoing;
  }

  /** Says that something cannot be read. Returns only if the reader is to go on. */
  add(details: TraceFormatDetails): void {
    this.take(new TraceFormatError(this.#source, details));
  }

  /** The same of an error that is already made. */
  take(error: TraceFormatError): void {
    if (!this.#keepGoing) throw error;
    if (this.count++ < KEPT) this.list.push(error);
  }
}

/**
 * A CPU's store buffer under x86-TSO: stores wait in order, the CPU's own loads see the newest one
 * of their location, and memory gets the oldest one whenever the hardware likes. Sewell et al.,
 * "x86-TSO: a rigorous and usable programmer's model for x86 multiprocessors", CACM 53(7), 2010.
 */
import type { Cell } from './cell.ts';
import { assert } from './errors.ts';

/** One store on its way. */
export interface BufferedStore {
  readonly cell: Cell | null;
  readonly at: number;
  readonly value: unknown;
  /** How many stores of this CPU came before it. */
  readonly ordinal: number;
  /** Whether it went through a translation. */
  readonly translated: boolean;
}

/** Oldest first. */
export class StoreBuffer {
  private entries: BufferedStore[] = [];
  private head = 0;
  private stored = 0;
  /** The ordinal of the last store to a word of memory that has left; -1 if none has. */
  lastWord = -1;
  /** The same for stores that went through a translation. */
  lastTranslated = -1;

  get empty(): boolean {
    return this.head === this.entries.length;
  }

  get length(): number {
    return this.entries.length - this.head;
  }

  /** How many stores this CPU ever buffered: the ordinal of the next. */
  get count(): number {
    return this.stored;
  }

  push(cell: Cell | null, at: number, value: unknown, translated: boolean): void {
    this.entries.push({ cell, at, value, ordinal: this.stored++, translated });
  }

  /** The store that reaches memory next. */
  get oldest(): BufferedStore {
    const entry = this.entries[this.head];
    assert(entry !== undefined, 'an empty store buffer has no oldest store');
    return entry;
  }

  shift(): BufferedStore {
    const entry = this.oldest;
    if (entry.cell === null) this.lastWord = entry.ordinal;
    if (entry.translated) this.lastTranslated = entry.ordinal;
    this.head++;
    if (this.head === this.entries.length) {
      this.entries.length = 0;
      this.head = 0;
    }
    return entry;
  }

  /** The newest store to the location, which is what the CPU itself would load; null if none. */
  newest(cell: Cell | null, at: number): BufferedStore | null {
    for (let i = this.entries.length - 1; i >= this.head; i--) {
      const entry = this.entries[i];
      if (entry !== undefined && entry.cell === cell && entry.at === at) return entry;
    }
    return null;
  }

  /** Whether some store on its way is one of those. */
  some(which: (store: BufferedStore) => boolean): boolean {
    for (const store of this) if (which(store)) return true;
    return false;
  }

  /** Oldest first, for messages and drawings. */
  *[Symbol.iterator](): Generator<BufferedStore> {
    for (let i = this.head; i < this.entries.length; i++) {
      const entry = this.entries[i];
      if (entry !== undefined) yield entry;
    }
  }
}

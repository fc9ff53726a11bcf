/**
 * Intervals that begin on one CPU and end on another. Records come in the order of their times, so
 * where clocks differ an end can come before its beginning; in a row of calls that looks like the end
 * of the call before. What tells is that a CPU which waits for its calls goes on only when they are
 * done: a call that is open then was not before its end but behind it.
 */
import type { CpuId } from '@shootdown/machine';
import type { Book } from './book.ts';
import type { IntervalId } from './intervals.ts';

interface Crossing {
  readonly from: CpuId;
  readonly to: CpuId;
  readonly start: number;
  /** An end came before, and nothing that it could belong to. */
  readonly early: boolean;
  shared: boolean;
}

/** A beginning. */
export interface Start {
  /** What joins it with its end. */
  readonly key: number;
  readonly from: CpuId;
  readonly to: CpuId;
  readonly time: number;
  /** Whether `from` does not go on before the end. */
  readonly waited: boolean;
}

/** Open intervals are bounded: a trace whose ends were not recorded has no end of beginnings. */
const MAX_OPEN = 1 << 16;

/** All intervals of one name. */
export class Crossings {
  readonly #book: Book;
  readonly #id: IntervalId;
  readonly #sharing: boolean;
  readonly #open = new Map<number, Crossing>();
  readonly #early = new Map<number, CpuId>();
  readonly #waited = new Map<CpuId, Set<number>>();

  /** `sharing`: of several beginnings one end may be all there is. */
  constructor(book: Book, id: IntervalId, sharing: boolean) {
    this.#book = book;
    this.#id = id;
    this.#sharing = sharing;
  }

  begin({ key, from, to, time, waited }: Start): void {
    const open = this.#open.get(key);
    if (open !== undefined && this.#sharing) {
      open.shared = true;
      return;
    }
    if (open !== undefined) this.#giveUp(key);
    else if (this.#open.size >= MAX_OPEN) this.#giveUp(firstOf(this.#open) ?? key);
    const early = this.#early.get(key) === to;
    this.#early.delete(key);
    this.#open.set(key, { from, to, start: time, early, shared: false });
    if (!waited) return;
    const keys = this.#waited.get(from) ?? new Set();
    this.#waited.set(from, keys.add(key));
  }

  end(key: number, cpu: CpuId, time: number): void {
    const open = this.#open.get(key);
    if (open === undefined || open.to !== cpu) {
      if (this.#early.size >= MAX_OPEN) this.#early.delete(firstOf(this.#early) ?? key);
      this.#early.set(key, cpu);
      return;
    }
    this.#close(key, open);
    if (open.shared) this.#book.leaveOut(this.#id, 'shared');
    else this.#book.add(this.#id, open.start, time);
  }

  /** `cpu` no longer waits. Gives the CPUs whose ends it should have waited for. */
  goesOn(cpu: CpuId): readonly CpuId[] {
    const keys = this.#waited.get(cpu);
    if (keys === undefined) return [];
    const missed = [...keys].flatMap((key) => this.#open.get(key)?.to ?? []);
    for (const key of keys) this.#giveUp(key);
    this.#waited.delete(cpu);
    return missed;
  }

  /** What `from` began with `key` has no end in the trace. */
  abandon(key: number, from: CpuId): void {
    if (this.#open.get(key)?.from === from) this.#giveUp(key);
  }

  /** Events of `cpu`, or of an unknown one, are missing here. */
  lose(cpu: CpuId | null): void {
    for (const [key, open] of this.#open) {
      if (cpu !== null && open.from !== cpu && open.to !== cpu) continue;
      this.#close(key, open);
      this.#book.leaveOut(this.#id, 'lost');
    }
    for (const [key, on] of this.#early) if (cpu === null || on === cpu) this.#early.delete(key);
  }

  /** The trace ends. */
  finish(): void {
    for (const key of this.#open.keys()) this.#giveUp(key);
  }

  #giveUp(key: number): void {
    const open = this.#open.get(key);
    if (open === undefined) return;
    this.#close(key, open);
    this.#book.leaveOut(this.#id, open.early ? 'negative' : 'unfinished');
  }

  #close(key: number, { from }: Crossing): void {
    this.#open.delete(key);
    this.#waited.get(from)?.delete(key);
  }
}

function firstOf(map: ReadonlyMap<number, unknown>): number | undefined {
  for (const key of map.keys()) return key;
  return undefined;
}

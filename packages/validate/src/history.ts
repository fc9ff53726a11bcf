/**
 * What a cell that several CPUs use has held lately. Between two records of a CPU nobody knows when
 * exactly its steps were made, so another CPU may have read what the cell held before or after them.
 */
import type { Cell, CpuMask } from '@shootdown/machine';

/** A change of a cell that may not have happened yet for who looked earlier. */
export interface Change {
  readonly cell: Cell;
  /** Whose: a CPU sees its own changes in order. */
  readonly cpu: number;
  /** The value before; of a mask, whether the bit was set. */
  readonly old: unknown;
  /** Of a mask cell the bit; else -1. */
  readonly bit: number;
  /** The number of the record from which on it has certainly happened; Infinity: not yet. */
  settled: number;
  /** It was undone: the steps were made again in another order. */
  undone: boolean;
}

/** Older changes than this of one cell are settled in any recording that is not made to mislead. */
const KEPT = 8;

/** The changes of all cells that decisions rest on. */
export class Histories {
  readonly #changes = new WeakMap<Cell, Change[]>();

  /** From here on the changes of `cell` are kept. */
  watch(cell: Cell): void {
    this.#changes.set(cell, []);
  }

  watches(cell: Cell): boolean {
    return this.#changes.has(cell);
  }

  note(change: Change): void {
    const changes = this.#changes.get(change.cell);
    if (changes === undefined) return;
    if (changes.length === KEPT) changes.shift();
    changes.push(change);
  }

  /** What `cell` may have held for code of `cpu` whose steps began after record `since`: newest first. */
  values(cell: Cell, since: number, cpu: number): readonly unknown[] {
    const open = this.#open(cell, since, cpu);
    const values: unknown[] = [cell.value];
    for (const { old } of open.toReversed()) if (!values.includes(old)) values.push(old);
    return values;
  }

  /** Whether `bit` of a mask may have been changed for code that began after record `since`. */
  changed(cell: Cell<CpuMask>, bit: number, since: number, cpu: number): boolean {
    return this.#open(cell, since, cpu).some((change) => change.bit === bit);
  }

  /** Whether `bit` of a mask was `on` at some time since record `since`. */
  wasBit(cell: Cell<CpuMask>, bit: number, on: boolean, since: number, cpu: number): boolean {
    if (cell.value.has(bit) === on) return true;
    return this.#open(cell, since, cpu).some((change) => change.bit === bit && change.old === on);
  }

  /** The bits of a mask that may have been otherwise. */
  openBits(cell: Cell<CpuMask>, since: number, cpu: number): readonly number[] {
    const bits = this.#open(cell, since, cpu)
      .filter(({ bit, old }) => cell.value.has(bit) !== old)
      .map(({ bit }) => bit);
    return Array.from(new Set(bits));
  }

  /** Changes by others than `cpu` that may be to come for code of it that began after `since`. */
  #open(cell: Cell, since: number, cpu: number): readonly Change[] {
    const changes = this.#changes.get(cell);
    if (changes === undefined) return NONE;
    return changes.filter(
      (change) => !change.undone && change.settled > since && change.cpu !== cpu,
    );
  }
}

const NONE: readonly never[] = [];

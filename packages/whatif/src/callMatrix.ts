/**
 * Who called whom, CPU by CPU. A row per sender, as wide as its highest target; a machine of 8192
 * CPUs that all call each other takes 256 MB, and its matrix is handed out in groups of CPUs,
 * because nobody can use 67 million cells.
 */
import { type CpuId, cpuId } from '@shootdown/machine';

/** One cell. In a grouped matrix `from` and `to` are the first CPUs of their groups. */
export interface Cell {
  readonly from: CpuId;
  readonly to: CpuId;
  readonly calls: number;
}

/** A matrix, handed out. */
export interface Matrix {
  /** CPUs per row and column of it: 1 unless it would have more than MOST_CELLS cells. */
  readonly group: number;
  /** Those that are not 0; by sender, then by target. */
  readonly cells: readonly Cell[];
}

const MOST_CELLS = 1 << 18;

/** The matrix of one book. */
export class CallMatrix {
  readonly #rows: (Uint32Array | undefined)[] = [];

  /** One call more. */
  add(from: CpuId, to: CpuId): void {
    let row = this.#rows[from];
    if (row === undefined || to >= row.length) {
      const wider = new Uint32Array(Math.max(8, 2 ** Math.ceil(Math.log2(to + 1))));
      if (row !== undefined) wider.set(row);
      this.#rows[from] = row = wider;
    }
    row[to] = (row[to] ?? 0) + 1;
  }

  /** The cells, in groups if there are too many. */
  cells(): Matrix {
    for (let group = 1; ; group *= 2) {
      const cells = this.#grouped(group);
      if (cells !== null) return { group, cells };
    }
  }

  /** Null when there are more than MOST_CELLS. */
  #grouped(group: number): readonly Cell[] | null {
    const cells: Cell[] = [];
    for (let first = 0; first < this.#rows.length; first += group) {
      const sums: number[] = [];
      for (const row of this.#rows.slice(first, first + group)) {
        for (const [to, calls] of row?.entries() ?? []) {
          const column = Math.floor(to / group);
          if (calls > 0) sums[column] = (sums[column] ?? 0) + calls;
        }
      }
      for (const [column, calls] of Object.entries(sums)) {
        if (cells.length === MOST_CELLS) return null;
        cells.push({ from: cpuId(first), to: cpuId(Number(column) * group), calls });
      }
    }
    return cells;
  }
}

/**
 * Makes the steps of one CPU. What a step reads of others may be older than what is there now, or
 * newer, if another CPU is held just before it: while orders are tried, each such read branches.
 */
import { type Cell, type Cpu, CpuMask, type Machine, type Op } from '@shootdown/machine';
import type { Change, Histories } from './history.ts';
import type { Orders } from './orders.ts';

/** What an executor stands on. */
export interface Surroundings {
  readonly machine: Machine;
  readonly histories: Histories;
  readonly orders: Orders;
  /** What other CPUs that are held before an increment of `cell` do to make it. */
  readonly held: (cell: Cell) => readonly (() => void)[];
  /** The number of the record behind which the steps lie. */
  readonly since: () => number;
  /** Told of every change. `shared`: of a cell that others decide by. */
  readonly changed: (change: Change, shared: boolean) => void;
}

/** Makes steps. */
export class Executor {
  readonly #cpu: Cpu;
  readonly #of: Surroundings;

  constructor(cpu: Cpu, of: Surroundings) {
    this.#cpu = cpu;
    this.#of = of;
  }

  /** Makes the step and gives its result. */
  step(op: Op): unknown {
    const { machine } = this.#of;
    machine.current = this.#cpu;
    const result = this.#execute(op);
    machine.current = null;
    return result;
  }

  #execute(op: Op): unknown {
    const { cell, kind } = op;
    if (cell === null) return this.#plain(op);
    if (!this.#of.histories.watches(cell)) return this.#journalled(op, cell, -1, false);
    switch (kind.name) {
      case 'load':
        return this.#load(cell);
      case 'testBit':
        return this.#testBit(cell as Cell<CpuMask>, op.operand as number);
      case 'readMask':
        return this.#readMask(cell as Cell<CpuMask>);
      case 'locked':
        this.#overtaken(cell);
    }
    return this.#journalled(op, cell, cell.bits === 0 ? -1 : (op.operand as number), true);
  }

  #plain(op: Op): unknown {
    return op.kind.execute(this.#of.machine, this.#cpu, op, 0);
  }

  #journalled(op: Op, cell: Cell, bit: number, shared: boolean): unknown {
    const old = valueOf(cell, bit);
    const result = this.#plain(op);
    if (valueOf(cell, bit) !== old) {
      const change = { cell, cpu: this.#cpu.id, old, bit, settled: Infinity, undone: false };
      this.#of.changed(change, shared);
    }
    return result;
  }

  #load(cell: Cell): unknown {
    const { histories, orders, held, since } = this.#of;
    if (!orders.trying) return cell.value;
    const values = histories.values(cell, since(), this.#cpu.id);
    const others = held(cell);
    const picked = orders.index(values.length + others.length);
    if (picked < values.length) return values[picked];
    for (const go of others.slice(0, picked - values.length + 1)) orders.outside(go);
    return cell.value;
  }

  #testBit(cell: Cell<CpuMask>, bit: number): boolean {
    const { histories, orders, since } = this.#of;
    const now = cell.value.has(bit);
    if (!orders.trying || !histories.wasBit(cell, bit, !now, since(), this.#cpu.id)) return now;
    return orders.index(2) === 0 ? now : !now;
  }

  #readMask(cell: Cell<CpuMask>): CpuMask {
    const { histories, orders, since } = this.#of;
    const mask = cell.value.copy();
    if (!orders.trying) return mask;
    for (const bit of histories.openBits(cell, since(), this.#cpu.id)) {
      if (orders.index(2) === 0) continue;
      if (mask.has(bit)) mask.clear(bit);
      else mask.set(bit);
    }
    return mask;
  }

  /** Lets increments of others, which wait for their records, be first. */
  #overtaken(cell: Cell): void {
    const { orders, held } = this.#of;
    if (!orders.trying) return;
    const others = held(cell);
    for (const go of others.slice(0, orders.index(others.length + 1))) orders.outside(go);
  }
}

const valueOf = (cell: Cell, bit: number): unknown =>
  bit === -1 ? cell.value : (cell.value as CpuMask).has(bit);

/** Takes changes back, newest first. */
export function takeBack(changes: readonly Change[]): void {
  for (const change of changes.toReversed()) {
    const { cell, bit, old } = change;
    change.undone = true;
    if (bit === -1) cell.value = old;
    else if (old === true) (cell.value as CpuMask).set(bit);
    else (cell.value as CpuMask).clear(bit);
  }
}

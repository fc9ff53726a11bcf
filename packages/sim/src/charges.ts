/** What things cost on one machine: the cost table, and which CPUs are far from each other. */
import { type Cell, MAX_CPUS, type Op, type OpKind, waitsFor } from '@shootdown/machine';
import { type Cost, costOf, type CostTable, costTable } from './costs.ts';

/** Prices for one machine. */
export class Charges {
  readonly storeDrain: number;
  readonly walkStep: number;
  readonly irqEntry: number;
  readonly vmExit: number;
  private readonly line: number;
  private readonly lineFar: number;
  private readonly ipiFlight: number;
  private readonly ipiFlightFar: number;
  private readonly table: CostTable;
  /** Which socket each CPU is in. */
  private readonly sockets: Uint16Array;
  private readonly kinds = new Map<OpKind, Cost>();

  /** @throws UsageError ERR_COST */
  constructor(costs: CostTable | undefined, perSocket: number = MAX_CPUS) {
    this.table = costTable(costs);
    this.sockets = new Uint16Array(MAX_CPUS).map((_, cpu) => Math.floor(cpu / perSocket));
    this.storeDrain = this.ns('storeDrain');
    this.walkStep = this.ns('walkStep');
    this.irqEntry = this.ns('irqEntry');
    this.vmExit = this.ns('vmExit');
    this.line = this.ns('line');
    this.lineFar = this.ns('lineFar');
    this.ipiFlight = this.ns('ipiFlight');
    this.ipiFlightFar = this.ns('ipiFlightFar');
  }

  /** The table's entry for `name`. @throws UsageError ERR_COST */
  cost(name: string): Cost {
    return costOf(this.table, name);
  }

  /** Cost of `name`, ns. @throws UsageError ERR_COST */
  ns(name: string): number {
    return this.cost(name).ns;
  }

  /** The table's entry for `kind`, looked up once. @throws UsageError ERR_COST */
  of(kind: OpKind): Cost {
    let cost = this.kinds.get(kind);
    if (cost === undefined) {
      cost = this.cost(kind.name);
      this.kinds.set(kind, cost);
    }
    return cost;
  }

  /** What a cache line costs that CPU `from` touched last and `to` needs. */
  transfer(from: number, to: number): number {
    if (from === to || from === -1) return 0;
    return this.sockets[from] === this.sockets[to] ? this.line : this.lineFar;
  }

  /** How long an interrupt takes from `from` to `to`. */
  flight(from: number, to: number): number {
    return this.sockets[from] === this.sockets[to] ? this.ipiFlight : this.ipiFlightFar;
  }
}

/** The cell whose cache line `op` takes; of several that it waits for, the first. */
export const cellOf = (op: Op): Cell | null => op.cell ?? waitsFor(op)[0] ?? null;

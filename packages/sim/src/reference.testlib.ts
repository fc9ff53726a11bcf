/**
 * The clock once more, slow and plain: before every event each CPU is looked at from scratch and the
 * earliest event of all is taken. No queue of opinions, nobody is woken or told that a vector was
 * posted; interrupts fly here and reach the machine when they are taken.
 */
import {
  type Cell,
  choiceOf,
  computesFor,
  type Cpu,
  guardDeterminism,
  type Machine,
  nanoseconds,
  NMI_VECTOR,
  type Op,
  transition,
  TransitionKind,
  waitsFor,
} from '@shootdown/machine';
import type { ClockRun } from './clock.ts';
import type { ClockOptions } from './clockOptions.ts';
import { type Cost, type CostTable, costTable } from './costs.ts';
import { random, type Random } from './random.ts';
import { stuckError } from './stuck.ts';

const NEVER = Infinity;

interface Move {
  readonly atNs: number;
  readonly index: number;
  readonly kind: 'irq' | 'nmi' | 'host';
}

/** A CPU that leaves its Op: when, and for which planned move if it is one. */
interface Leaving {
  readonly at: number;
  readonly move: Move | null;
}

/** What an Op that began at `since` costs: it takes the line of its cell from CPU `from`. */
interface Price {
  readonly op: Op;
  readonly since: number;
  readonly from: number | null;
  readonly end: number;
}

interface SlowCpu {
  readonly cpu: Cpu;
  free: number;
  /** Whether `op` had to wait when it was last looked at. */
  waits: Op | null;
  /** Of the Op that runs. */
  price: Price | null;
  /** It has left its Op. */
  left: Leaving | null;
  readonly visible: number[];
  visibleAt: number;
  readonly flying: Map<number, number>;
  moves: Move[];
}

interface Event {
  readonly at: number;
  readonly happens: () => void;
}

/** How a slow run went. */
export interface SlowRun extends ClockRun {
  readonly free: readonly number[];
}

const cellOf = (op: Op): Cell | null => op.cell ?? waitsFor(op)[0] ?? null;

class SlowClock {
  private readonly machine: Machine;
  private readonly costs: CostTable;
  private readonly options: ClockOptions;
  private readonly random: Random;
  private readonly left = new Map<Op, number>();
  readonly cpus: readonly SlowCpu[];
  private now = 0;
  private ops = 0;
  private interrupts = 0;
  private broadcast = false;

  constructor(machine: Machine, options: ClockOptions) {
    this.machine = machine;
    this.options = options;
    this.costs = costTable(options.costs);
    this.random = random(options.seed ?? 1);
    const moves = (options.plan ?? []).map(({ atNs, move }) => {
      const { kind = 'host', cpu = 0 } = machine.environment[move] ?? {};
      return { atNs, index: move, kind, cpu };
    });
    this.cpus = machine.cpus.map((cpu) => ({
      cpu,
      free: 0,
      waits: null,
      price: null,
      left: null,
      visible: [],
      visibleAt: 0,
      flying: new Map<number, number>(),
      moves: moves.filter((move) => move.cpu === cpu.id).toSorted((a, b) => a.atNs - b.atNs),
    }));
    machine.onPosted = (from, to, vector) => {
      const { cpu, flying } = this.of(to);
      cpu.accept(vector);
      const arrives = this.now + this.ns(this.far(from, to) ? 'ipiFlightFar' : 'ipiFlight');
      flying.set(vector, Math.min(arrives, flying.get(vector) ?? NEVER));
    };
    machine.onBroadcast = () => {
      this.broadcast = true;
    };
  }

  run(): SlowRun {
    const ended = guardDeterminism(this.machine, () => {
      for (;;) {
        const next = this.next();
        if (next === null) return true;
        if (next.at > (this.options.untilNs ?? NEVER)) return false;
        // Whoever leaves its Op before that has left it then.
        for (const one of this.cpus) {
          const leaving = this.leaves(one);
          if (leaving.at < next.at) one.left = leaving;
        }
        this.now = next.at;
        this.machine.time = nanoseconds(next.at);
        next.happens();
        if (this.broadcast) this.applyAll();
      }
    });
    for (const { cpu, flying } of this.cpus) for (const vector of flying.keys()) cpu.arrive(vector);
    const stuck = ended ? stuckError(this.machine) : null;
    if (stuck !== null) throw stuck;
    const { now: timeNs, ops, interrupts } = this;
    return { timeNs, ops, interrupts, ended, free: this.cpus.map(({ free }) => free) };
  }

  private of(cpu: number): SlowCpu {
    return this.cpus[cpu] as SlowCpu;
  }

  private cost(name: string): Cost {
    return this.costs[name] ?? { ns: NaN, source: 'none' };
  }

  private ns(name: string): number {
    return this.cost(name).ns;
  }

  private far(a: number, b: number): boolean {
    const { cpusPerSocket = 8192 } = this.options;
    return Math.floor(a / cpusPerSocket) !== Math.floor(b / cpusPerSocket);
  }

  /** The earliest event, of the first CPU that has one then. */
  private next(): Event | null {
    let earliest: Event | null = null;
    for (const one of this.cpus) {
      this.look(one);
      for (const event of this.events(one))
        if (event.at < (earliest?.at ?? NEVER)) earliest = event;
    }
    return earliest;
  }

  /** What has begun goes on; a wait that has ended did so by what happened last. */
  private look(one: SlowCpu): void {
    const { op } = one.cpu;
    const { price } = one;
    if (one.left !== null || (price !== null && price.op === op && price.since === one.free))
      return;
    const ready = this.machine.ways(one.cpu) > 0;
    if (op !== null && one.waits === op && ready) one.free = Math.max(one.free, this.now);
    one.waits = ready ? null : op;
    one.price = ready && op !== null ? this.price(one.cpu, op, one.free) : null;
  }

  private price(cpu: Cpu, op: Op, since: number): Price {
    const computes = computesFor(op);
    if (computes !== null)
      return { op, since, from: null, end: since + (this.left.get(op) ?? computes) };
    const { ns, line } = this.cost(op.kind.name);
    const from = line === true ? (cellOf(op)?.toucher ?? null) : null;
    return { op, since, from, end: since + ns + this.transfer(from ?? -1, cpu.id) };
  }

  private transfer(from: number, to: number): number {
    if (from === -1 || from === to) return 0;
    return this.ns(this.far(from, to) ? 'lineFar' : 'line');
  }

  private *events(one: SlowCpu): Generator<Event> {
    const { cpu } = one;
    const leaving = this.leaves(one);
    const [visible] = one.visible;
    if (visible !== undefined) yield { at: visible, happens: () => this.drain(one) };
    if (leaving.at < NEVER) {
      const host = leaving.move?.kind === 'host';
      const entry = this.ns(host ? 'vmExit' : 'irqEntry');
      const drains = this.machine.axioms.deliveryDrains;
      if (!drains || cpu.buffer.empty) {
        const at = Math.max(leaving.at, drains ? one.visibleAt : 0) + entry;
        yield { at, happens: () => this.enter(one, leaving, at) };
      }
    } else if (one.price !== null) {
      const at = one.price.end;
      yield { at, happens: () => this.step(one, at) };
    }
  }

  private leaves(one: SlowCpu): Leaving {
    if (one.left !== null) return one.left;
    const { cpu, free } = one;
    const none = { at: NEVER, move: null };
    if (cpu.frozen) return none;
    const vector = Math.min(
      NEVER,
      ...[...one.flying].filter(([v]) => this.takes(cpu, v)).map(([, at]) => Math.max(at, free)),
    );
    const move = one.moves.find(({ kind }) =>
      kind === 'host' ? true : this.takes(cpu, kind === 'nmi' ? NMI_VECTOR : 255),
    );
    const moveAt = move === undefined ? NEVER : Math.max(move.atNs, free);
    const leaving =
      moveAt < vector ? { at: moveAt, move: move ?? null } : { at: vector, move: null };
    if (leaving.at === free) return leaving;
    const { op } = cpu;
    if (op !== null && one.price !== null && computesFor(op) === null) return none;
    return leaving.at < (one.price?.end ?? NEVER) ? leaving : none;
  }

  private takes(cpu: Cpu, vector: number): boolean {
    return vector === NMI_VECTOR ? !cpu.nmisMasked : cpu.irqsOn;
  }

  private drain(one: SlowCpu): void {
    one.visible.shift();
    one.visibleAt = this.now;
    this.machine.execute(transition(TransitionKind.drain, one.cpu.id));
  }

  private enter(one: SlowCpu, { at: since, move }: Leaving, at: number): void {
    const { cpu } = one;
    const { op } = cpu;
    const computes = op === null ? null : computesFor(op);
    if (op !== null && computes !== null)
      this.left.set(op, (this.left.get(op) ?? computes) - (since - one.free));
    one.left = null;
    one.price = null;
    one.free = at;
    if (move === null || move.kind !== 'host') this.interrupts++;
    if (move !== null) {
      one.moves = one.moves.filter((other) => other !== move);
      return this.machine.execute(transition(TransitionKind.move, cpu.id, move.index));
    }
    const there = [...one.flying]
      .filter(([vector, arrived]) => arrived <= since && this.takes(cpu, vector))
      .map(([vector]) => vector);
    const vector = there.includes(NMI_VECTOR) ? NMI_VECTOR : Math.max(...there);
    one.flying.delete(vector);
    cpu.arrive(vector);
    this.machine.deliver(cpu);
  }

  private step(one: SlowCpu, at: number): void {
    const { machine } = this;
    const { cpu } = one;
    const { op } = cpu;
    if (op === null) throw new Error('a CPU that steps has an Op');
    const cell = cellOf(op);
    const { price } = one;
    if (cell !== null && price !== null && price.from !== null && price.from !== cell.toucher) {
      // Another CPU has taken the line since: it comes once more, and stays.
      const end = at + this.transfer(cell.toucher, cpu.id);
      one.price = { ...price, from: null, end };
      if (end > at) return;
    }
    one.free = at;
    const { line = false } = computesFor(op) === null ? this.cost(op.kind.name) : {};
    if (line !== false && cell !== null) cell.toucher = cpu.id;
    one.price = null;
    if (machine.ways(cpu) === 0) return;
    machine.step(cpu, this.way(op, machine.ways(cpu)));
    this.ops++;
    one.free += machine.walked * this.ns('walkStep');
    if (cpu.buffer.length > one.visible.length) one.visible.push(one.free + this.ns('storeDrain'));
  }

  private applyAll(): void {
    this.broadcast = false;
    for (const { id, invalidations } of this.machine.cpus) {
      const apply = transition(TransitionKind.apply, id);
      while (invalidations.length > 0 && this.machine.isEnabled(apply)) this.machine.execute(apply);
      if (invalidations.length > 0) this.broadcast = true;
    }
  }

  private way(op: Op, ways: number): number {
    if (op.kind.name !== 'mayFail') return ways === 1 ? 0 : this.random(ways);
    const chance = this.options.failures?.[choiceOf(op)?.name ?? ''] ?? 0;
    return this.random(1_000_000) < chance * 1_000_000 ? 1 : 0;
  }
}

/** Runs `machine` by the slow clock. */
export const runSlowly = (machine: Machine, options: ClockOptions): SlowRun =>
  new SlowClock(machine, options).run();

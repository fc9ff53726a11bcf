/**
 * Drives a machine by a clock. Every CPU has a time of its own, at which its last Op ended; an Op
 * takes effect at its end, and the CPU whose next event is earliest goes first, at equal times the
 * one with the lower number. So a run is a function of the machine, the costs and the seed.
 *
 * An interrupt is taken at the first boundary between Ops at or after its arrival; user computation,
 * an idle loop and a wait are interrupted where they are and go on afterwards. A wait ends when the
 * store that ends it becomes visible. Broadcast invalidations are applied when they are sent, and
 * `tlbsync` pays for the waiting.
 *
 * Not modelled: that CPUs share execution units and memory bandwidth.
 */
import FlatQueue from 'flatqueue';
import {
  assert,
  type CallQueues,
  choiceOf,
  computesFor,
  type Cpu,
  guardDeterminism,
  type Machine,
  type MaskCall,
  MAX_CPUS,
  nanoseconds,
  type Op,
  type OpKind,
  transition,
  TransitionKind,
  UsageError,
  waitsFor,
} from '@shootdown/machine';
import { costOf, type CostTable, costTable, type EXTRAS } from './costs.ts';
import { maskCall, type Partners } from './maskCall.ts';
import { orderRecords, type RecordOrder } from './records.ts';
import { random, type Random } from './random.ts';
import { stuckError } from './stuck.ts';
import { NEVER, Next, Timeline } from './timeline.ts';

/** Something the environment does at a given time: `move` indexes `Machine.environment`. */
export interface PlannedMove {
  readonly atNs: number;
  readonly move: number;
}

/** How to run. */
export interface ClockOptions {
  /** Changes to the default costs. */
  readonly costs?: CostTable | undefined;
  /** For choices. Default 1. */
  readonly seed?: number | undefined;
  /** CPUs per socket: further ones are far. Default: all in one socket. */
  readonly cpusPerSocket?: number | undefined;
  /** The chance, 0 to 1, that a `mayFail` of that name fails. Default 0. */
  readonly failures?: Readonly<Record<string, number>> | undefined;
  /** When the environment moves. Default never. */
  readonly plan?: readonly PlannedMove[] | undefined;
  /** Stops at this time. Default: when nothing is left to do. */
  readonly untilNs?: number | undefined;
  /** Whether whole-mask calls may be done at once (maskCall.ts). Default true. */
  readonly batch?: boolean | undefined;
}

/** How it went. */
export interface ClockRun {
  /** When the last event was, ns. */
  readonly timeNs: number;
  /** Ops executed, those of calls done at once included. */
  readonly ops: number;
  /** Interrupts and NMIs taken. */
  readonly interrupts: number;
  /** False: `untilNs` was reached. */
  readonly ended: boolean;
}

/** A time and a CPU fit one double: 2^40 ns, 18 minutes, of simulated time. */
const MAX_TIME = 2 ** 40;
const FAILURE_GRAIN = 1_000_000;

/** What a call that was done at once comes to. */
export interface DoneAtOnce {
  readonly until: number;
  readonly ops: number;
  readonly interrupts: number;
}

/** The clock of one machine. */
export class Clock {
  readonly machine: Machine;
  readonly lines: readonly Timeline[];
  interrupts: number = 0;
  private readonly table: CostTable;
  private readonly failures: Readonly<Record<string, number>>;
  /** When the run stops. */
  readonly until: number;
  private readonly random: Random;
  private readonly queue: FlatQueue = new FlatQueue();
  private readonly kinds = new Map<OpKind, { readonly ns: number; readonly line: boolean }>();
  /** CPUs whose wait looks at something that is no cell: they are asked again after every event. */
  private readonly pollers = new Set<Timeline>();
  private readonly parties = new Map<CallQueues, Partners[]>();
  private broadcast = false;
  private ops = 0;
  private now = 0;
  private latest = 0;
  private readonly order: RecordOrder | null;
  private readonly extra: Readonly<Record<(typeof EXTRAS)[number], number>>;

  constructor(machine: Machine, options: ClockOptions = {}) {
    this.machine = machine;
    this.table = costTable(options.costs);
    const perSocket = options.cpusPerSocket ?? MAX_CPUS;
    this.failures = options.failures ?? {};
    this.until = options.untilNs ?? MAX_TIME;
    this.random = random(options.seed ?? 1);
    this.extra = {
      storeDrain: this.ns('storeDrain'),
      line: this.ns('line'),
      lineFar: this.ns('lineFar'),
      walkStep: this.ns('walkStep'),
      ipiFlight: this.ns('ipiFlight'),
      ipiFlightFar: this.ns('ipiFlightFar'),
      irqEntry: this.ns('irqEntry'),
      vmExit: this.ns('vmExit'),
    };
    this.lines = machine.cpus.map((cpu) => new Timeline(cpu, Math.floor(cpu.id / perSocket)));
    for (const planned of (options.plan ?? []).toSorted((a, b) => a.atNs - b.atNs)) {
      const move = machine.environment[planned.move];
      if (move === undefined)
        throw new UsageError('ERR_OPTION', `the plan names move ${planned.move}, which is none`);
      this.line(move.cpu).plan.push(planned);
    }
    machine.onWake = (cpus) => {
      for (const cpu of [...cpus]) this.wake(this.line(cpu));
    };
    machine.onPosted = (from, to, vector) => this.posted(from, to, vector);
    machine.onBroadcast = () => {
      this.broadcast = true;
    };
    this.order = orderRecords(machine);
    if (options.batch !== false) machine.onMaskCall = (from, whole) => this.atOnce(from, whole);
  }

  /** Cost of `name`, ns. */
  ns(name: string): number {
    return costOf(this.table, name).ns;
  }

  /** What a cache line costs that CPU `from` touched last and `to` needs. */
  transfer(from: number, to: number): number {
    if (from === to || from === -1) return 0;
    return this.far(from, to) ? this.extra.lineFar : this.extra.line;
  }

  /** How long an interrupt takes from `from` to `to`. */
  flight(from: number, to: number): number {
    return this.far(from, to) ? this.extra.ipiFlightFar : this.extra.ipiFlight;
  }

  private far(a: number, b: number): boolean {
    return this.line(a).socket !== this.line(b).socket;
  }

  /** The CPUs that `from` has called by `calls`. */
  partners(calls: CallQueues, from: number): Partners {
    let byCaller = this.parties.get(calls);
    if (byCaller === undefined) {
      byCaller = [];
      this.parties.set(calls, byCaller);
    }
    return (byCaller[from] ??= { known: [], called: [] });
  }

  line(cpu: number): Timeline {
    return this.lines[cpu] as Timeline;
  }

  /** When the earliest event is that is queued; `NEVER` if none. */
  get nextEventAt(): number {
    const key = this.queue.peekValue();
    return key === undefined ? NEVER : Math.floor(key / MAX_CPUS);
  }

  /** Runs until nothing is left to do, or `untilNs`. */
  run(): ClockRun {
    return guardDeterminism(this.machine, () => {
      for (const line of this.lines) this.plan(line);
      const ended = this.loop();
      if (ended) {
        const stuck = stuckError(this.machine);
        if (stuck !== null) throw stuck;
      }
      this.order?.flush(NEVER, 0);
      const timeNs = Math.max(this.now, this.latest);
      return { timeNs, ops: this.ops, interrupts: this.interrupts, ended };
    });
  }

  private loop(): boolean {
    const { queue } = this;
    for (;;) {
      const key = queue.peekValue();
      if (key === undefined) return true;
      const id = queue.pop();
      const line = this.line(id as number);
      // An opinion from before something changed.
      if (line.nextAt * MAX_CPUS + line.cpu.id !== key) continue;
      do {
        if (line.nextAt > this.until) return false;
        this.happen(line);
        this.plan(line, false);
        // As long as it stays the earliest nobody has to be asked.
      } while (line.nextAt !== NEVER && line.nextAt * MAX_CPUS + line.cpu.id < this.head());
      this.push(line);
    }
  }

  private head(): number {
    return this.queue.peekValue() ?? NEVER;
  }

  private push(line: Timeline): void {
    if (line.nextAt === NEVER) return;
    if (line.nextAt > MAX_TIME)
      throw new UsageError('ERR_OPTION', `the run passes ${MAX_TIME} ns: set untilNs below that`);
    this.queue.push(line.cpu.id, line.nextAt * MAX_CPUS + line.cpu.id);
  }

  /** Decides what `line` does next. */
  plan(line: Timeline, queued = true): void {
    const { machine } = this;
    const { cpu, freeAt } = line;
    let nextAt: number = NEVER;
    const drainAt = line.drains[0];
    if (drainAt !== undefined) {
      nextAt = drainAt;
    }
    const { op } = cpu;
    const ready = op !== null && machine.ways(cpu) > 0;
    const interruptible = op === null || !ready || computesFor(op) !== null;
    const boundary = this.interruptedAt(line, interruptible);
    if (boundary !== NEVER && boundary + this.entry(line) < nextAt)
      nextAt = boundary + this.entry(line);
    else line.what = Next.drain;
    if (ready) {
      const at = freeAt + this.costOf(line, op);
      // At a boundary what is there goes first, and a computation is cut short for it.
      const first = boundary <= freeAt || (interruptible && boundary < at);
      if (at < nextAt && !first) {
        nextAt = at;
        line.what = Next.step;
      }
    } else if (op !== null) this.watch(line, op);
    line.nextAt = nextAt;
    line.refresh();
    if (queued) this.push(line);
  }

  /**
   * When `line` leaves what it does for an interrupt or a planned move, which `line.what` then says;
   * `NEVER` if nothing of the kind is due.
   */
  private interruptedAt(line: Timeline, interruptible: boolean): number {
    const { cpu, freeAt, drainedAt } = line;
    let boundary: number = NEVER;
    const vector = this.machine.deliverable(cpu);
    if (vector !== null) {
      const arrival = line.arrivals.get(vector) ?? 0;
      if (arrival <= freeAt || interruptible) {
        boundary = Math.max(freeAt, arrival, drainedAt);
        line.what = Next.deliver;
      }
    }
    const planned = line.plan[0];
    if (planned === undefined || (planned.atNs > freeAt && !interruptible)) return boundary;
    const moveAt = Math.max(freeAt, planned.atNs, drainedAt);
    const move = transition(TransitionKind.move, cpu.id, planned.move);
    if (moveAt >= boundary || !this.machine.isEnabled(move)) return boundary;
    line.what = Next.move;
    return moveAt;
  }

  /** What going into the interrupt or the host costs. */
  private entry(line: Timeline): number {
    if (line.what === Next.deliver) return this.extra.irqEntry;
    const move = this.machine.environment[line.plan[0]?.move ?? -1];
    return move?.kind === 'host' ? this.extra.vmExit : this.extra.irqEntry;
  }

  /** What `op` costs if it is executed now. */
  private costOf(line: Timeline, op: Op): number {
    const lasts = computesFor(op);
    if (lasts !== null) return line.left.get(op) ?? lasts;
    let cost = this.kinds.get(op.kind);
    if (cost === undefined) {
      const { ns, line: exclusive = false } = costOf(this.table, op.kind.name);
      cost = { ns, line: exclusive };
      this.kinds.set(op.kind, cost);
    }
    if (!cost.line) return cost.ns;
    const cell = op.cell ?? waitsFor(op)[0];
    return cell === undefined ? cost.ns : cost.ns + this.transfer(cell.toucher, line.cpu.id);
  }

  /** Makes the next event of `line` happen. */
  private happen(line: Timeline): void {
    this.now = line.nextAt;
    this.machine.time = nanoseconds(line.nextAt);
    if (line.what === Next.step) this.step(line);
    else if (line.what === Next.drain) this.drain(line);
    else if (line.what === Next.deliver) this.deliver(line);
    else this.move(line);
    if (this.pollers.size > 0)
      for (const poller of this.pollers) if (poller !== line) this.plan(poller);
  }

  private step(line: Timeline): void {
    const { machine } = this;
    const { cpu, nextAt } = line;
    const { op } = cpu;
    assert(op !== null, `CPU ${cpu.id} has an Op`);
    if (this.kinds.get(op.kind)?.line === true) {
      const cell = op.cell ?? waitsFor(op)[0];
      if (cell !== undefined) cell.toucher = cpu.id;
    }
    if (line.left.size > 0) line.left.delete(op);
    if (this.pollers.size > 0) this.pollers.delete(line);
    // A call that was done at once has moved freeAt itself (maskCall.ts).
    line.freeAt = nextAt;
    machine.step(cpu, this.way(cpu, op));
    this.ops++;
    line.freeAt += machine.walked * this.extra.walkStep;
    if (cpu.buffer.length > line.drains.length) line.drains.push(nextAt + this.extra.storeDrain);
    if (this.broadcast) this.applyEverywhere();
  }

  private drain(line: Timeline): void {
    const { cpu, nextAt } = line;
    const waited = cpu.op !== null && this.machine.ways(cpu) === 0;
    line.drains.shift();
    this.machine.execute(transition(TransitionKind.drain, cpu.id));
    line.drainedAt = nextAt;
    if (waited && this.machine.ways(cpu) > 0) line.freeAt = Math.max(line.freeAt, nextAt);
  }

  private deliver(line: Timeline): void {
    const vector = this.machine.deliverable(line.cpu);
    if (vector !== null) line.arrivals.delete(vector);
    this.interrupts++;
    line.suspend(line.nextAt - this.extra.irqEntry);
    line.freeAt = line.nextAt;
    this.machine.deliver(line.cpu);
  }

  private move(line: Timeline): void {
    const planned = line.plan.shift();
    assert(planned !== undefined, `CPU ${line.cpu.id} has a planned move`);
    line.suspend(Math.max(line.freeAt, planned.atNs, line.drainedAt));
    line.freeAt = line.nextAt;
    this.machine.execute(transition(TransitionKind.move, line.cpu.id, planned.move));
  }

  private atOnce(from: Cpu, whole: MaskCall): boolean {
    this.order?.hold();
    const done = maskCall(this, from, whole);
    this.order?.release();
    // Asking is no Op of the hardware.
    this.ops--;
    this.machine.current = from;
    this.machine.time = nanoseconds(this.line(from.id).freeAt);
    return done;
  }

  /** Puts a call that was done at once (maskCall.ts) in the books. */
  didAtOnce({ until, ops, interrupts }: DoneAtOnce): void {
    this.latest = Math.max(this.latest, until);
    this.ops += ops;
    this.interrupts += interrupts;
  }

  private way(cpu: Cpu, op: Op): number {
    if (op.kind.ways === undefined) return 0;
    const choice = choiceOf(op);
    if (choice === null || op.kind.name !== 'mayFail') return this.random(this.machine.ways(cpu));
    const chance = this.failures[choice.name] ?? 0;
    return this.random(FAILURE_GRAIN) < chance * FAILURE_GRAIN ? 1 : 0;
  }

  /** `line` waits at `op`: has it looked at again when what it waits for may have changed. */
  private watch(line: Timeline, op: Op): void {
    const cells = waitsFor(op);
    if (line.waitsAt === op) return;
    line.waitsAt = op;
    line.waiting = cells;
    for (const cell of cells) (cell.waiters ??= new Set()).add(line.cpu.id);
    // Its own drains and interrupts bring the others back, but for Ops of unknown guards.
    if (cells.length === 0 && line.cpu.buffer.empty && op.kind.name !== 'halt')
      this.pollers.add(line);
  }

  /** A cell that `line` waits for has changed. */
  private wake(line: Timeline): void {
    const { cpu, waitsAt } = line;
    for (const cell of line.waiting) {
      cell.waiters?.delete(cpu.id);
      if (cell.waiters?.size === 0) cell.waiters = null;
    }
    line.waiting = [];
    line.waitsAt = null;
    if (this.machine.current === cpu) return;
    if (cpu.op === waitsAt && this.machine.ways(cpu) > 0)
      line.freeAt = Math.max(line.freeAt, this.now);
    this.plan(line);
  }

  private posted(from: number, to: number, vector: number): void {
    const line = this.line(to);
    if (!line.arrivals.has(vector)) line.arrivals.set(vector, this.now + this.flight(from, to));
    if (this.machine.current !== line.cpu) this.plan(line);
  }

  private applyEverywhere(): void {
    this.broadcast = false;
    for (const { id, invalidations } of this.machine.cpus)
      while (invalidations.length > 0)
        this.machine.execute(transition(TransitionKind.apply, id));
  }
}

/** Runs `machine` by a clock. @throws UsageError ERR_STUCK, ERR_COST, ERR_NONDETERMINISM */
export const runByClock = (machine: Machine, options: ClockOptions = {}): ClockRun =>
  new Clock(machine, options).run();

/**
 * Drives a machine by a clock. Every CPU has a time of its own, at which its last Op ended; an Op
 * takes effect at its end, and the CPU whose next event is earliest goes first, at equal times the
 * one with the lower number. So a run is a function of the machine, the costs and the seed.
 *
 * An interrupt is taken at the first boundary between Ops at or after its arrival, once the stores
 * before are visible; user computation, an idle loop and a wait are interrupted where they are and
 * go on afterwards. A wait ends when the store that ends it becomes visible; if at its end another
 * store has undone that, it goes on. Broadcast invalidations are applied when they are sent, or once
 * the stores that hold them up are visible, and `tlbsync` pays for the waiting. What an access walks
 * is known once it has happened: the time is added after it.
 *
 * Not modelled: that CPUs share execution units and memory bandwidth, and queue for a cache line.
 */
import FlatQueue from 'flatqueue';
import {
  assert,
  type CallQueues,
  choiceOf,
  computesFor,
  type Cpu,
  guardDeterminism,
  type LeafFunction,
  type Machine,
  type MaskCall,
  MAX_CPUS,
  nanoseconds,
  type Op,
  transition,
  TransitionKind,
  UsageError,
  waitsFor,
} from '@shootdown/machine';
import { Charges } from './charges.ts';
import { checkOptions, type ClockOptions } from './clockOptions.ts';
import { DEFAULT_COSTS } from './costs.ts';
import { type CallCosts, maskCall, type Partners } from './maskCall.ts';
import { decide, fetchesAgain } from './planning.ts';
import { random, type Random } from './random.ts';
import { orderRecords, type RecordOrder } from './records.ts';
import { stuckError } from './stuck.ts';
import { NEVER, Next, Timeline } from './timeline.ts';

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
const NONE: readonly never[] = [];

/** What a call that was done at once comes to. */
export interface DoneAtOnce {
  readonly until: number;
  readonly ops: number;
  readonly interrupts: number;
}

/** The clock of one machine. */
export class Clock {
  readonly machine: Machine;
  readonly charges: Charges;
  readonly lines: readonly Timeline[];
  /** When the run stops. */
  readonly until: number;
  /** What calls of a function cost that were done at once. */
  readonly callCosts: WeakMap<LeafFunction, CallCosts | null> = new WeakMap();
  private readonly failures: Readonly<Record<string, number>>;
  private readonly random: Random;
  private readonly queue: FlatQueue = new FlatQueue();
  /** CPUs at an Op that only its own package knows: they are asked again after every event. */
  private readonly pollers = new Set<Timeline>();
  private readonly parties = new Map<CallQueues, Partners[]>();
  private readonly order: RecordOrder | null;
  private broadcast = false;
  private ops = 0;
  private interrupts = 0;
  private now = 0;
  private latest = 0;

  /** @throws UsageError ERR_OPTION, ERR_COST */
  constructor(machine: Machine, options: ClockOptions = {}) {
    checkOptions(machine, options);
    this.machine = machine;
    this.charges = new Charges(options.costs, options.cpusPerSocket);
    this.failures = options.failures ?? {};
    this.until = options.untilNs ?? MAX_TIME;
    this.random = random(options.seed ?? 1);
    const left = new Map<Op, number>();
    this.lines = machine.cpus.map((cpu) => new Timeline(cpu, left));
    for (const planned of (options.plan ?? []).toSorted((a, b) => a.atNs - b.atNs)) {
      const move = machine.environment[planned.move];
      if (move !== undefined) this.line(move.cpu).plan.push({ ...planned, kind: move.kind });
    }
    machine.onWake = (cpus) => {
      for (const cpu of Array.from(cpus)) this.wake(this.line(cpu));
    };
    machine.onPosted = (from, to, vector, ns) => this.posted(from, to, vector, ns);
    machine.onBroadcast = () => {
      this.broadcast = true;
    };
    this.order = orderRecords(machine);
    if (options.batch !== false) machine.onMaskCall = (from, whole) => this.atOnce(from, whole);
  }

  line(cpu: number): Timeline {
    return this.lines[cpu] as Timeline;
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

  /** Nothing is queued for an earlier time. The CPU whose event happens now is not in the queue. */
  get nextEventAt(): number {
    return Math.floor(this.head() / MAX_CPUS);
  }

  /** Whether some CPU has to be asked again after every event. */
  get polls(): boolean {
    return this.pollers.size > 0;
  }

  /** Runs until nothing is left to do, or `untilNs`. */
  run(): ClockRun {
    return guardDeterminism(this.machine, () => {
      try {
        for (const line of this.lines) this.plan(line);
        for (const line of this.lines) if (this.ask(line)) this.plan(line);
        const ended = this.loop();
        const stuck = ended ? stuckError(this.machine) : null;
        if (stuck !== null) throw stuck;
        const timeNs = Math.max(this.now, this.latest);
        return { timeNs, ops: this.ops, interrupts: this.interrupts, ended };
      } finally {
        this.machine.current = null;
        this.order?.flush(NEVER, 0);
      }
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
    decide(line, this.machine, this.charges, this.now);
    if (line.blocked !== null) this.watch(line, line.blocked);
    if (queued) this.push(line);
  }

  /** Makes the next event of `line` happen. */
  private happen(line: Timeline): void {
    this.now = line.nextAt;
    this.machine.time = nanoseconds(line.nextAt);
    if (line.what === Next.step) this.step(line);
    else if (line.what === Next.drain) this.drain(line);
    else if (line.what === Next.deliver) this.deliver(line);
    else this.move(line);
    this.ask(line);
    if (this.broadcast) this.applyEverywhere();
    if (this.pollers.size > 0)
      for (const poller of this.pollers) if (poller !== line) this.plan(poller);
  }

  private step(line: Timeline): void {
    const { machine } = this;
    const { cpu, nextAt } = line;
    const { op } = cpu;
    assert(op !== null, 'a CPU that steps has an Op');
    if (fetchesAgain(line, this.charges)) return;
    if (line.takes !== null) line.takes.toucher = cpu.id;
    // A call that is done at once moves it on (maskCall.ts).
    line.freeAt = nextAt;
    const ways = machine.ways(cpu);
    if (ways === 0) {
      // What it waited for has passed again.
      line.begun = null;
      return;
    }
    if (computesFor(op) !== null) line.left.delete(op);
    if (line.watcher === op) this.unwatch(line);
    const way = ways === 1 ? 0 : this.way(op, ways);
    machine.step(cpu, way);
    this.ops++;
    line.freeAt += machine.walked * this.charges.walkStep;
    while (cpu.buffer.length > line.drains.length)
      line.drains.push(line.freeAt + this.charges.storeDrain);
  }

  private way(op: Op, ways: number): number {
    const choice = choiceOf(op);
    if (choice === null || op.kind.name !== 'mayFail') return this.random(ways);
    const chance = this.failures[choice.name] ?? 0;
    return this.random(FAILURE_GRAIN) < chance * FAILURE_GRAIN ? 1 : 0;
  }

  private drain(line: Timeline): void {
    line.drains.shift();
    line.drainedAt = line.nextAt;
    this.machine.drain(line.cpu);
  }

  /** Has all stores of `line` reach memory: for who knows that nobody looks before they would have. */
  drainAll(line: Timeline): void {
    for (let at = line.drains.shift(); at !== undefined; at = line.drains.shift()) {
      line.drainedAt = at;
      this.machine.drain(line.cpu);
    }
  }

  private deliver(line: Timeline): void {
    const { cpu } = line;
    // For the machine a vector is pending from its sending on: hide what had not arrived.
    const early =
      cpu.pending.length === 1
        ? NONE
        : cpu.pending.filter((vector) => line.arrival(vector) > line.leaveAt);
    for (const vector of early) cpu.accept(vector);
    const vector = this.machine.deliverable(cpu);
    assert(vector !== null, 'an interrupt that is taken has arrived');
    line.arrivals.delete(vector);
    line.leave();
    this.interrupts++;
    this.machine.deliver(cpu);
    for (const later of early) cpu.arrive(later);
  }

  private move(line: Timeline): void {
    const { leavesFor, plan } = line;
    assert(leavesFor !== null, 'a move that happens was planned');
    plan.splice(plan.indexOf(leavesFor), 1);
    line.leave();
    if (leavesFor.kind !== 'host') this.interrupts++;
    this.machine.execute(transition(TransitionKind.move, line.cpu.id, leavesFor.move));
  }

  /**
   * Where code asks whether a call may be done at once, the answer is there at once: stepping has no
   * Op in that place, and so no boundary and no time. Gives whether it asked.
   */
  private ask({ cpu }: Timeline): boolean {
    let asked = false;
    for (; cpu.op?.kind.name === 'maskCall'; asked = true) this.machine.step(cpu);
    return asked;
  }

  private atOnce(from: Cpu, whole: MaskCall): boolean {
    const { machine, order } = this;
    // The sink is the outside world: no code runs while it is served.
    machine.current = null;
    order?.hold(machine.time);
    machine.current = from;
    const done = maskCall(this, from, whole);
    order?.release();
    machine.current = from;
    if (done) machine.time = nanoseconds(this.line(from.id).freeAt);
    return done;
  }

  /** Puts a call that was done at once (maskCall.ts) in the books. */
  didAtOnce({ until, ops, interrupts }: DoneAtOnce): void {
    this.latest = Math.max(this.latest, until);
    this.ops += ops;
    this.interrupts += interrupts;
  }

  /** `line` waits at `op`: has it looked at again when what it waits for may have changed. */
  private watch(line: Timeline, op: Op): void {
    if (line.watcher === op) return;
    const cells = waitsFor(op);
    // Its own drains and interrupts, and broadcasts applied, bring back the machine's others.
    if (cells.length === 0 && Object.hasOwn(DEFAULT_COSTS, op.kind.name)) return;
    this.unwatch(line);
    line.watcher = op;
    line.watched = cells;
    for (const cell of cells) (cell.waiters ??= new Set()).add(line.cpu.id);
    if (cells.length === 0) this.pollers.add(line);
  }

  private unwatch(line: Timeline): void {
    for (const cell of line.watched) cell.waiters?.delete(line.cpu.id);
    line.watched = NONE;
    line.watcher = null;
    if (this.pollers.size > 0) this.pollers.delete(line);
  }

  /** A cell that `line` waits for has changed. */
  private wake(line: Timeline): void {
    this.unwatch(line);
    // Who changes it itself is planned afterwards anyway.
    if (this.machine.current !== line.cpu) this.plan(line);
  }

  private posted(from: number, to: number, vector: number, ns?: number): void {
    const line = this.line(to);
    const arrival = this.now + (ns ?? this.charges.flight(from, to));
    // Two become one, and it is there as soon as the first of them.
    line.arrivals.set(vector, Math.min(arrival, line.arrivals.get(vector) ?? NEVER));
    if (this.machine.current !== line.cpu) this.plan(line);
  }

  private applyEverywhere(): void {
    this.broadcast = false;
    for (const { id, invalidations } of this.machine.cpus) {
      const apply = transition(TransitionKind.apply, id);
      for (let [oldest] = invalidations; oldest !== undefined; [oldest] = invalidations) {
        if (!this.machine.isEnabled(apply)) break;
        this.machine.execute(apply);
        // Whoever waits until its last one is applied.
        if (oldest.from.outstanding === 0) this.plan(this.line(oldest.from.id));
      }
      // What waits for a store of its CPU is tried again after that has drained.
      this.broadcast ||= invalidations.length > 0;
    }
  }
}

/**
 * Runs `machine` by a clock.
 *
 * @throws UsageError ERR_STUCK when a CPU waits for what cannot come, ERR_COST, ERR_OPTION,
 * ERR_NONDETERMINISM
 */
export const runByClock = (machine: Machine, options: ClockOptions = {}): ClockRun =>
  new Clock(machine, options).run();

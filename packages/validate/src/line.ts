/**
 * One CPU in lockstep with its records. What a record starts is an activity: a coroutine that runs
 * until it has something to show, at a probe or by a tracepoint, and waits there for the record. An
 * interrupt's activity lies on top of the one that it interrupts.
 *
 * An activity can be taken back to its last record and run again with other values read: generators
 * cannot be cloned, so it is begun anew and given the answers that it got, up to there.
 */
import { tlbstate } from '@shootdown/arch-x86';
import {
  assert,
  type Cell,
  type Coroutine,
  type Cpu,
  type Machine,
  type Op,
  type Task,
} from '@shootdown/machine';
import type { Kernel } from '@shootdown/mmu-gather';
import type { RecordedEvent } from '@shootdown/trace';
import { Executor, takeBack } from './executor.ts';
import type { Change, Histories } from './history.ts';
import { ownAnswer, type Sighting, sightingOf } from './observe.ts';
import { Orders } from './orders.ts';
import { newPrivate, type Private, restore, save } from './privateState.ts';

/** What a CPU has to show next. */
export type Head = RecordedEvent | Sighting;

interface Activity {
  readonly name: string;
  readonly start: () => Coroutine<unknown>;
  task: Task;
  /** Where it stood when another came on top. */
  op: Op | null;
  /** The answers of all its Ops. */
  readonly log: unknown[];
  /** How many of them lie before its last record. */
  segment: number;
  /** The number of that record. */
  since: number;
  undo: Change[];
  readonly private: Private;
  readonly shown: RecordedEvent[];
  /** A locked instruction that waits for the next record: who was first is seen there. */
  held: Cell | null;
}

/** What all lines share. */
export interface Lockstep {
  readonly k: Kernel;
  readonly machine: Machine;
  readonly histories: Histories;
  readonly lines: readonly Line[];
  /** The number of the record that is being looked at. */
  seq: number;
  /** Kinds of events that the recording has: nothing else will be shown. */
  readonly recorded: ReadonlySet<string>;
}

/** More orders than this of one window are not tried. */
const MAX_ORDERS = 256;
/** More than a switch of mm shows. */
const SWITCH_STEPS = 8;

/** One CPU. */
export class Line {
  readonly cpu: Cpu;
  /** The number of its newest record, and of the one before. */
  last = -1;
  before = -1;
  /** What is to be looked at again at its next record. */
  onNext: (() => void) | null = null;
  readonly #all: Lockstep;
  readonly #activities: Activity[] = [];
  #unsettled: Change[] = [];
  readonly #orders = new Orders();
  readonly #executor: Executor;

  constructor(all: Lockstep, cpu: Cpu) {
    this.#all = all;
    this.cpu = cpu;
    this.#executor = new Executor(cpu, {
      machine: all.machine,
      histories: all.histories,
      orders: this.#orders,
      held: (cell) => this.held(cell).map((line) => () => line.advance(cell)),
      since: () => this.#top?.since ?? this.before,
      changed: (change, shared) => {
        this.#top?.undo.push(change);
        if (!shared) return;
        all.histories.note(change);
        this.#unsettled.push(change);
      },
    });
  }

  /** What it does, outermost first. */
  get doing(): readonly string[] {
    return this.#activities.map(({ name }) => name);
  }

  /** Whether it runs any code. */
  get busy(): boolean {
    return this.#activities.length > 0;
  }

  /** A record of this CPU: whatever it did before has happened by now. */
  settle(seq: number): void {
    this.before = this.last;
    this.last = seq;
    this.#settleUpTo(seq);
  }

  #settleUpTo(seq: number): void {
    if (this.#unsettled.length === 0) return;
    for (const change of this.#unsettled) change.settled = seq;
    this.#unsettled = [];
  }

  /** Begins `start`: on top of what it does, or, on the task's behalf, after it. */
  begin(
    name: string,
    level: 'task' | 'interrupt',
    irqsOn: boolean,
    start: () => Coroutine<unknown>,
  ): void {
    if (level === 'task') this.abandonAll();
    while (this.ended) this.abandon();
    const below = this.#top;
    if (below !== undefined) below.op = this.cpu.op;
    const activity: Activity = {
      name,
      start,
      task: this.cpu.idle,
      op: null,
      log: [],
      segment: 0,
      since: this.#all.seq,
      undo: [],
      private: newPrivate(),
      shown: [],
      held: null,
    };
    this.#activities.push(activity);
    this.cpu.irqsOn = irqsOn;
    this.#mark(activity);
    this.#enter(activity);
    this.#run();
  }

  /** Lets go of the innermost activity, wherever it stands. */
  abandon(): void {
    // A switch of mm is made whole: nothing finds a CPU in the middle of one.
    for (let step = 0; step < SWITCH_STEPS && this.#switching; step++) this.pass();
    if (this.#activities.pop() !== undefined) this.#resumeBelow();
  }

  /** Lets go of all of them. */
  abandonAll(): void {
    while (this.busy) this.abandon();
    this.onNext = null;
  }

  /** What it has to show next; null: it has ended, or waits for another CPU. */
  head(): Head | null {
    do {
      this.#release();
      // What was held lies before the record that is here now.
      if (this.last === this.#all.seq) this.#settleUpTo(this.last);
      this.#run();
    } while (this.#held !== null);
    const top = this.#top;
    if (top === undefined) return null;
    return top.shown[0] ?? sightingOf(this.cpu.op);
  }

  /** Whether the innermost activity has ended. */
  get ended(): boolean {
    return this.#top !== undefined && this.cpu.op === null && this.#top.shown.length === 0;
  }

  /**
   * Whether what it shows next is as `fits` wants it, in the order of the records or in another that
   * the windows allow. If in none, it stands as in the order of the records.
   */
  explain(fits: (head: Head | null) => boolean): 'first' | 'other' | null {
    if (fits(this.head())) return 'first';
    const top = this.#top;
    if (top === undefined) return null;
    this.#orders.begin();
    for (let order = 0; order < MAX_ORDERS; order++) {
      this.#again(top);
      if (fits(this.head())) {
        this.#orders.end();
        return 'other';
      }
      if (!this.#orders.next()) break;
    }
    this.#orders.end();
    this.#again(top);
    this.head();
    return null;
  }

  /** What it showed, if anything, was recorded: it goes on, from a probe with the recorded `answer`. */
  accept(answer?: unknown): void {
    const top = this.#top;
    if (top === undefined) return;
    if (top.shown.length > 0) top.shown.shift();
    else if (sightingOf(this.cpu.op) !== null) this.#answer(top, answer);
    if (top.shown.length === 0) this.#mark(top);
    this.#run();
  }

  /** What it shows was not recorded: it goes on, from a probe with what it has decided itself. */
  pass(): void {
    const head = this.head();
    this.accept(head !== null && head === sightingOf(this.cpu.op) ? ownAnswer(head) : undefined);
  }

  /** Changes a cell as code of this CPU has done, somewhere before the present record or behind it. */
  write<T>(cell: Cell<T>, value: NoInfer<T>): void {
    const { histories } = this.#all;
    const old = cell.value;
    cell.value = value;
    const cpu = this.cpu.id;
    const change: Change = { cell, cpu, old, bit: -1, settled: Infinity, undone: false };
    histories.note(change);
    this.#unsettled.push(change);
  }

  /** Reads a cell as a probe of this CPU would: every value it may have held. */
  values<T>(cell: Cell<T>, since: number): readonly T[] {
    return this.#all.histories.values(cell, since, this.cpu.id) as readonly T[];
  }

  /** CPUs that are about to increment `cell`, or may have done so: others, or this one below. */
  held(cell: Cell): readonly Line[] {
    const top = this.#top;
    return this.#all.lines.filter((line) =>
      line.#activities.some((activity) => activity.held === cell && activity !== top),
    );
  }

  /** Has this line make the increment of `cell` that it was held at. */
  advance(cell: Cell): void {
    const { cpu } = this;
    const { machine } = this.#all;
    const { current } = machine;
    const top = this.#top;
    const holder = this.#activities.find(({ held }) => held === cell);
    if (top === undefined || holder === undefined) return;
    this.#orders.outside(() => {
      if (holder === top) {
        this.#release();
        this.#run();
        return;
      }
      // An interrupt came on top of it: it goes on below, by this one step.
      const { task, op } = cpu;
      cpu.task = holder.task;
      cpu.op = holder.op;
      holder.held = null;
      if (cpu.op !== null) this.#step(holder, cpu.op);
      holder.op = cpu.op;
      cpu.task = task;
      cpu.op = op;
    });
    machine.current = current;
  }

  /** Shows a tracepoint that the code has just passed. */
  show(event: RecordedEvent): void {
    this.#top?.shown.push(event);
  }

  get #top(): Activity | undefined {
    return this.#activities.at(-1);
  }

  #enter(activity: Activity): void {
    const { cpu } = this;
    cpu.task = cpu.idle;
    cpu.op = null;
    activity.task = this.#all.machine.run(cpu.id, activity.start(), activity.name);
  }

  /** Runs until there is something to show, something to wait for, or nothing left. */
  #run(): void {
    const { cpu } = this;
    const { machine, recorded } = this.#all;
    for (;;) {
      const top = this.#top;
      if (top === undefined) return;
      const [shown] = top.shown;
      if (shown !== undefined) {
        if (recorded.has(shown.kind)) return;
        top.shown.shift();
        continue;
      }
      const { op } = cpu;
      if (op === null) return;
      const sighting = sightingOf(op);
      if (sighting !== null) {
        if (recorded.has(sighting.kind)) return;
        this.#answer(top, ownAnswer(sighting));
        continue;
      }
      if (!op.kind.ready(machine, cpu, op)) return;
      if (!this.#orders.trying && this.#waits(op)) {
        top.held = op.cell;
        return;
      }
      this.#step(top, op);
    }
  }

  #answer(top: Activity, answer: unknown): void {
    top.log.push(answer);
    this.#all.machine.answer(this.cpu, answer);
  }

  get #switching(): boolean {
    return typeof tlbstate(this.#all.k, this.cpu.id).loadedMm.value === 'symbol';
  }

  #resumeBelow(): void {
    const { cpu } = this;
    const below = this.#top;
    cpu.task = below?.task ?? cpu.idle;
    cpu.op = below?.op ?? null;
    cpu.irqsOn = true;
    if (below !== undefined) save(this.#all.k, cpu, below.private);
  }

  /** An increment of a generation, a call that is queued, a mask that is copied. */
  #waits({ kind, cell }: Op): boolean {
    if (kind.name === 'csdEnqueue' || kind.name === 'readMask') return true;
    return kind.name === 'locked' && cell !== null && this.#all.histories.watches(cell);
  }

  get #held(): Cell | null {
    return this.#top?.held ?? null;
  }

  /** The instruction that was held back is made. */
  #release(): void {
    const { op } = this.cpu;
    const top = this.#top;
    if (top === undefined || top.held === null || op === null) return;
    top.held = null;
    this.#step(top, op);
  }

  #step(top: Activity, op: Op): void {
    this.#answer(top, this.#executor.step(op));
  }

  /** From here on `activity` can be taken back. */
  #mark(activity: Activity): void {
    activity.segment = activity.log.length;
    activity.since = this.#all.seq;
    activity.undo = [];
    save(this.#all.k, this.cpu, activity.private);
  }

  /** Takes `activity` back to its last record and runs it again. */
  #again(activity: Activity): void {
    const { cpu } = this;
    const { k, machine } = this.#all;
    // It has ended meanwhile, and given way to what is below.
    assert(this.#top === activity, 'only the innermost is run again');
    takeBack(activity.undo);
    activity.undo = [];
    const answers = activity.log.splice(0);
    activity.shown.length = 0;
    activity.held = null;
    restore(k, cpu, activity.private);
    this.#enter(activity);
    for (const answer of answers.slice(0, activity.segment)) {
      activity.log.push(answer);
      machine.answer(cpu, answer);
    }
    activity.shown.length = 0;
    restore(k, cpu, activity.private);
  }
}

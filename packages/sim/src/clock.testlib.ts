/** Stories for the clock: what code notes, and when, under costs that can be told from each other. */
import {
  call,
  type Cell,
  type Coroutine,
  CpuMask,
  Machine,
  type MachineOptions,
  nop,
  waitUntil,
} from '@shootdown/machine';
import { Clock, type ClockRun } from './clock.ts';
import type { ClockOptions } from './clockOptions.ts';
import type { CostTable } from './costs.ts';

/** Nanoseconds by name; every sum of a few of them is a different number. */
export const NS = {
  nop: 3,
  load: 5,
  store: 7,
  storeDrain: 20,
  fence: 11,
  locked: 13,
  serialize: 70,
  irqFlag: 2,
  halt: 4,
  wait: 6,
  access: 8,
  walkStep: 30,
  invlpg: 90,
  invlpgb: 40,
  tlbsync: 160,
  line: 200,
  lineFar: 600,
  sendIpi: 25,
  ipiFlight: 1000,
  ipiFlightFar: 3000,
  irqEntry: 100,
  iret: 50,
  vmExit: 500,
  vmEntry: 400,
} as const;

export const COSTS: CostTable = Object.fromEntries(
  Object.entries(NS).map(([name, ns]) => [name, { ns, source: 'a test' }]),
);

/** Vectors of the stories. */
export const LOW = 0x30;
export const HIGH = 0x80;
export const NMI = 2;

/** A machine, and what its code noted when. */
export class Story {
  readonly machine: Machine;
  /** `what time`, in the order in which it was noted. */
  readonly notes: string[] = [];

  constructor(options: Partial<MachineOptions> = {}) {
    this.machine = new Machine({ cpus: 2, ...options });
  }

  /** Notes that something has happened by now. */
  note(what: string): void {
    this.notes.push(`${what} ${this.machine.time}`);
  }

  /** Has CPU `id` run `body`. */
  on(id: number, body: () => Coroutine<unknown>): this {
    this.machine.run(id, body());
    return this;
  }

  /** Answers `vector`: notes its beginning and its end, and does `body` in between. */
  answer(vector: number, name: string, body: () => Coroutine<unknown> = nothing): this {
    const { machine } = this;
    const note = (what: string): void => this.note(`${name}@${machine.current?.id} ${what}`);
    machine.onInterrupt(vector, function* () {
      note('begins');
      yield* call(body());
      note('ends');
    });
    return this;
  }

  /** Runs it by the clock under `COSTS`. */
  run(options: ClockOptions = {}): ClockRun {
    return this.clock(options).run();
  }

  clock(options: ClockOptions = {}): Clock {
    return new Clock(this.machine, { ...options, costs: { ...COSTS, ...options.costs } });
  }

  mask(...cpus: readonly number[]): CpuMask {
    return new CpuMask(this.machine.count, cpus);
  }

  /** The CPU whose code runs waits until `cell` is not 0. */
  *awaits(cell: Cell<number>): Coroutine<number> {
    return yield* waitUntil(cell, (value) => value !== 0);
  }
}

export function* nothing(): Coroutine {}

/** One Op of `NS.nop`. */
export function* oneNop(): Coroutine {
  yield* nop();
}

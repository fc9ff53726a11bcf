/**
 * Random worlds for drivers: a program per CPU, handlers, a task that moves about, calls to other
 * CPUs, and what the host does. Plain data, so that a failure can be read and shrunk. Whatever code
 * does it says in a record, so two drivers that agree on the records agree on everything.
 */
import {
  call,
  type CallFunction,
  CallQueues,
  type Cell,
  type Coroutine,
  CpuMask,
  type EnvironmentMove,
  invlpg,
  Machine,
  makePte,
  newTask,
  Pte,
  type Task,
  virtAddr,
} from '@shootdown/machine';
import fc from 'fast-check';
import type { ClockOptions } from './clockOptions.ts';
import { type CostTable, DEFAULT_COSTS } from './costs.ts';
import { does, IN_HANDLERS, IN_HOST, NAMES } from './instructions.testlib.ts';

/** One thing to do; the numbers choose among variables, CPUs and so on. */
export interface Instruction {
  readonly does: string;
  readonly a: number;
  readonly b: number;
}

export type Program = readonly Instruction[];

/** A world to be, and how it is driven. */
export interface Plan {
  readonly cpus: number;
  readonly model: 'tso' | 'sc';
  readonly axioms: { readonly deliveryDrains?: boolean; readonly returnDrains?: boolean };
  readonly costs: 'default' | 'close' | 'none';
  /** Which close costs. */
  readonly salt: number;
  readonly perSocket: number;
  readonly seed: number;
  readonly untilNs: number;
  readonly main: readonly Program[];
  readonly low: Program;
  readonly high: Program;
  readonly nmi: Program;
  readonly called: Program;
  readonly traveller: Program;
  readonly host: Program;
  readonly moves: readonly {
    readonly kind: EnvironmentMove['kind'];
    readonly cpu: number;
    readonly atNs: number;
  }[];
}

/** Vectors that the world answers, the NMI aside. */
export const VECTORS = { low: 0x30, high: 0x80, calls: 0xfb } as const;

/** A machine that knows its cells. */
export class WatchedMachine extends Machine {
  readonly cells: Cell[] = [];

  override cell<T>(name: string, value: T): Cell<T> {
    const cell = super.cell(name, value);
    this.cells.push(cell);
    return cell;
  }

  override maskCell(name: string, members: Iterable<number> = []): Cell<CpuMask> {
    const cell = super.maskCell(name, members);
    this.cells.push(cell);
    return cell;
  }
}

/** Where programs run. */
export interface World {
  readonly machine: WatchedMachine;
  readonly plan: Plan;
  readonly variables: readonly Cell<number>[];
  readonly mask: Cell<CpuMask>;
  readonly calls: CallQueues;
  readonly traveller: Task;
  /** Whom the traveller goes back to; null while it does not run. */
  cameFrom: Task | null;
  /** How many more interrupts may be sent: handlers send some too. */
  ipisLeft: number;
  readonly records: string[];
}

/** Runs `program`, saying what each instruction gave. */
export function* runProgram(world: World, program: Program, who: string): Coroutine {
  for (const { does: name, a, b } of program) {
    const value = yield* call(does(world, name, a, b));
    world.machine.emit({ kind: `${who} ${name} ${String(value)}` });
  }
}

/** The world is not there yet when its traveller is made. */
function* travel(where: () => World): Coroutine {
  for (;;) {
    const world = where();
    yield* call(runProgram(world, world.plan.traveller, 'traveller'));
    yield* call(does(world, 'goBack', 0, 0));
  }
}

const PAGE = Pte.present | Pte.write | Pte.user;

/** Builds the world of `plan`, the same every time. */
export function build(plan: Plan): World {
  const records: string[] = [];
  const machine = new WatchedMachine({
    cpus: plan.cpus,
    model: plan.model,
    axioms: plan.axioms,
    sink: (record) => records.push(JSON.stringify(record)),
    environment: plan.moves.map(({ kind, cpu }, index) => ({
      name: `${kind} ${index}`,
      cpu: cpu % plan.cpus,
      kind,
      times: 1,
      ...(kind === 'irq' ? { vector: VECTORS.high } : {}),
      ...(kind === 'host' ? { body: () => runProgram(world, plan.host, 'host') } : {}),
    })),
  });
  for (const [at, pte] of [
    [0x1000, makePte(2, PAGE)],
    [0x2000, makePte(3, PAGE)],
    [0x3000, makePte(4, PAGE)],
    [0x4000, makePte(5, PAGE)],
    [0x4008, makePte(6, PAGE)],
  ] as const)
    machine.physical.write(at, pte);
  for (const cpu of machine.cpus) cpu.root = 1;
  const world: World = {
    machine,
    plan,
    variables: ['x', 'y', 'z'].map((name) => machine.cell(name, 0)),
    mask: machine.maskCell('mask', [0]),
    calls: new CallQueues(machine, VECTORS.calls, {
      queued: ({ to }, alone) => machine.emit({ kind: `queued ${to} ${alone}` }),
      interruptEntered: () => machine.emit({ kind: 'call interrupt' }),
      left: ({ from }) => machine.emit({ kind: `called by ${from}` }),
    }),
    traveller: newTask(
      'traveller',
      null,
      travel(() => world),
    ),
    cameFrom: null,
    ipisLeft: 12,
    records,
  };
  for (const name of ['low', 'high'] as const)
    machine.onInterrupt(VECTORS[name], () => runProgram(world, plan[name], name));
  machine.onInterrupt(2, () => runProgram(world, plan.nmi, 'nmi'));
  for (const [id, program] of plan.main.entries())
    machine.run(id, runProgram(world, program, 'main'));
  return world;
}

/** A function that runs the program of the plan. */
export const called = (world: World): CallFunction<undefined> => ({
  name: 'called',
  run: () => runProgram(world, world.plan.called, 'called'),
});

/** A function that can be called at once. */
export const FLUSH: CallFunction<undefined> = {
  name: 'flush',
  *run(): Coroutine {
    yield* invlpg(virtAddr(0));
  },
  leaf: {
    ops: ['invlpg'],
    effect: (_machine, { tlb, pcid }) =>
      tlb.invalidate({ pcid, from: 0, pages: 1, stride: 0x1000, globals: true, upper: 'all' }),
  },
};

/** Costs close together, so that many things happen at one time; or none at all. */
function costsOf({ costs, salt }: Plan): CostTable {
  if (costs === 'default') return {};
  const names = Object.keys(DEFAULT_COSTS).filter((name) => name !== 'maskCall');
  const ns = (index: number): number =>
    costs === 'none' ? 0 : (index * (1 + (salt % 5)) + salt) % 4;
  return Object.fromEntries(
    names.map((name, index) => [name, { ns: ns(index), source: 'a test' }]),
  );
}

/** How to drive the world of `plan`. */
export const optionsOf = (plan: Plan): ClockOptions => ({
  costs: costsOf(plan),
  seed: plan.seed,
  cpusPerSocket: plan.perSocket,
  untilNs: plan.untilNs,
  failures: { memory: 0.5 },
  plan: plan.moves.map(({ atNs }, move) => ({ atNs, move })),
});

const instruction = (names: readonly string[]): fc.Arbitrary<Instruction> =>
  fc.record({ does: fc.constantFrom(...names), a: fc.nat(11), b: fc.nat(15) });

const program = (names: readonly string[], longest: number): fc.Arbitrary<Program> =>
  fc.array(instruction(names), { maxLength: longest, size: 'max' });

/** Worlds of two to four CPUs. */
export const plans: fc.Arbitrary<Plan> = fc.integer({ min: 2, max: 4 }).chain((cpus) =>
  fc.record({
    cpus: fc.constant(cpus),
    model: fc.constantFrom('tso', 'tso', 'sc'),
    axioms: fc.oneof(
      { weight: 3, arbitrary: fc.constant({}) },
      {
        weight: 1,
        arbitrary: fc.record({ deliveryDrains: fc.boolean(), returnDrains: fc.boolean() }),
      },
    ),
    costs: fc.constantFrom<Plan['costs'][]>('default', 'close', 'close', 'none'),
    salt: fc.nat(19),
    perSocket: fc.integer({ min: 1, max: 4 }),
    seed: fc.nat(1000),
    untilNs: fc.oneof(fc.constant(1_000_000), fc.nat(5_000)),
    main: fc
      .subarray([...NAMES], { minLength: 1 })
      .chain((names) =>
        fc.array(program(names, 12), { minLength: cpus, maxLength: cpus, size: 'max' }),
      ),
    low: program(IN_HANDLERS, 3),
    high: program(IN_HANDLERS, 3),
    nmi: program(IN_HANDLERS, 2),
    called: program(IN_HANDLERS, 2),
    traveller: program(IN_HANDLERS, 3),
    host: program(IN_HOST, 3),
    moves: fc.array(
      fc.record({
        kind: fc.constantFrom<EnvironmentMove['kind'][]>('host', 'host', 'nmi', 'irq'),
        cpu: fc.nat(3),
        atNs: fc.oneof(fc.nat(3000), fc.nat(40)),
      }),
      { maxLength: 4 },
    ),
  }),
);

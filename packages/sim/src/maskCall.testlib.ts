/**
 * Worlds full of whole-mask calls: some CPUs call others, which idle, compute, halt or wait. Each
 * world can be run with calls done at once and step by step, and the two ought to be the same.
 */
import {
  call,
  type CallFunction,
  CallQueues,
  type CallTrace,
  compute,
  type Coroutine,
  CpuMask,
  type Csd,
  everything,
  halt,
  invlpg,
  invpcidAll,
  makePte,
  nop,
  Pte,
  serialize,
  userLoad,
  virtAddr,
  waitUntil,
  writeOnce,
} from '@shootdown/machine';
import fc from 'fast-check';
import { Clock, type ClockRun } from './clock.ts';
import type { ClockOptions } from './clockOptions.ts';
import { WatchedMachine } from './programs.testlib.ts';

/** One call: after some work, to some CPUs, by number. */
export interface PlannedCall {
  readonly after: number;
  readonly targets: readonly number[];
  /** Which of `FUNCTIONS`. */
  readonly calls: number;
  /** Whether a store is on its way when it begins. */
  readonly stores: boolean;
}

/** A world of calls. */
export interface CallPlan {
  readonly cpus: number;
  readonly model: 'tso' | 'sc';
  readonly perSocket: number;
  /** Which tracepoints emit records. */
  readonly hooks: readonly (keyof CallTrace)[];
  /** What each CPU does, the first on CPU 0: it calls, or computes for so long, or something else. */
  readonly cpuDoes: readonly (readonly PlannedCall[] | number | 'halts' | 'waits' | 'looks')[];
  readonly untilNs: number;
  /** When the host takes which CPU away for a while. */
  readonly moves: readonly { readonly cpu: number; readonly atNs: number }[];
}

const VA = virtAddr(0);
const flushes: CallFunction<number>['leaf'] = {
  ops: ['invlpg'],
  effect: (_machine, { tlb, pcid }) =>
    tlb.invalidate({ pcid, from: 0, pages: 1, stride: 0x1000, globals: true, upper: 'all' }),
};

/** Functions that are what they say in `leaf`. */
export const FUNCTIONS: readonly CallFunction<number>[] = [
  { name: 'nothing', *run() {}, leaf: { ops: [] } },
  {
    name: 'flush',
    *run() {
      yield* invlpg(VA);
    },
    leaf: flushes,
  },
  {
    name: 'several',
    *run() {
      yield* nop();
      yield* serialize();
      yield* invpcidAll();
    },
    leaf: {
      ops: ['nop', 'serialize', 'invpcid'],
      effect: (_machine, { tlb }) => tlb.invalidate(everything(true)),
    },
  },
  // Costs what only the Op knows: never done at once.
  {
    name: 'computes',
    *run() {
      yield* compute(50);
    },
    leaf: { ops: ['compute'] },
  },
  {
    name: 'no leaf',
    *run() {
      yield* nop();
    },
  },
];

/** What a world came to; `told` is what the two ways of running it have to agree on. */
export interface Told {
  readonly told: {
    readonly run: ClockRun | string;
    readonly records: readonly string[];
    readonly cpus: readonly string[];
    readonly touchers: readonly string[];
    readonly allocated: number;
  };
  readonly done: number;
  readonly refused: number;
}

/** Where every CPU is, and every cell. */
function snapshot({ lines, machine }: Clock, cells: WatchedMachine['cells']): readonly string[] {
  const cpus = lines.map(
    ({ cpu, freeAt, drainedAt, drains, left, nextAt, what }) =>
      `${cpu.id} ${cpu.irqsOn} ${freeAt} ${drainedAt} ${drains.join()} ${[...left.values()].join()} ${nextAt} ${what}`,
  );
  return [...cpus, ...cells.map(({ name, toucher }) => `${name} ${toucher}`), `${machine.time}`];
}

/** Runs the world of `plan` with `functions`. */
export function runCalls(
  { cpus, model, perSocket, hooks, cpuDoes, untilNs, moves }: CallPlan,
  batch: boolean,
  functions: readonly CallFunction<number>[] = FUNCTIONS,
  changes: ClockOptions = {},
): Told {
  const records: string[] = [];
  const sink = (record: unknown): void => void records.push(JSON.stringify(record));
  const environment = moves.map(({ cpu }, index) => ({
    name: `host ${index}`,
    cpu: cpu % cpus,
    kind: 'host' as const,
    times: 1,
  }));
  const machine = new WatchedMachine({ cpus, model, frames: 16, sink, environment });
  const { cells, physical } = machine;
  for (const frame of [1, 2, 3, 4])
    physical.write(frame * 4096, makePte(frame + 1, 1 | 2 | Pte.user));
  for (const cpu of machine.cpus) cpu.root = 1;
  const emit = (hook: string) => (what?: Csd | CpuMask | number, vector?: number) => {
    let about = '';
    if (what instanceof CpuMask) about = `${what.toString()} by ${vector}`;
    else if (typeof what === 'number') about = `vector ${what}`;
    else if (what !== undefined) about = `${what.from} to ${what.to}, ${what.run?.name}`;
    machine.emit({ kind: `${hook} ${about}` });
  };
  const trace = Object.fromEntries(hooks.map((hook) => [hook, emit(hook)]));
  const calls = new CallQueues(machine, { single: 251, many: 252 }, trace);
  const x = machine.cell('x', 0);
  function* callsOthers(planned: readonly PlannedCall[]): Coroutine {
    for (const [index, { after, targets, calls: which, stores }] of planned.entries()) {
      yield* compute(after);
      if (stores) yield* writeOnce(x, index);
      const mask = new CpuMask(cpus, targets);
      const run = functions[which % functions.length];
      if (run !== undefined) yield* call(calls.callAndWait(mask, run, index));
      machine.emit({ kind: `called ${index}` });
    }
  }
  function* computes(ns: number): Coroutine {
    yield* compute(ns);
    machine.emit({ kind: 'computed' });
  }
  function* doesSomethingElse(what: 'halts' | 'waits' | 'looks'): Coroutine {
    if (what === 'halts') for (;;) yield* halt();
    if (what === 'waits') yield* waitUntil(x, (value) => value === 2);
    for (let i = 0; i < 3; i++) {
      yield* userLoad(VA);
      machine.emit({ kind: 'looked' });
      yield* compute(20_000);
    }
  }
  for (const [id, does] of cpuDoes.entries()) {
    if (typeof does === 'string') machine.run(id, doesSomethingElse(does));
    else if (typeof does !== 'number') machine.run(id, callsOthers(does));
    else if (does > 0) machine.run(id, computes(does));
  }
  const plan = moves.map(({ atNs }, move) => ({ atNs, move }));
  const clock = new Clock(machine, { cpusPerSocket: perSocket, untilNs, batch, plan, ...changes });
  const answers = { done: 0, refused: 0 };
  const ask = machine.onMaskCall;
  if (ask !== null)
    machine.onMaskCall = (from, whole) => {
      const before = [...snapshot(clock, cells), String(calls.allocated), String(records.length)];
      const done = ask(from, whole);
      answers[done ? 'done' : 'refused']++;
      const after = [...snapshot(clock, cells), String(calls.allocated), String(records.length)];
      if (!done && after.join() !== before.join())
        throw new Error(`a refusal changed ${before.join()} to ${after.join()}`);
      return done;
    };
  let run: ClockRun | string;
  try {
    run = clock.run();
  } catch (error) {
    run = String(error);
  }
  const told = {
    run,
    records,
    cpus: clock.lines.map(({ cpu, freeAt, drainedAt }) => `${cpu.id} ${freeAt} ${drainedAt}`),
    touchers: cells
      .filter(({ toucher }) => toucher !== -1)
      .map(({ name, toucher }) => `${name} ${toucher}`)
      .toSorted(),
    allocated: calls.allocated,
  };
  return { told, ...answers };
}

const HOOKS: readonly (keyof CallTrace)[] = [
  'queued',
  'sent',
  'interruptEntered',
  'interruptLeft',
  'entered',
  'left',
];

/** How long somebody works: often for so long that nobody else comes near, sometimes not at all. */
const work = fc.oneof(
  { weight: 3, arbitrary: fc.nat(60_000) },
  { weight: 1, arbitrary: fc.nat(300) },
  { weight: 1, arbitrary: fc.constant(0) },
);

const calling = (cpus: number): fc.Arbitrary<readonly PlannedCall[]> =>
  fc.array(
    fc.record({
      after: work,
      targets: fc.oneof(
        fc.constant([...Array(cpus).keys()]),
        fc.subarray([...Array(cpus).keys()]),
        fc.constant([]),
      ),
      calls: fc.nat(FUNCTIONS.length - 1),
      stores: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
    }),
    { minLength: 1, maxLength: 4 },
  );

const quiet = fc.constantFrom<CallPlan['cpuDoes'][number][]>(0, 0, 5_000_000);
const lively = fc.oneof(
  { weight: 8, arbitrary: quiet },
  { weight: 1, arbitrary: work },
  {
    weight: 1,
    arbitrary: fc.constantFrom<CallPlan['cpuDoes'][number][]>('halts', 'waits', 'looks'),
  },
);

/** Worlds of 2 to 64 CPUs, most of them idle or computing. */
export const callPlans: fc.Arbitrary<CallPlan> = fc
  .oneof(fc.integer({ min: 2, max: 6 }), fc.integer({ min: 2, max: 64 }))
  .chain((cpus) =>
    fc.record({
      cpus: fc.constant(cpus),
      model: fc.constantFrom('tso', 'sc'),
      perSocket: fc.constantFrom(1, 2, 16, 64),
      hooks: fc.oneof(fc.constant([]), fc.constant(HOOKS), fc.subarray([...HOOKS])),
      cpuDoes: fc
        .tuple(
          fc.array(calling(cpus), { minLength: 1, maxLength: 3 }),
          fc
            .constantFrom(quiet, quiet, lively)
            .chain((does) => fc.array(does, { minLength: cpus, maxLength: cpus, size: 'max' })),
          fc.nat(100),
        )
        // Callers may have any numbers.
        .map(([callers, others, turn]) => {
          const all: CallPlan['cpuDoes'][number][] = [...callers, ...others].slice(0, cpus);
          return [...all.slice(turn % cpus), ...all.slice(0, turn % cpus)];
        }),
      untilNs: fc.oneof(
        { weight: 4, arbitrary: fc.constant(10_000_000) },
        { weight: 1, arbitrary: fc.nat(100_000) },
      ),
      moves: fc.oneof(
        { weight: 3, arbitrary: fc.constant([]) },
        {
          weight: 1,
          arbitrary: fc.array(fc.record({ cpu: fc.nat(63), atNs: fc.nat(60_000) }), {
            minLength: 1,
            maxLength: 3,
          }),
        },
      ),
    }),
  );

/**
 * Whole random worlds: a program per CPU, tasks, handlers, what the environment may do, and the
 * machine they run on, as one value of plain data that fast-check can shrink.
 */
import fc from 'fast-check';
import { AXIOMS, type Axioms } from './axioms.ts';
import type { EnvironmentMove } from './environment.ts';
import {
  type Depth,
  FAMILIES,
  type Family,
  ONLY_THREADS,
  type Program,
  runProgram,
} from './instructions.testlib.ts';
import type { MachineOptions } from './machine.ts';
import { addTask, emptyWorld, runTask, VECTORS, type World } from './world.testlib.ts';

/** A world to be. */
export interface Plan {
  readonly machine: Omit<MachineOptions, 'environment'>;
  /** What the CPUs run, the first on CPU 0. */
  readonly main: readonly Program[];
  /** The second task of each CPU. */
  readonly second: readonly Program[];
  /** The task that any CPU may take. */
  readonly traveller: Program;
  /** The handlers of the two vectors, of the NMI, and of a called function. */
  readonly low: Program;
  readonly high: Program;
  readonly nmi: Program;
  readonly called: Program;
  /** What the host does while it has the vCPU. */
  readonly host: Program;
  readonly moves: readonly { readonly kind: EnvironmentMove['kind']; readonly cpu: number }[];
}

/** Builds the world of `plan`, the same every time. */
export function build(plan: Plan, depth: Depth = 'inline', checked = false): World {
  const environment = plan.moves.map(({ kind, cpu }, index): EnvironmentMove => ({
    name: `${kind} ${index}`,
    cpu: cpu % plan.machine.cpus,
    kind,
    times: 1,
    vector: kind === 'irq' ? VECTORS.high : undefined,
    body: kind === 'host' ? () => runProgram(world, plan.host, depth, 'host ') : undefined,
  }));
  const world = emptyWorld({ ...plan.machine, environment, checked });
  const { machine } = world;
  const handle = (name: keyof Pick<Plan, 'low' | 'high' | 'nmi'>, vector: number): void =>
    machine.onInterrupt(vector, () => runProgram(world, plan[name], depth, `${name} `));
  handle('low', VECTORS.low);
  handle('high', VECTORS.high);
  handle('nmi', 2);
  world.called = {
    name: 'called',
    run: (info) => runProgram(world, plan.called, depth, `called ${info} `),
  };
  for (const [id, body] of plan.second.entries())
    addTask(world, `second/${id}`, runProgram(world, body, depth, 'second '));
  addTask(world, 'traveller', runProgram(world, plan.traveller, depth, 'traveller '));
  for (const [id, body] of plan.main.entries()) runTask(world, id, runProgram(world, body, depth));
  return world;
}

/** What the programs of one world are made of: few instructions on few things meet more often. */
interface Vocabulary {
  readonly names: readonly string[];
  readonly span: number;
}

const vocabularies = (families: readonly Family[]): fc.Arbitrary<Vocabulary> =>
  fc
    .subarray([...families], { minLength: 1, maxLength: Math.min(3, families.length) })
    .chain((chosen) =>
      fc.record({
        names: fc.uniqueArray(fc.constantFrom(...chosen.flatMap((family) => FAMILIES[family])), {
          minLength: 1,
          maxLength: 4,
          size: 'max',
        }),
        span: fc.constantFrom(0, 1, 11),
      }),
    );

const program = ({ names, span }: Vocabulary, longest: number): fc.Arbitrary<Program> =>
  fc.array(fc.record({ does: fc.constantFrom(...names), a: fc.nat(span), b: fc.nat(7) }), {
    minLength: Math.floor(longest / 2),
    maxLength: longest,
    size: 'max',
  });

const moves = (cpus: number): fc.Arbitrary<Plan['moves']> =>
  fc.array(
    fc.record({
      kind: fc.constantFrom<EnvironmentMove['kind'][]>('host', 'nmi', 'irq'),
      cpu: fc.nat(cpus - 1),
    }),
    { maxLength: 2 },
  );

/** Every axiom on or off. */
const anyAxioms = fc.record(
  Object.fromEntries(Object.keys(AXIOMS).map((name) => [name, fc.boolean()])),
) as fc.Arbitrary<Partial<Axioms>>;

const machine: fc.Arbitrary<Plan['machine']> = fc.record({
  cpus: fc.integer({ min: 2, max: 3 }),
  model: fc.constantFrom('tso', 'tso', 'tso', 'sc'),
  tlb: fc.constantFrom('mayCached', 'mayCached', 'finite'),
  axioms: fc.oneof(fc.constant({}), fc.constant({}), anyAxioms),
});

const ALL = Object.keys(FAMILIES) as readonly Family[];

/** Worlds whose programs are made of some instructions of one to three of `families`. */
export const plans = (families: readonly Family[] = ALL): fc.Arbitrary<Plan> =>
  fc.tuple(machine, vocabularies(families)).chain(([options, vocabulary]) => {
    const { names, span } = vocabulary;
    const { cpus } = options;
    const short = names.filter((name) => !ONLY_THREADS.includes(name));
    const handler = program({ names: [...short, 'nop'], span }, 2);
    const perCpu = { minLength: cpus, maxLength: cpus, size: 'max' } as const;
    return fc.record({
      machine: fc.constant(options),
      main: fc.array(program(vocabulary, 8), perCpu),
      second: fc.array(program(vocabulary, 3), perCpu),
      traveller: program(vocabulary, 3),
      low: fc.oneof(handler, program({ names: ['iret', 'nop', 'irqOn', 'load'], span }, 2)),
      high: handler,
      nmi: handler,
      called: handler,
      host: program({ names: ['vcpuPark', 'store', 'load'], span }, 2),
      moves: moves(cpus),
    });
  });

/** Which of the enabled transitions to take, one number per step. */
export const picks = (longest: number): fc.Arbitrary<readonly number[]> =>
  fc.array(fc.nat(1000), { maxLength: longest, size: 'max' });

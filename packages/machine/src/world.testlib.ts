/**
 * A world is a machine small enough to be understood at a glance: a few variables, masks, page
 * tables and tasks, and everything that its code has seen so far. Random programs run in it
 * (programs.testlib.ts), and two worlds are compared by fingerprint (fingerprint.testlib.ts).
 */
import type { Cell } from './cell.ts';
import { CpuMask } from './cpuMask.ts';
import { type CallFunction, CallQueues } from './csd.ts';
import { assert } from './errors.ts';
import { Machine, type MachineOptions } from './machine.ts';
import type { Coroutine } from './op.ts';
import { makePte, Pte } from './pageTable.ts';
import { newTask, type Task } from './stack.ts';

/** A machine that knows all its cells, also those that its code has made. */
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

const { present, write, user, dirty, global, huge } = Pte;
const USER = present | write | user;

/** Frames of the page tables: two roots that share the rest, and tables that wait to be linked. */
export const FRAMES = {
  roots: [1, 2],
  level3: [3, 12],
  level2: [4, 5, 13],
  level1: [6, 7],
} as const;

/** Pages of data; 512 is where a huge page begins. */
export const DATA_FRAMES: readonly number[] = [8, 9, 10, 512];

/**
 * Where programs look: three pages of two tables, and one that is only there as part of a huge
 * page.
 */
export const ADDRESSES: readonly number[] = [0, 0x1000, 0x20_0000, 0x20_1000];

/** Entries that programs write, and what they write there: tables and pages come and go. */
export const ENTRIES: readonly { readonly at: number; readonly values: readonly number[] }[] = [
  {
    at: 0x6000,
    values: [0, makePte(8, USER), makePte(9, USER | dirty), makePte(8, USER | global)],
  },
  { at: 0x6008, values: [0, makePte(9, USER), makePte(9, present | user), makePte(8, USER)] },
  { at: 0x7000, values: [0, makePte(10, USER), makePte(8, USER | dirty), makePte(9, present)] },
  { at: 0x4000, values: [0, makePte(6, USER), makePte(7, USER), makePte(512, USER | huge)] },
  { at: 0x4008, values: [0, makePte(7, USER), makePte(6, present | user), makePte(6, USER)] },
  { at: 0x5000, values: [0, makePte(7, USER), makePte(6, USER), makePte(6, present)] },
  { at: 0x5008, values: [0, makePte(6, USER), makePte(512, USER | huge | dirty), 0] },
  { at: 0x3000, values: [0, makePte(4, USER), makePte(5, USER), makePte(13, USER)] },
  { at: 0xd000, values: [0, makePte(7, USER), makePte(6, USER), makePte(6, present)] },
  { at: 0xc000, values: [0, makePte(5, USER), makePte(4, USER), makePte(5, present | write)] },
  { at: 0x1000, values: [0, makePte(3, USER), makePte(12, USER), makePte(3, USER)] },
  { at: 0x2000, values: [0, makePte(3, USER), makePte(12, USER), makePte(12, USER)] },
];

const INITIAL: readonly (readonly [at: number, value: number])[] = [
  [0x1000, makePte(3, USER)],
  [0x2000, makePte(12, USER)],
  [0x3000, makePte(4, USER)],
  [0xc000, makePte(5, USER)],
  [0x4000, makePte(6, USER)],
  [0x4008, makePte(7, USER)],
  [0x5000, makePte(7, USER)],
  [0xd000, makePte(6, USER)],
  [0x6000, makePte(8, USER)],
  [0x6008, makePte(9, present | user)],
  [0x7000, makePte(10, USER | dirty | global)],
];

/** Vectors that the world answers; `calls` is that of the call queues. */
export const VECTORS = { low: 0x30, high: 0x80, call: 0xfb, calls: 0xfc } as const;

/** One step of a program: what it does, to what. See instructions.testlib.ts. */
export interface Instruction {
  readonly does: string;
  readonly a: number;
  readonly b: number;
}

/** The world in which programs run. */
export interface World {
  readonly machine: WatchedMachine;
  readonly variables: readonly Cell<number>[];
  readonly masks: readonly Cell<CpuMask>[];
  /** Holds a cell that code has made for others to find, or null. */
  readonly pointer: Cell<Cell<number> | null>;
  readonly calls: CallQueues;
  /** What is called. */
  called: CallFunction<number>;
  /** What the code on each CPU has seen, in its order. */
  readonly history: readonly string[][];
  /** What each CPU is doing. */
  readonly doing: (Instruction | undefined)[];
  /** The second task of each CPU, one that any CPU may take, and the first of each CPU. */
  readonly tasks: Task[];
  /** Values that no other store writes, per CPU. */
  readonly fresh: number[];
}

/** A world without programs. Its page tables are there; CPUs 0 and 1 have a root loaded each. */
export function emptyWorld(options: MachineOptions): World {
  const machine = new WatchedMachine({ frames: 1024, ...options });
  for (const [at, value] of INITIAL) machine.physical.write(at, value);
  for (const [id, root] of FRAMES.roots.entries()) {
    const cpu = machine.cpu(id);
    cpu.root = root;
    cpu.pcid = id;
    cpu.tlb.rootLoaded();
  }
  return {
    machine,
    variables: ['x', 'y', 'z'].map((name) => machine.cell(name, 0)),
    masks: ['m', 'n'].map((name) => machine.maskCell(name, [1])),
    pointer: machine.cell<Cell<number> | null>('pointer', null),
    calls: new CallQueues(machine, { single: VECTORS.call, many: VECTORS.calls }),
    called: { name: 'nothing', run: function* () {} },
    history: machine.cpus.map(() => []),
    doing: [],
    tasks: [],
    fresh: machine.cpus.map(({ id }) => 100 * (id + 1)),
  };
}

/** Has CPU `id` run `body`, as the task that programs know by its number. */
export const runTask = ({ machine, tasks }: World, id: number, body: Coroutine): void => {
  tasks.push(machine.run(id, body, `main/${id}`));
};

/** A task that waits to be switched to. */
export const addTask = ({ tasks }: World, name: string, body: Coroutine): void => {
  tasks.push(newTask(name, null, body));
};

/** The CPU whose code runs. */
export function running({ machine }: World): number {
  assert(machine.current !== null, 'a program runs on a CPU');
  return machine.current.id;
}

/** The CPUs whose bits are set in `bits`. */
export const maskOf = ({ machine }: World, bits: number): CpuMask =>
  new CpuMask(
    machine.count,
    machine.cpus.map(({ id }) => id).filter((id) => ((bits >> id) & 1) === 1),
  );

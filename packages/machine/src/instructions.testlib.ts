/**
 * What random programs are made of: an instruction is a name and two small numbers, which choose
 * among the few variables, entries, pages and CPUs of a world. Plain data, so that a failing
 * program can be read and shrunk, and run again from the start for the next schedule.
 */
import type { Cell } from './cell.ts';
import { show } from './fingerprint.testlib.ts';
import { pfn, physAddr, type PhysAddr, virtAddr, type VirtAddr } from './ids.ts';
import type { Coroutine, Op } from './op.ts';
import * as control from './ops/control.ts';
import * as interrupts from './ops/interrupts.ts';
import * as memory from './ops/memory.ts';
import * as translation from './ops/translation.ts';
import { call, type Task } from './stack.ts';
import { everything, type Invalidation, wholePcid } from './tlb.ts';
import {
  ADDRESSES,
  DATA_FRAMES,
  ENTRIES,
  FRAMES,
  type Instruction,
  maskOf,
  running,
  VECTORS,
  type World,
} from './world.testlib.ts';

type Does = (world: World, a: number, b: number) => Op | Coroutine<unknown>;

const pick = <T>(from: readonly T[], index: number): T => from[index % from.length] as T;
const variable = (world: World, a: number): Cell<number> => pick(world.variables, a);
const bit = (world: World, b: number): number => b % world.machine.count;
const address = (a: number): VirtAddr => virtAddr(pick(ADDRESSES, a));

/** A value that nobody else writes. */
function fresh(world: World): number {
  const cpu = running(world);
  const value = (world.fresh[cpu] ?? 0) + 1;
  world.fresh[cpu] = value;
  return value;
}

/** What the word of an entry becomes. */
const entry = (a: number, b: number): { at: PhysAddr; value: number } => {
  const { at, values } = pick(ENTRIES, a);
  return { at: physAddr(at), value: pick(values, b) };
};

const invalidation = (a: number, b: number): Invalidation =>
  pick<Invalidation>(
    [
      everything(b % 2 === 0),
      wholePcid(b % 3),
      { ...wholePcid(b % 3), from: pick(ADDRESSES, b), pages: 1, stride: 0x1000, upper: 'none' },
      { ...everything(true), from: 0, pages: 2, stride: 0x20_0000, upper: 'path' },
    ],
    a,
  );

const MEMORY = {
  load: (world, a) => memory.readOnce(variable(world, a)),
  store: (world, a) => memory.writeOnce(variable(world, a), fresh(world)),
  xchg: (world, a) => memory.xchg(variable(world, a), fresh(world)),
  cmpxchg: (world, a, b) => memory.cmpxchg(variable(world, a), b % 2, fresh(world)),
  fetchAdd: (world, a, b) => memory.atomicFetchAdd(variable(world, a), b % 2),
  fence: () => memory.smpMb(),
  serialize: () => interrupts.serialize(),
  nop: () => memory.nop(),
  wait: (world, a) => control.waitUntil(variable(world, a), (value) => value !== 0),
  spin: (world, a) => control.userSpin(variable(world, a), (value) => value !== 0),
  acquire: (world, a, b) =>
    memory.atomicWhen(
      variable(world, a),
      (value) => value % 2 === b % 2,
      (value) => value + 1,
    ),
  waitForTwo: (world, a, b) =>
    control.waitForAll([variable(world, a), variable(world, b)], (value) => value !== 0),
} satisfies Record<string, Does>;

const MASKS = {
  setBit: (world, a, b) => memory.setBit(pick(world.masks, a), bit(world, b)),
  clearBit: (world, a, b) => memory.clearBit(pick(world.masks, a), bit(world, b)),
  testAndSetBit: (world, a, b) => memory.testAndSetBit(pick(world.masks, a), bit(world, b)),
  testAndClearBit: (world, a, b) => memory.testAndClearBit(pick(world.masks, a), bit(world, b)),
  testBit: (world, a, b) => memory.testBit(pick(world.masks, a), bit(world, b)),
  readMask: (world, a) => memory.readMask(pick(world.masks, a)),
  loadMask: (world, a) => keepsMask(world, a),
  storeMask: (world, a, b) => memory.writeOnce(pick(world.masks, a), maskOf(world, b)),
  xchgMask: (world, a, b) => memory.xchg(pick(world.masks, a), maskOf(world, b)),
  waitForBit: (world, a, b) =>
    control.waitUntil(pick(world.masks, a), (mask) => mask.has(bit(world, b))),
} satisfies Record<string, Does>;

/** A mask that was loaded is the reader's own: what happens to the cell later is not seen in it. */
function* keepsMask(world: World, a: number): Coroutine<string> {
  const mask = yield* memory.readOnce(pick(world.masks, a));
  yield* memory.nop();
  return show(mask);
}

const MADE = {
  publish: (world) => publish(world),
  follow: (world) => follow(world),
} satisfies Record<string, Does>;

function* publish(world: World): Coroutine<Cell<number>> {
  const made = world.machine.cell('made', fresh(world));
  yield* memory.writeOnce(world.pointer, made);
  return made;
}

function* follow(world: World): Coroutine<number> {
  const made = yield* memory.readOnce(world.pointer);
  return made === null ? 0 : yield* memory.xchg(made, fresh(world));
}

const INTERRUPTS = {
  irqOff: () => interrupts.localIrqDisable(),
  irqOn: () => interrupts.localIrqEnable(),
  sendLow: (world, _a, b) => interrupts.sendIpi(maskOf(world, b), VECTORS.low),
  sendHigh: (world, _a, b) => interrupts.sendIpi(maskOf(world, b), VECTORS.high),
  sendNmi: (world, _a, b) => interrupts.sendIpi(maskOf(world, b), 2),
  armLow: (_world, a) => interrupts.armTimer(VECTORS.low, a),
  halt: () => interrupts.halt(),
  compute: (_world, a) => control.compute(a),
} satisfies Record<string, Does>;

const CALLS = {
  callAndWait: (world, a, b) =>
    world.calls.callAndWait(maskOf(world, b), world.called, 10 * fresh(world) + (a % 2)),
  post: (world, a, b) =>
    world.calls.post(maskOf(world, b), world.called, 10 * fresh(world) + (a % 2), false),
  postIf: (world, a, b) =>
    world.calls.post(maskOf(world, b), world.called, 10 * fresh(world) + 1, false, function* () {
      return (yield* memory.readOnce(variable(world, a))) !== 0;
    }),
} satisfies Record<string, Does>;

const TABLES = {
  writeEntry: (_world, a, b) => memory.writeWord(entry(a, b).at, entry(a, b).value),
  xchgEntry: (_world, a, b) => memory.xchgWord(entry(a, b).at, entry(a, b).value),
  cmpxchgEntry: (_world, a, b) => memory.cmpxchgWord(entry(a, b).at, 0, entry(a, b).value),
  readEntry: (_world, a) => memory.readWord(entry(a, 0).at),
  userLoad: (_world, a) => translation.userLoad(address(a)),
  userStore: (world, a) => translation.userStore(address(a), fresh(world)),
  userTouch: (_world, a, b) => translation.userTouch(address(a), b % 2 === 0),
  frameUsers: (_world, a) => translation.frameUsers(pfn(pick([...DATA_FRAMES, 4, 6, 7], a))),
} satisfies Record<string, Does>;

const INVALIDATIONS = {
  writeCr3: (_world, a, b) => translation.writeCr3(pfn(pick(FRAMES.roots, a)), b % 3, b % 2 === 0),
  invlpg: (_world, a) => translation.invlpg(address(a)),
  invpcidOne: (_world, a, b) => translation.invpcidOne(b % 3, address(a)),
  invpcidSingle: (_world, _a, b) => translation.invpcidSingle(b % 3),
  invpcidAll: () => translation.invpcidAll(),
  invpcidAllNonGlobals: () => translation.invpcidAllNonGlobals(),
} satisfies Record<string, Does>;

const BROADCASTS = {
  invlpgb: (_world, a, b) => translation.invlpgb(invalidation(a, b)),
  tlbsync: () => translation.tlbsync(),
  tlbi: (_world, a, b) => translation.tlbi(invalidation(a, b)),
  dsb: () => translation.dsb(),
} satisfies Record<string, Does>;

const CHOICES = {
  mayFail: () => control.mayFail('memory'),
  oneOf: (_world, a) => control.oneOf('way', (a % 3) + 1),
} satisfies Record<string, Does>;

const TASKS = {
  switchTo: (world, _a, b) => control.switchTo(taskOf(world, running(world), b)),
} satisfies Record<string, Does>;

/** The CPU's second or first task, or the one that may run anywhere. */
function taskOf({ machine, tasks }: World, cpu: number, b: number): Task {
  const index = pick([cpu, machine.count + 1 + cpu, machine.count], b);
  // Until every CPU runs, only the first task of an earlier one is known.
  return tasks[index] ?? machine.cpu(cpu).task;
}

/** Parks the vCPU; only the host does. */
const HOST = { vcpuPark: () => control.vcpuPark() } satisfies Record<string, Does>;

/** Ends a handler at once; only handlers do. */
const RETURNS = { iret: () => interrupts.iret() } satisfies Record<string, Does>;

const TABLE: Readonly<Record<string, Does>> = {
  ...MEMORY,
  ...MASKS,
  ...MADE,
  ...INTERRUPTS,
  ...CALLS,
  ...TABLES,
  ...INVALIDATIONS,
  ...BROADCASTS,
  ...CHOICES,
  ...TASKS,
  ...HOST,
  ...RETURNS,
};

const namesOf = (...groups: readonly Record<string, Does>[]): readonly string[] =>
  groups.flatMap((group) => Object.keys(group));

/** A group of instructions. */
export type Family =
  'memory' | 'masks' | 'interrupts' | 'calls' | 'tables' | 'invalidations' | 'broadcasts' | 'tasks';

/** What threads may do, in groups that have to do with each other. */
export const FAMILIES: Readonly<Record<Family, readonly string[]>> = {
  memory: namesOf(MEMORY),
  masks: namesOf(MASKS, MADE),
  interrupts: namesOf(INTERRUPTS),
  calls: namesOf(CALLS),
  tables: namesOf(TABLES),
  invalidations: namesOf(TABLES, INVALIDATIONS),
  broadcasts: namesOf(BROADCASTS, INVALIDATIONS),
  tasks: namesOf(CHOICES, TASKS),
};

/** What a handler and a called function may not do: wait for others, or for a switch back. */
export const ONLY_THREADS: readonly string[] = [
  ...namesOf(CALLS, TASKS),
  'halt',
  'wait',
  'waitForTwo',
  'waitForBit',
];

/** A program. */
export type Program = readonly Instruction[];

/** How a program is entered; it should make no difference. */
export type Depth = 'inline' | 'called' | 'nested';

const isOp = (step: Op | Coroutine<unknown>): step is Op => 'kind' in step;

function* one(step: Op | Coroutine<unknown>): Coroutine<unknown> {
  return isOp(step) ? yield* step : yield* call(step);
}

function* deep(step: Op | Coroutine<unknown>, levels: number): Coroutine<unknown> {
  return levels === 0 ? yield* one(step) : yield* call(deep(step, levels - 1));
}

function* nested(step: Op | Coroutine<unknown>, levels: number): Coroutine<unknown> {
  return levels === 0 ? yield* one(step) : yield* nested(step, levels - 1);
}

/** Runs `program`, and notes what every instruction gave in the history of the CPU it ended on. */
export function* runProgram(
  world: World,
  program: Program,
  depth: Depth = 'inline',
  name = '',
): Coroutine {
  for (const instruction of program) {
    const { does, a, b } = instruction;
    world.doing[running(world)] = instruction;
    const step = TABLE[does]?.(world, a, b);
    if (step === undefined) throw new Error(`no instruction ${does}`);
    let result: unknown;
    if (depth === 'called') result = yield* call(deep(step, 2));
    else if (depth === 'nested') result = yield* nested(step, 2);
    else result = isOp(step) ? yield* step : yield* call(step);
    world.history[running(world)]?.push(`${name}${does}=${show(result)}`);
  }
}

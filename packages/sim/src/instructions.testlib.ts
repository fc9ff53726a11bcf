/** What random programs are made of (programs.testlib.ts). */
import {
  atomicFetchAdd,
  call,
  type Cell,
  clearBit,
  compute,
  type Coroutine,
  type Cpu,
  CpuMask,
  dsb,
  everything,
  halt,
  invlpg,
  invlpgb,
  iret,
  localIrqDisable,
  localIrqEnable,
  mayFail,
  nop,
  oneOf,
  readMask,
  readOnce,
  sendIpi,
  serialize,
  setBit,
  smpMb,
  switchTo,
  testAndSetBit,
  tlbsync,
  userLoad,
  userStore,
  vcpuPark,
  virtAddr,
  waitForAll,
  waitUntil,
  writeCr3,
  writeOnce,
  xchg,
  pfn,
} from '@shootdown/machine';
import { called, FLUSH, VECTORS, type World } from './programs.testlib.ts';

type Does = (world: World, a: number, b: number) => Coroutine<unknown>;

const pick = <T>(from: readonly T[], index: number): T => from[index % from.length] as T;
const variable = ({ variables }: World, a: number): Cell<number> => pick(variables, a);
const bit = ({ machine }: World, b: number): number => b % machine.count;
const page = (a: number): ReturnType<typeof virtAddr> => virtAddr(pick([0, 0x1000, 0x5000], a));

const maskOf = ({ machine }: World, bits: number): CpuMask =>
  new CpuMask(
    machine.count,
    machine.cpus.map(({ id }) => id).filter((id) => ((bits >> id) & 1) === 1),
  );

function running({ machine }: World): Cpu {
  if (machine.current === null) throw new Error('a program runs on a CPU');
  return machine.current;
}

/** Handlers that answer each other would never end. */
function maySend(world: World): boolean {
  if (world.ipisLeft === 0) return false;
  world.ipisLeft--;
  return true;
}

const MEMORY = {
  *load(world, a) {
    return yield* readOnce(variable(world, a));
  },
  *store(world, a, b) {
    yield* writeOnce(variable(world, a), b);
  },
  *xchg(world, a, b) {
    return yield* xchg(variable(world, a), b);
  },
  *add(world, a) {
    return yield* atomicFetchAdd(variable(world, a), 1);
  },
  *fence() {
    yield* smpMb();
  },
  *serialize() {
    yield* serialize();
  },
  *nop() {
    yield* nop();
  },
  *setBit(world, _a, b) {
    yield* setBit(world.mask, bit(world, b));
  },
  *clearBit(world, _a, b) {
    yield* clearBit(world.mask, bit(world, b));
  },
  *testAndSetBit(world, _a, b) {
    return yield* testAndSetBit(world.mask, bit(world, b));
  },
  *readMask(world) {
    return yield* readMask(world.mask);
  },
} satisfies Record<string, Does>;

/** What ends a wait may be undone before it has ended. */
const WAITS = {
  *wait(world, a, b) {
    return yield* waitUntil(variable(world, a), (value) => value % 2 === b % 2);
  },
  *waitForTwo(world, a, b) {
    const cells = [variable(world, a), variable(world, a + 1)];
    yield* waitForAll(cells, (value) => value % 2 === b % 2);
  },
  *waitForBit(world, a, b) {
    yield* waitUntil(world.mask, (mask) => mask.has(bit(world, b)) === (a % 2 === 0));
  },
  *halt() {
    yield* localIrqEnable();
    yield* halt();
  },
} satisfies Record<string, Does>;

const CPU = {
  *compute(_world, a, b) {
    yield* compute(a * 40 + b);
  },
  *irqOff() {
    yield* localIrqDisable();
  },
  *irqOn() {
    yield* localIrqEnable();
  },
  *mayFail() {
    return yield* mayFail('memory');
  },
  *choose(_world, a) {
    return yield* oneOf('something', 1 + (a % 3));
  },
  *ipi(world, a, b) {
    if (!maySend(world)) return;
    yield* sendIpi(maskOf(world, b), pick([VECTORS.low, VECTORS.high, 2], a));
  },
  *userLoad(_world, a) {
    return yield* userLoad(page(a));
  },
  *userStore(_world, a, b) {
    return yield* userStore(page(a), b);
  },
  *invlpg(_world, a) {
    yield* invlpg(page(a));
  },
  *writeCr3() {
    yield* writeCr3(pfn(1), 0, true);
  },
  *broadcast(_world, a) {
    yield* invlpgb(everything(true));
    if (a % 2 === 0) yield* tlbsync();
    else yield* dsb();
  },
  *goAway(world) {
    const { task } = running(world);
    if (world.cameFrom !== null || task.contexts.some(({ kind }) => kind !== 'irq')) return;
    world.cameFrom = task;
    yield* switchTo(world.traveller);
    world.cameFrom = null;
  },
  *iret(world) {
    const context = running(world).task.contexts.at(-1);
    // A called function that does not return would never unlock its CSD.
    if (context !== undefined && context.vector !== VECTORS.calls && context.kind !== 'host')
      yield* iret();
  },
} satisfies Record<string, Does>;

const CALLS = {
  *post(world, _a, b) {
    if (!maySend(world)) return;
    yield* call(world.calls.post(maskOf(world, b), called(world), undefined, false));
  },
  *callAndWait(world, _a, b) {
    yield* call(world.calls.callAndWait(maskOf(world, b), called(world), undefined));
  },
  *flush(world, _a, b) {
    yield* call(world.calls.callAndWait(maskOf(world, b), FLUSH, undefined));
  },
} satisfies Record<string, Does>;

const ELSEWHERE = {
  *park(_world, a) {
    yield* vcpuPark(a * 50);
  },
  *goBack({ cameFrom }) {
    if (cameFrom !== null) yield* switchTo(cameFrom);
  },
} satisfies Record<string, Does>;

const ALL: Readonly<Record<string, Does>> = {
  ...MEMORY,
  ...WAITS,
  ...CPU,
  ...CALLS,
  ...ELSEWHERE,
};

/** Does the instruction of that name. */
export function does(world: World, name: string, a: number, b: number): Coroutine<unknown> {
  const found = ALL[name];
  if (found === undefined) throw new Error(`there is no instruction ${name}`);
  return found(world, a, b);
}

/** What the code of a thread does. */
export const NAMES: readonly string[] = [
  ...Object.keys(MEMORY),
  ...Object.keys(WAITS),
  ...Object.keys(CPU),
  ...Object.keys(CALLS),
].filter((name) => name !== 'iret');
/** What a handler does. It calls nobody: it may have interrupted a call that has begun. */
export const IN_HANDLERS: readonly string[] = [
  ...Object.keys(MEMORY),
  ...Object.keys(CPU),
  'wait',
  'waitForBit',
];
/** What the host does with a vCPU it has taken away. */
export const IN_HOST: readonly string[] = ['park', 'store', 'load', 'ipi'];

/**
 * What a workload is: user programs that make the kernel work, with parameters. Phases mark where
 * counting begins and ends, as a recording of the same program does.
 */
import { call, type Cell, pfn, UsageError } from '@shootdown/machine';
import {
  type Completion,
  completion,
  type Kthread,
  type MmStruct,
  newMm,
  newPage,
  startCpus,
  takeBulk,
} from '@shootdown/mmu-gather';
import type { MmKernel } from '../mm.ts';
import type { Protection } from '../mprotect.ts';
import { newProcess, type Program, type Started, type User } from '../user.ts';
import { Phases } from './phases.ts';

/** A parameter of a workload, as the command line shows it. */
export interface Parameter {
  /** `iterations` */
  readonly name: string;
  readonly help: string;
  readonly fallback: number | readonly number[];
  /** The smallest value. Default 1. */
  readonly least?: number | undefined;
  /** A number of bytes, which may be written as 20G. Default a count. */
  readonly unit?: 'bytes' | undefined;
}

/** Values of parameters: a number, or a list where the fallback is one. */
export type Values = Readonly<Record<string, number | readonly number[]>>;

/** What a workload gets. */
export interface Setting {
  readonly k: MmKernel;
  readonly phases: Phases;
  /** Threads of the main process, the main thread included, those on lazy CPUs not. */
  readonly threads: number;
  readonly values: Values;
  /** CPUs on which another process spins, and which should be left alone. */
  readonly isolated: readonly number[];
  /** CPUs on which a thread of the main process sleeps all the time: lazy TLB. */
  readonly lazyCpus: readonly number[];
  /** Set when the main program has ended. */
  readonly ended: Cell<boolean>;
}

/** What is chosen of a setting. */
export type Choice = Pick<Setting, 'threads' | 'values'> &
  Partial<Pick<Setting, 'isolated' | 'lazyCpus'>>;

/** A workload: data, with one function that sets it up. */
export interface Workload {
  readonly name: string;
  /** One line. */
  readonly title: string;
  readonly parameters: readonly Parameter[];
  /** Page frames that it needs. */
  frames(setting: Pick<Setting, 'threads' | 'values'>): number;
  /** Threads when nobody says. Default 2. */
  readonly threads?: number | undefined;
  /** NUMA nodes that it needs. Default 1. */
  readonly nodes?: number | undefined;
  /** Makes its processes; startCpus() is called afterwards. */
  setUp(setting: Setting): void;
}

/** The number of a parameter. */
export function numberOf({ values }: Pick<Setting, 'values'>, name: string): number {
  const value = values[name];
  if (typeof value === 'number') return value;
  throw new UsageError('ERR_WORKLOAD', `parameter ${name} is one number`);
}

/** The numbers of a parameter. */
export function listOf({ values }: Pick<Setting, 'values'>, name: string): readonly number[] {
  const value = values[name];
  if (typeof value === 'object') return value;
  throw new UsageError('ERR_WORKLOAD', `parameter ${name} is a list of numbers`);
}

/** Where workloads map their memory: in a 512 GiB of its own, with nothing else near. */
export const BASE = 0x1000_0000_0000;

/** PROT_READ, and PROT_READ | PROT_WRITE. */
export const RO: Protection = { read: true, write: false };
export const RW: Protection = { read: true, write: true };

/** An empty address space, before anything runs. */
export function emptyMm(k: MmKernel): MmStruct {
  const name = `mm${k.ids.mm}`;
  const root = takeFrame(k);
  newPage(k, root);
  return newMm(k, name, pfn(root));
}

/** One frame, before anything runs. */
export const takeFrame = (k: MmKernel): number => {
  const { first } = takeBulk(k, k.initMm, 0, 1);
  k.pages.bulk.pop();
  return first;
};

/** CPUs of the machine that are neither isolated nor lazy. */
const freeCpus = ({ k, isolated, lazyCpus }: Setting): readonly number[] =>
  k.machine.cpus
    .map(({ id }): number => id)
    .filter((cpu) => !isolated.includes(cpu) && !lazyCpus.includes(cpu));

/**
 * A process whose main thread starts on the last CPU that is free and pins itself to CPU 0, as a
 * program does that a shell starts wherever there is room: its first CPU stays behind in mm_cpumask,
 * lazily.
 */
export function startProgram(
  setting: Setting,
  program: Program,
  mm: MmStruct = emptyMm(setting.k),
): Started {
  const { k, ended } = setting;
  const cpu = freeCpus(setting).at(-1) ?? 0;
  return newProcess(k, { comm: 'wl', cpu, mm }, function* (user) {
    yield* call(user.pin(0));
    const sleepers = yield* call(startSleepers(setting, user));
    yield* call(program(user));
    yield* call(stopSleepers(user, sleepers));
    yield* call(user.set(ended));
  });
}

/** Threads that sleep on the lazy CPUs until the program has ended. */
interface Sleepers {
  readonly wake: Completion;
  readonly started: readonly Started[];
}

/** Long enough for a thread that has said that it is there to have fallen asleep. */
const FALL_ASLEEP_NS = 100_000;

function* startSleepers({ k, lazyCpus }: Setting, user: User): Kthread<Sleepers> {
  const wake = completion(k.machine, 'wake');
  const ready = completion(k.machine, 'asleep');
  const started: Started[] = [];
  for (const cpu of lazyCpus)
    started.push(
      yield* call(
        user.thread(cpu, function* (sleeper) {
          yield* call(sleeper.signal(ready));
          yield* call(sleeper.waitFor(wake, 1));
        }),
      ),
    );
  if (lazyCpus.length > 0) {
    yield* call(user.waitFor(ready, lazyCpus.length));
    yield* call(user.nanosleep(FALL_ASLEEP_NS));
  }
  return { wake, started };
}

function* stopSleepers(user: User, { wake, started }: Sleepers): Kthread {
  if (started.length === 0) return;
  yield* call(user.signal(wake));
  for (const sleeper of started) yield* call(user.join(sleeper));
}

/** What helpers of the main thread do: `until` ends them. */
export interface Helpers {
  readonly until: Cell<boolean>;
  readonly started: readonly Started[];
}

/**
 * Starts threads 1 to T-1, each on a CPU of its own, and waits until they are there.
 *
 * @param body What each does; it ends when `until` holds.
 */
export function* startHelpers(
  setting: Setting,
  user: User,
  body: (helper: User, until: Cell<boolean>, id: number) => Kthread,
): Kthread<Helpers> {
  const { k, threads } = setting;
  const until = k.machine.cell('stop', false);
  const ready: Completion = completion(k.machine, 'ready');
  const started: Started[] = [];
  const cpus = freeCpus(setting);
  for (let id = 1; id < threads; id++)
    started.push(
      yield* call(
        user.thread(cpus[id] ?? 0, function* (helper) {
          yield* call(helper.signal(ready));
          yield* call(body(helper, until, id));
        }),
      ),
    );
  yield* call(user.waitFor(ready, threads - 1));
  return { until, started };
}

/** Ends the helpers and waits for their ends. */
export function* stopHelpers(user: User, { until, started }: Helpers): Kthread {
  yield* call(user.set(until));
  for (const helper of started) yield* call(user.join(helper));
}

/**
 * Sets a workload up on a kernel and gives its phases, which fill when the machine runs.
 *
 * @throws UsageError ERR_WORKLOAD, ERR_CPU_RANGE, ERR_MEMORY
 */
export function setUpWorkload(k: MmKernel, workload: Workload, choice: Choice): Phases {
  const { threads, values, isolated = [], lazyCpus = [] } = choice;
  const phases = new Phases(k);
  const ended = k.machine.cell('ended', false);
  const setting: Setting = { k, phases, threads, values, isolated, lazyCpus, ended };
  checkPlaces(setting);
  for (const cpu of isolated)
    newProcess(k, { comm: 'isolated', cpu, mm: emptyMm(k) }, (user) => user.spin(ended));
  workload.setUp(setting);
  startCpus(k);
  return phases;
}

/** Every thread is pinned to a CPU of its own, and CPU 0 is the main thread's. */
function checkPlaces(setting: Setting): void {
  const { k, threads, isolated, lazyCpus } = setting;
  if (!Number.isInteger(threads) || threads < 1)
    throw new UsageError('ERR_WORKLOAD', `${threads} threads: expected a whole number from 1`);
  for (const cpu of [...isolated, ...lazyCpus]) k.machine.cpu(cpu);
  const both = isolated.filter((cpu) => lazyCpus.includes(cpu));
  if (both.length > 0)
    throw new UsageError(
      'ERR_CPU_RANGE',
      `CPU ${both[0]} is to be isolated and lazy: a lazy CPU belongs to the workload`,
    );
  if (isolated.includes(0) || lazyCpus.includes(0))
    throw new UsageError(
      'ERR_CPU_RANGE',
      'CPU 0 runs the main thread: it can be neither isolated nor lazy',
    );
  const room = freeCpus(setting).length;
  if (threads > room)
    throw new UsageError(
      'ERR_CPU_RANGE',
      `${threads} threads are pinned to a CPU each, and ${room} of the machine's ` +
        `${k.machine.count} are free for them: use fewer threads or more CPUs`,
    );
}

/** Page frames for a workload: what it maps, its page tables, and what the kernel itself takes. */
export const framesFor = (workload: Workload, choice: Choice): number => {
  const mapped = workload.frames(choice);
  return (workload.nodes ?? 1) * (mapped + Math.ceil(mapped / 128) + KERNEL_FRAMES);
};

const KERNEL_FRAMES = 4096;

/** Kernels for tests: native x86, and processes whose system calls are those of linux-mm. */
import {
  call,
  Machine,
  type MachineOptions,
  pfn,
  type TraceRecord,
  transitionKind,
  TransitionKind,
} from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import {
  composeKernel,
  currentTask,
  type Edition,
  type Kconfig,
  KERNEL_COSTS,
  type Kthread,
  type MmStruct,
  newMm,
  newPage,
  type Release,
  smpProcessorId,
  startCpus,
  takeBulk,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import { mmFunctions, type MmKernel, newProcess, type Program } from '@shootdown/linux-mm';
import { type ClockOptions, type ClockRun, runByClock, schedule } from '@shootdown/sim';
import type { X86Features, X86Functions } from './x86.ts';

/** Where tests map memory: with nothing else near. */
export const BASE = 0x1000_0000_0000;

/** What is not as usual. */
export interface TestKernelOptions {
  readonly cpus?: number;
  readonly kernel?: Release;
  readonly features?: Partial<X86Features>;
  readonly machine?: Partial<MachineOptions>;
  readonly kconfig?: Partial<Kconfig>;
  readonly backend?: TlbBackend;
  readonly editions?: readonly Edition[];
  /** Functions of this package to use instead. */
  readonly replaces?: Partial<X86Functions>;
  /** Keeps every record. */
  readonly record?: boolean;
}

/** A kernel on a machine of its own, and what it records. */
export interface TestKernel {
  readonly k: MmKernel;
  readonly records: TraceRecord[];
}

export function testKernel(options: TestKernelOptions = {}): TestKernel {
  const { cpus = 4, kernel, features, kconfig, replaces, record = false } = options;
  const records: TraceRecord[] = [];
  const sink = record ? { sink: (one: TraceRecord): unknown => records.push(one) } : {};
  const machine = new Machine({ cpus, ...sink, ...options.machine });
  const { backend = native({ features }) } = options;
  const own = replaces === undefined ? [] : [editionOf(replaces)];
  const editions = [...(options.editions ?? []), ...own];
  const functions = mmFunctions;
  return { k: composeKernel({ machine, backend, functions, kernel, kconfig, editions }), records };
}

const editionOf = (replaces: Partial<X86Functions>): Edition => ({
  name: 'mutant',
  source: 'made up by a test',
  notModelled: '',
  replaces,
});

/** An empty address space, before anything runs. */
export function emptyMm(k: MmKernel): MmStruct {
  const name = `mm${k.ids.mm}`;
  const root = freshFrame(k);
  newPage(k, root);
  return newMm(k, name, pfn(root));
}

/** A frame that was never used, before anything runs. */
export function freshFrame(k: MmKernel): number {
  const { first } = takeBulk(k, k.initMm, 0, 1);
  k.pages.bulk.pop();
  return first;
}

/** A process on `cpu` that starts with the machine. Gives its address space. */
export function startProcess(k: MmKernel, cpu: number, program: Program): MmStruct {
  const mm = emptyMm(k);
  newProcess(k, { comm: `p${cpu}`, cpu, mm }, program);
  return mm;
}

/** Starts the CPUs, and runs by the clock until everybody has ended. */
export function byClock(k: MmKernel, options: ClockOptions = {}): ClockRun {
  startCpus(k);
  return runByClock(k.machine, { costs: KERNEL_COSTS, ...options });
}

/** Kernel code on behalf of the task that runs, as in a system call. */
export function* inKernel<T>(k: MmKernel, body: () => Kthread<T>): Kthread<T> {
  const { enterFromUserMode, exitToUserMode } = k.backend;
  if (enterFromUserMode !== undefined) yield* call(enterFromUserMode(k, smpProcessorId(k)));
  // In the same step: an interrupt before it finds user mode.
  currentTask(k).inKernel = true;
  const result = yield* call(body());
  if (exitToUserMode !== undefined) yield* call(exitToUserMode(k, smpProcessorId(k)));
  currentTask(k).inKernel = false;
  return result;
}

/**
 * Runs `body` on an idle CPU, alone, and gives the Ops that it took, as `kind cell`; a store drains
 * when something waits for it.
 */
export function stepsOn(k: MmKernel, cpu: number, body: Kthread<unknown>): readonly string[] {
  const steps: string[] = [];
  k.machine.run(cpu, body);
  schedule(k.machine, {
    name: 'steps before drains',
    pick: (enabled) => {
      const step = enabled.findIndex((next) => transitionKind(next) === TransitionKind.step);
      const { op } = k.machine.cpu(cpu);
      if (step !== -1 && op !== null) steps.push(`${op.kind.name} ${op.cell?.name ?? ''}`.trim());
      return Math.max(step, 0);
    },
  });
  return steps;
}

/** What tests look for in an event of any kind. */
export interface SeenEvent {
  readonly kind: string;
  readonly name: string;
  readonly reason: number;
  readonly pages: number;
  readonly vector: number;
  readonly target: number;
  readonly targets: readonly number[];
  readonly func: string;
}

/** The event of a record. */
export const eventOf = (record: TraceRecord): SeenEvent => record.event as unknown as SeenEvent;

/** tlb_flush events as `reason:pages`, of all CPUs or of one. */
export const flushesIn = (records: readonly TraceRecord[], cpu?: number): readonly string[] =>
  records
    .filter((record) => record.event.kind === 'tlb_flush')
    .filter((record) => cpu === undefined || record.cpu === cpu)
    .map(eventOf)
    .map(({ reason, pages }) => `${reason}:${pages}`);

/** Kernels for tests: arm64, with the system calls of linux-mm, and what their CPUs are told. */
import {
  call,
  type Invalidation,
  localIrqDisable,
  localIrqEnable,
  Machine,
  type MachineOptions,
  pfn,
  type TraceRecord,
  transitionKind,
  TransitionKind,
} from '@shootdown/machine';
import {
  composeKernel,
  type Kconfig,
  KERNEL_COSTS,
  type Kthread,
  type MmStruct,
  newMm,
  newPage,
  type Release,
  startCpus,
  takeBulk,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import { mmFunctions, type MmKernel, newProcess, type Program } from '@shootdown/linux-mm';
import { type ClockRun, runByClock, schedule } from '@shootdown/sim';
import { arm64 } from './arm64.ts';

/** Where tests map memory: with nothing else near. */
export const BASE = 0x1000_0000_0000;

/** What is not as usual. */
export interface TestKernelOptions {
  readonly cpus?: number;
  readonly backend?: TlbBackend;
  readonly kernel?: Release;
  readonly kconfig?: Partial<Kconfig>;
  readonly machine?: Partial<MachineOptions>;
  readonly nodes?: number;
  readonly frames?: number;
}

/** A broadcast: from which CPU, of what. */
export interface Broadcast {
  readonly from: number;
  readonly what: Invalidation;
}

/** A kernel on a machine of its own, what it records, and what its CPUs broadcast. */
export interface TestKernel {
  readonly k: MmKernel;
  readonly records: TraceRecord[];
  readonly broadcasts: Broadcast[];
}

export function testKernel(options: TestKernelOptions = {}): TestKernel {
  const { cpus = 4, backend = arm64(), machine: hardware = {}, ...parts } = options;
  const records: TraceRecord[] = [];
  const machine = new Machine({ cpus, sink: (one) => records.push(one), ...hardware });
  const broadcasts: Broadcast[] = [];
  for (const cpu of machine.cpus) {
    const send = cpu.broadcast.bind(cpu);
    cpu.broadcast = (targets, what) => {
      broadcasts.push({ from: cpu.id, what });
      send(targets, what);
    };
  }
  const k = composeKernel({ machine, backend, functions: mmFunctions, ...parts });
  return { k, records, broadcasts };
}

/** An empty address space, before anything runs. */
export function emptyMm(k: MmKernel): MmStruct {
  const name = `mm${k.ids.mm}`;
  const { first } = takeBulk(k, k.initMm, 0, 1);
  k.pages.bulk.pop();
  newPage(k, first);
  return newMm(k, name, pfn(first));
}

/** A process on `cpu` that starts with the machine. Gives its address space. */
export function startProcess(k: MmKernel, cpu: number, program: Program): MmStruct {
  const mm = emptyMm(k);
  newProcess(k, { comm: `p${cpu}`, cpu, mm }, program);
  return mm;
}

/** Starts the CPUs, and runs by the clock until everybody has ended. */
export function byClock(k: MmKernel): ClockRun {
  startCpus(k);
  return runByClock(k.machine, { costs: KERNEL_COSTS });
}

/** Runs one program on CPU 0 to its end. */
export function runProgram(k: MmKernel, program: Program): MmStruct {
  const mm = startProcess(k, 0, program);
  byClock(k);
  return mm;
}

/** Runs `body` with interrupts off on an idle CPU, alone, to its end. */
export const runOn = (k: MmKernel, cpu: number, body: Kthread<unknown>): readonly string[] =>
  stepsOn(
    k,
    cpu,
    (function* () {
      yield* localIrqDisable();
      yield* call(body);
      yield* localIrqEnable();
    })(),
  );

/**
 * Runs `body` on an idle CPU, alone, and gives the names of the Ops that it took; a store drains and
 * a broadcast is applied when something waits for it.
 */
export function stepsOn(k: MmKernel, cpu: number, body: Kthread<unknown>): readonly string[] {
  const steps: string[] = [];
  k.machine.run(cpu, body);
  schedule(k.machine, {
    name: 'steps before drains',
    pick: (enabled) => {
      const step = enabled.findIndex((next) => transitionKind(next) === TransitionKind.step);
      const { op } = k.machine.cpu(cpu);
      if (step !== -1 && op !== null) steps.push(op.kind.name);
      return Math.max(step, 0);
    },
  });
  return steps;
}

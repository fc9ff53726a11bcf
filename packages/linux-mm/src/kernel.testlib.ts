/** Kernels for tests: native x86 unless said otherwise, run by the clock. */
import { call, Machine, type MachineOptions, type TraceRecord } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import {
  composeKernel,
  type Kconfig,
  KERNEL_COSTS,
  type Kthread,
  type Release,
  startCpus,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import { type ClockOptions, type ClockRun, runByClock } from '@shootdown/sim';
import type { MmKernel } from './mm.ts';
import { mmFunctions } from './mmFunctions.ts';
import { newProcess, type User } from './user.ts';
import { emptyMm } from './workloads/workload.ts';

/** What is not as usual. */
export interface TestKernelOptions {
  readonly cpus?: number;
  readonly kernel?: Release;
  readonly backend?: TlbBackend;
  readonly kconfig?: Partial<Kconfig>;
  readonly nodes?: number;
  readonly frames?: number;
  readonly machine?: Partial<MachineOptions>;
  /** Keeps every record. */
  readonly record?: boolean;
}

/** A kernel on a machine of its own, and what it records. */
export interface TestKernel {
  readonly k: MmKernel;
  readonly records: TraceRecord[];
}

export function testKernel(options: TestKernelOptions = {}): TestKernel {
  const { cpus = 4, backend = native(), record = false, machine: hardware = {} } = options;
  const records: TraceRecord[] = [];
  const sink = record ? (one: TraceRecord): unknown => records.push(one) : undefined;
  const machine = new Machine({ cpus, ...(sink === undefined ? {} : { sink }), ...hardware });
  const { kernel, kconfig, nodes, frames } = options;
  const k = composeKernel({
    machine,
    backend,
    functions: mmFunctions,
    kernel,
    kconfig,
    nodes,
    frames,
  });
  return { k, records };
}

/** Runs one program as a process on CPU 0, to the end of everything. */
export function runProgram(
  k: MmKernel,
  program: (user: User) => Kthread,
  options: ClockOptions = {},
): ClockRun {
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(program(user));
  });
  startCpus(k);
  return runByClock(k.machine, { ...options, costs: { ...KERNEL_COSTS, ...options.costs } });
}

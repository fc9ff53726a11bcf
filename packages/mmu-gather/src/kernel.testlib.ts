/** Kernels for tests: native x86 unless said otherwise, run by the clock. */
import { assert, call, Machine, type MachineOptions, PAGE_SIZE, pfn } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import {
  type MmFunctions,
  mmFunctions,
  type MmKernel,
  newProcess,
  type User,
} from '@shootdown/linux-mm';
import { type ClockOptions, type ClockRun, runByClock } from '@shootdown/sim';
import { composeKernel } from './compose.ts';
import type { CoreFunctions, Edition, Kernel, Kthread } from './kernel.ts';
import type { Kconfig } from './kconfig.ts';
import { KERNEL_COSTS } from './kernel/costs.ts';
import { allocPages, newPage, type Page, takeBulk } from './kernel/pageAlloc.ts';
import {
  enqueueBeforeStart,
  newTaskStruct,
  prepareToSleep,
  schedule,
  startCpus,
  type TaskStruct,
} from './kernel/sched.ts';
import { type MmStruct, newMm, type VmFlags } from './mmStruct.ts';
import type { ProbeEvent } from './probe.ts';
import type { Release } from './rules.ts';
import type { TlbBackend } from './tlb.ts';

/** Every function that an edition in a test may replace. */
export type AllFunctions = CoreFunctions & MmFunctions;

/** What is not as usual. */
export interface TestKernelOptions {
  readonly cpus?: number | undefined;
  readonly kernel?: Release | undefined;
  readonly backend?: TlbBackend | undefined;
  readonly editions?: readonly Edition<Partial<AllFunctions>>[] | undefined;
  readonly kconfig?: Partial<Kconfig> | undefined;
  readonly nodes?: number | undefined;
  readonly frames?: number | undefined;
  readonly machine?: Partial<MachineOptions> | undefined;
}

/** A kernel on a machine of its own, with all of linux-mm. */
export function testKernel(options: TestKernelOptions = {}): MmKernel {
  const { cpus = 4, backend = native(), machine: hardware = {}, ...parts } = options;
  const machine = new Machine({ cpus, ...hardware });
  return composeKernel({ machine, backend, functions: mmFunctions, ...parts });
}

/** 512 GiB of user addresses with nothing else near: what is mapped there has a PUD table alone. */
export const BASE = 0x1000_0000_0000;

/** MADV_DONTNEED, MADV_HUGEPAGE. */
export const MADV_DONTNEED = 4;
export const MADV_HUGEPAGE = 14;

/** PROT_READ | PROT_WRITE, private and anonymous. */
export const ANON: VmFlags = {
  read: true,
  write: true,
  shared: false,
  hugetlb: false,
  hugepage: false,
  pfnmap: false,
};

/** `pages` pages, in bytes. */
export const bytes = (pages: number): number => pages * PAGE_SIZE;

/** An empty address space, before anything runs. */
export function emptyMm(k: Kernel): MmStruct {
  const name = `mm${k.ids.mm}`;
  const { first } = takeBulk(k, k.initMm, 0, 1);
  k.pages.bulk.pop();
  newPage(k, first);
  return newMm(k, name, pfn(first));
}

/** Runs everything that is queued, by the clock, to the end. */
export function runAll(k: Kernel, options: ClockOptions = {}): ClockRun {
  startCpus(k);
  return runByClock(k.machine, { ...options, costs: { ...KERNEL_COSTS, ...options.costs } });
}

/** Runs one program as a process on CPU 0, to the end of everything. */
export function runProgram(
  k: MmKernel,
  program: (user: User) => Kthread,
  options: ClockOptions = {},
): ClockRun {
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, program);
  return runAll(k, options);
}

/** A task that runs `body` in the kernel and is gone then: of a thread of `mm`, or a kernel thread. */
export const kernelTask = (
  k: Kernel,
  cpu: number,
  body: (task: TaskStruct) => Kthread<unknown>,
  mm: MmStruct | null = null,
): TaskStruct =>
  newTaskStruct(k, {
    comm: `t${cpu}`,
    mm,
    cpu,
    *body(task) {
      yield* call(body(task));
      yield* call(prepareToSleep(k));
      yield* call(schedule(k));
    },
  });

/** Starts `body` as kernel code on `cpu`. */
export function onCpu(
  k: Kernel,
  cpu: number,
  body: (task: TaskStruct) => Kthread<unknown>,
  mm: MmStruct | null = null,
): void {
  enqueueBeforeStart(k, kernelTask(k, cpu, body, mm));
}

/** Runs kernel code of a thread of an empty address space on CPU 0; gives what it gives. */
export function runKernel<T>(
  k: Kernel,
  body: (mm: MmStruct) => Kthread<T>,
  options: ClockOptions = {},
): T {
  const mm = emptyMm(k);
  const results: T[] = [];
  onCpu(
    k,
    0,
    function* () {
      results.push(yield* call(body(mm)));
    },
    mm,
  );
  runAll(k, options);
  const [result] = results;
  assert(results.length === 1, 'kernel code that runs alone ends');
  return result as T;
}

/** One page, which has to be there. */
export function* somePage(k: Kernel): Kthread<Page> {
  const page = yield* call(allocPages(k, { gfp: 'GFP_KERNEL', purpose: 'test' }));
  assert(page !== null, 'the test machine has memory');
  return page;
}

/** Everything that the probe sees. */
export function probed(k: Kernel): ProbeEvent[] {
  const events: ProbeEvent[] = [];
  k.probe = (event) => events.push(event);
  return events;
}

/** A flush of a gather, as it began. */
export type FlushEvent = Extract<ProbeEvent, { kind: 'flush' | 'flushed' }>;

/** The flushes among events, as they began. */
export const flushesOf = (events: readonly ProbeEvent[]): readonly FlushEvent[] =>
  events.filter((event): event is FlushEvent => event.kind === 'flush');

/** How many events of each kind. */
export const count = (events: readonly ProbeEvent[], kind: ProbeEvent['kind']): number =>
  events.filter((event) => event.kind === kind).length;

/** An edition that replaces `functions` and nothing else. */
export const edition = (
  functions: Partial<AllFunctions>,
  name = 'mutant',
): Edition<Partial<AllFunctions>> => ({
  name,
  source: 'a test',
  notModelled: '',
  replaces: functions,
});

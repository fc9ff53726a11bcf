/**
 * A process whose threads are where a test wants them, and flushes of it that CPU 0 asks for one by
 * one: everybody goes as far as they can before the next, CPU 0 first.
 */
import {
  call,
  nanoseconds,
  PAGE_SIZE,
  transitionCpu,
  transitionKind,
  TransitionKind,
  userSpin,
} from '@shootdown/machine';
import {
  completion,
  type FlushTlbInfo,
  type Kthread,
  type MmStruct,
  startCpus,
} from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import {
  BASE,
  eventOf,
  flushesIn,
  inKernel,
  startProcess,
  testKernel,
  type TestKernelOptions,
} from './kernel.testlib.ts';

/** Who is where, beside the main thread on CPU 0. */
export interface CrowdOptions extends Omit<TestKernelOptions, 'record'> {
  /** CPUs with a thread that spins in user mode. */
  readonly spinning?: readonly number[];
  /** CPUs whose thread sleeps: lazy. */
  readonly sleeping?: readonly number[];
  /** CPUs whose thread sleeps and which run another process since. */
  readonly elsewhere?: readonly number[];
}

/** A flush: of one page, unless said otherwise. */
export interface CrowdFlush extends Partial<FlushTlbInfo> {
  readonly pages?: number;
  readonly length?: number;
  /** When. */
  readonly atNs?: number;
}

/** What a test asks; of records, those since everybody was in place. */
export interface Crowd {
  readonly k: MmKernel;
  readonly mm: () => MmStruct;
  readonly flush: (what: CrowdFlush) => void;
  /** Has CPU 0 run kernel code. */
  readonly run: (order: () => Kthread) => void;
  /** What CPU 0 has said of its flushes. */
  readonly initiator: () => readonly string[];
  /** `reason:pages` of one CPU. */
  readonly flushes: (cpu: number) => readonly string[];
  /** Targets of every interrupt that was sent. */
  readonly targets: () => readonly string[];
  /** `cpu: vector` of call-function interrupts. */
  readonly vectors: () => readonly string[];
  /** `cpu: function` of every call, also the caller's own. */
  readonly entered: () => readonly string[];
  /** Ops of CPU 0 since the flushes began. */
  readonly steps: string[];
}

/** The end of what a crowd's process could map. */
export const HIGH = 0x7fff_0000_0000;

/** Has everybody go on until nobody can. */
function settle(k: MmKernel, steps: string[]): void {
  const { machine } = k;
  for (let enabled = machine.enabled([]); enabled.length > 0; enabled = machine.enabled([])) {
    const [next] = enabled;
    if (next === undefined) return;
    const { op } = machine.cpu(0);
    if (transitionCpu(next) === 0 && transitionKind(next) === TransitionKind.step && op !== null)
      steps.push(`${op.kind.name} ${op.cell?.name ?? ''}`.trim());
    machine.execute(next);
  }
}

export function crowd(options: CrowdOptions): Crowd {
  const { spinning = [], sleeping = [], elsewhere = [] } = options;
  const { k, records } = testKernel({ ...options, record: true });
  const { machine } = k;
  const never = completion(machine, 'never');
  const forever = machine.cell('forever', false);
  const asked = machine.cell('asked', 0);
  const orders: (() => Kthread)[] = [];
  const left = new Map(elsewhere.map((cpu) => [cpu, completion(machine, `left ${cpu}`)]));
  for (const [cpu, has] of left)
    startProcess(k, cpu, function* (user) {
      yield* call(user.waitFor(has, 1));
      yield* call(user.spin(forever));
    });
  const mm = startProcess(k, 0, function* (user) {
    for (const cpu of spinning) yield* call(user.thread(cpu, (thread) => thread.spin(forever)));
    for (const cpu of [...sleeping, ...elsewhere])
      yield* call(
        user.thread(cpu, function* (thread) {
          const has = left.get(cpu);
          if (has !== undefined) yield* call(thread.signal(has));
          yield* call(thread.waitFor(never, 1));
        }),
      );
    yield* call(obey());
  });
  function* obey(): Kthread {
    for (let done = 0; ; done++) {
      yield* userSpin(asked, (count) => count > done);
      const order = orders[done];
      if (order === undefined) return;
      yield* call(inKernel(k, order));
    }
  }
  startCpus(k);
  settle(k, []);
  records.length = 0;
  const steps: string[] = [];
  function run(order: () => Kthread): void {
    orders.push(order);
    asked.value++;
    settle(k, steps);
  }
  const events = (kind: string): readonly ReturnType<typeof eventOf>[] =>
    records.filter(({ event }) => event.kind === kind).map(eventOf);
  return {
    k,
    mm: () => mm,
    steps,
    flush: ({ pages = 1, length = pages * PAGE_SIZE, atNs, ...info }) => {
      if (atNs !== undefined) machine.time = nanoseconds(atNs);
      const { start = BASE } = info;
      const plain = { mm, start, end: start + length, strideShift: 12, freedTables: false };
      run(() => k.backend.flushTlbMmRange(k, { ...plain, ...info }));
    },
    run,
    initiator: () =>
      records
        .filter(({ cpu }) => cpu === 0)
        .map(eventOf)
        .map(said),
    flushes: (cpu) => flushesIn(records, cpu),
    entered: () =>
      records
        .filter(({ event }) => event.kind === 'csd_function_entry')
        .map((record) => `${record.cpu}: ${eventOf(record).func}`),
    targets: () => events('ipi_send').map(({ targets }) => targets.join()),
    vectors: () =>
      records
        .filter(({ event }) => event.kind === 'vector_entry')
        .map((record) => `${record.cpu}: ${eventOf(record).vector}`),
  };
}

function said({ kind, name, reason, pages, target, targets }: ReturnType<typeof eventOf>): string {
  if (kind === 'tlb_flush') return `${name} ${reason}:${pages}`;
  if (kind === 'csd_queue_cpu') return `${name} ${target}`;
  if (kind === 'ipi_send') return `${name} ${targets.join()}`;
  return name;
}

/** Random programs of several processes on few CPUs, and running them under a watch. */
import fc from 'fast-check';
import { assert, call, nanoseconds, PAGE_SIZE } from '@shootdown/machine';
import { KERNEL_COSTS, type Kthread, startCpus } from '@shootdown/mmu-gather';
import type { MmKernel, User } from '@shootdown/linux-mm';
import { randomScheduler, runByClock, schedule, type Scheduler } from '@shootdown/sim';
import { BASE, startProcess, testKernel, type TestKernelOptions } from './kernel.testlib.ts';
import { type Watch, watch } from './watch.testlib.ts';

/** Pages that every process has. */
const PAGES = 3;
const MADV_DONTNEED = 4;

/** One thing that a thread does, to `count` pages from `page` on. */
export interface Action {
  readonly kind:
    'read' | 'write' | 'dontneed' | 'readonly' | 'writable' | 'remap' | 'sleep' | 'yield';
  readonly page: number;
  readonly count: number;
}

/** A thread: of which process, on which CPU. */
export interface Plan {
  readonly process: number;
  readonly cpu: number;
  readonly actions: readonly Action[];
}

/** Threads of a run; the first of a process is its main thread. */
export interface Programs {
  readonly cpus: number;
  readonly threads: readonly Plan[];
}

const BUSY: readonly Action['kind'][] = ['write', 'read', 'dontneed', 'dontneed', 'write'];
const EVERYTHING: readonly Action['kind'][] = [
  ...BUSY,
  'write',
  'readonly',
  'writable',
  'remap',
  'sleep',
  'yield',
];

const actions = (
  kinds: readonly Action['kind'][],
  maxLength: number,
): fc.Arbitrary<readonly Action[]> =>
  fc.array(
    fc.record({
      kind: fc.constantFrom(...kinds),
      page: fc.nat(PAGES - 1),
      count: fc.integer({ min: 1, max: PAGES }),
    }),
    { minLength: 1, maxLength },
  );

/** 2 to 4 threads of up to 3 processes on 2 to 4 CPUs. */
export const anyPrograms: fc.Arbitrary<Programs> = fc.integer({ min: 2, max: 4 }).chain((cpus) =>
  fc.record({
    cpus: fc.constant(cpus),
    threads: fc.array(
      fc.record({
        process: fc.constantFrom(0, 0, 0, 1, 1, 2),
        cpu: fc.nat(cpus - 1),
        actions: actions(EVERYTHING, 8),
      }),
      { minLength: 2, maxLength: 4 },
    ),
  }),
);

const thread = (
  process: number,
  cpu: number,
  kinds: readonly Action['kind'][],
  most: number,
): fc.Arbitrary<Plan> =>
  fc.record({
    process: fc.constant(process),
    cpu: fc.constant(cpu),
    actions: actions(kinds, most),
  });

/** One process with a busy thread on each of 3 CPUs: flushes that overlap. */
export const oneProcess: fc.Arbitrary<Programs> = fc.record({
  cpus: fc.constant(3),
  threads: fc.tuple(thread(0, 0, BUSY, 8), thread(0, 1, BUSY, 8), thread(0, 2, BUSY, 8)),
});

/** Two processes in turn on CPU 0, while a thread of one flushes on CPU 1. */
export const takingTurns: fc.Arbitrary<Programs> = fc.record({
  cpus: fc.constant(2),
  threads: fc.tuple(
    thread(0, 1, ['write', 'dontneed'], 10),
    thread(0, 0, ['write', 'yield', 'read', 'yield'], 12),
    thread(1, 0, ['yield'], 12),
  ),
});

function* act(user: User, seen: Watch, { kind, page, count }: Action): Kthread {
  const start = BASE + page * PAGE_SIZE;
  const length = Math.min(count, PAGES - page) * PAGE_SIZE;
  switch (kind) {
    case 'read':
    case 'write':
      for (let addr = start; addr < start + length; addr += PAGE_SIZE)
        yield* call(seen.access(user, addr, kind === 'write'));
      return;
    case 'dontneed':
      yield* call(user.madvise(start, length, MADV_DONTNEED));
      return;
    case 'readonly':
    case 'writable':
      yield* call(user.mprotect(start, length, { read: true, write: kind === 'writable' }));
      return;
    case 'remap':
      // All of it, so that its page tables go.
      yield* call(user.munmap(BASE, PAGES * PAGE_SIZE));
      yield* call(user.mmap({ addr: BASE, length: PAGES * PAGE_SIZE }));
      return;
    case 'sleep':
      yield* call(user.nanosleep(5_000));
      return;
    case 'yield':
      yield* call(user.schedYield());
  }
}

/** Sets `programs` up on a kernel. */
function setUp(k: MmKernel, { threads }: Programs, seen: Watch): void {
  const run = (plan: Plan) =>
    function* (user: User): Kthread {
      for (const each of plan.actions) yield* call(act(user, seen, each));
    };
  for (const id of new Set(threads.map((plan) => plan.process))) {
    const [main, ...others] = threads.filter((plan) => plan.process === id);
    if (main === undefined) continue;
    startProcess(k, main.cpu, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: PAGES * PAGE_SIZE }));
      yield* call(user.touch(BASE, PAGES));
      for (const other of others) yield* call(user.thread(other.cpu, run(other)));
      yield* call(run(main)(user));
    });
  }
  startCpus(k);
}

/** What came of a run. */
export interface Ran {
  readonly k: MmKernel;
  readonly seen: Watch;
}

/** A scheduler under which time passes: sleepers wake up. */
function ticking(inner: Scheduler): Scheduler {
  return {
    name: inner.name,
    pick: (enabled, machine) => {
      machine.time = nanoseconds(machine.time + 500);
      return inner.pick(enabled, machine);
    },
  };
}

/** Runs under a random schedule, on a machine that may cache whatever hardware might. */
export function runAtRandom(what: Programs, seed: number, options: TestKernelOptions = {}): Ran {
  const machine = { tlb: 'mayCached', ...options.machine } as const;
  const { k } = testKernel({ ...options, cpus: what.cpus, machine });
  const seen = watch(k);
  setUp(k, what, seen);
  const { ended } = schedule(k.machine, ticking(randomScheduler(seed)));
  assert(ended, 'programs end');
  return { k, seen };
}

/** Runs by the clock, on a machine with caches as hardware has them. */
export function runTimed(what: Programs, options: TestKernelOptions = {}): Ran {
  const { k } = testKernel({ ...options, cpus: what.cpus });
  const seen = watch(k);
  setUp(k, what, seen);
  runByClock(k.machine, { costs: KERNEL_COSTS });
  return { k, seen };
}

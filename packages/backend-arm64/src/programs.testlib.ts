/** Random programs of several processes on few CPUs, and running them under a watch. */
import fc from 'fast-check';
import {
  assert,
  call,
  nanoseconds,
  PAGE_SIZE,
  transitionKind,
  TransitionKind,
} from '@shootdown/machine';
import { KERNEL_COSTS, type Kthread, startCpus, type TlbBackend } from '@shootdown/mmu-gather';
import { Madvise, type MmKernel, type User } from '@shootdown/linux-mm';
import { random, randomScheduler, runByClock, schedule, type Scheduler } from '@shootdown/sim';
import { arm64 } from './arm64.ts';
import { BASE, startProcess, testKernel, type TestKernelOptions } from './kernel.testlib.ts';
import { type Watch, watch } from './watch.testlib.ts';

/** Pages that every process has. */
const PAGES = 3;

/** One thing that a thread does, to `count` pages from `page` on. */
export interface Action {
  readonly kind:
    | 'read'
    | 'write'
    | 'dontneed'
    | 'pageout'
    | 'readonly'
    | 'writable'
    | 'remap'
    | 'sleep'
    | 'yield';
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

const KINDS: readonly Action['kind'][] = [
  ...(['write', 'read', 'dontneed', 'dontneed', 'write', 'write'] as const),
  ...(['pageout', 'readonly', 'writable', 'remap', 'sleep', 'yield'] as const),
];

const actions: fc.Arbitrary<readonly Action[]> = fc.array(
  fc.record({
    kind: fc.constantFrom(...KINDS),
    page: fc.nat(PAGES - 1),
    count: fc.integer({ min: 1, max: PAGES }),
  }),
  { minLength: 1, maxLength: 8 },
);

/** 2 to 4 threads of up to 3 processes on 2 to 4 CPUs. */
export const anyPrograms: fc.Arbitrary<Programs> = fc.integer({ min: 2, max: 4 }).chain((cpus) =>
  fc.record({
    cpus: fc.constant(cpus),
    threads: fc.array(
      fc.record({
        process: fc.constantFrom(0, 0, 0, 1, 1, 2),
        cpu: fc.nat(cpus - 1),
        actions,
      }),
      { minLength: 2, maxLength: 4 },
    ),
  }),
);

/** Five processes that take turns on two CPUs, two threads of the first among them. */
export const takingTurns: fc.Arbitrary<Programs> = fc.record({
  cpus: fc.constant(2),
  threads: fc.tuple(
    ...[0, 0, 1, 2, 3, 4].map((process, at) =>
      fc.record({
        process: fc.constant(process),
        cpu: fc.constant(at % 2),
        actions: fc.array(
          fc.record({
            kind: fc.constantFrom('write', 'read', 'yield', 'yield', 'dontneed', 'sleep'),
            page: fc.nat(PAGES - 1),
            count: fc.constant(1),
          } as const),
          { minLength: 4, maxLength: 10 },
        ),
      }),
    ),
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
      yield* call(user.madvise(start, length, Madvise.DONTNEED));
      return;
    case 'pageout':
      yield* call(user.madvise(start, length, Madvise.PAGEOUT));
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
    const mm = startProcess(k, main.cpu, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: PAGES * PAGE_SIZE }));
      yield* call(user.touch(BASE, PAGES));
      for (const other of others) yield* call(user.thread(other.cpu, run(other)));
      yield* call(run(main)(user));
    });
    seen.mms.add(mm);
  }
  startCpus(k);
}

/** What came of a run. */
export interface Ran {
  readonly k: MmKernel;
  readonly seen: Watch;
}

/** What was found. */
export const complaints = ({ k, seen }: Ran): readonly string[] => [
  ...seen.breaches,
  ...k.warnings,
];

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

/** Any transition, but CPUs are slow to apply what is broadcast to them. */
function slowToApply(seed: number): Scheduler {
  const next = random(seed);
  return {
    name: `slow to apply(seed=${seed})`,
    pick: (enabled) => {
      const others = enabled.filter((one) => transitionKind(one) !== TransitionKind.apply);
      const other = others[next(others.length)];
      if (other === undefined || next(32) === 0) return next(enabled.length);
      return enabled.indexOf(other);
    },
  };
}

/** A kernel under a watch, which is told of what reclaim unmaps. */
function watched(options: TestKernelOptions): Ran {
  const { backend = arm64() } = options;
  let seen: Watch | undefined;
  const telling: TlbBackend = {
    ...backend,
    *batchAddPending(k, batch, mm, addr) {
      seen?.reclaims(mm, addr);
      yield* call(backend.batchAddPending(k, batch, mm, addr));
    },
  };
  const { k } = testKernel({ ...options, backend: telling });
  seen = watch(k);
  return { k, seen };
}

/** Runs under a random schedule, on a machine that may cache whatever hardware might. */
export function runAtRandom(what: Programs, seed: number, options: TestKernelOptions = {}): Ran {
  const machine = { tlb: 'mayCached', ...options.machine } as const;
  const { k, seen } = watched({ ...options, cpus: what.cpus, machine });
  setUp(k, what, seen);
  const scheduler = seed % 2 === 0 ? randomScheduler(seed) : slowToApply(seed);
  const { ended } = schedule(k.machine, ticking(scheduler));
  assert(ended, 'programs end');
  return { k, seen };
}

/** Runs by the clock, on a machine with caches as hardware has them. */
export function runTimed(what: Programs, options: TestKernelOptions = {}): Ran {
  const { k, seen } = watched({ ...options, cpus: what.cpus });
  setUp(k, what, seen);
  runByClock(k.machine, { costs: KERNEL_COSTS });
  return { k, seen };
}

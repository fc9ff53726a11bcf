/**
 * Random user programs that unmap: two threads of one process, each with memory of its own that it
 * maps and unmaps, and memory that both of them empty by MADV_DONTNEED; forks, and GUP-fast.
 */
import { call } from '@shootdown/machine';
import fc from 'fast-check';
import { type MmKernel, newProcess, type User } from '@shootdown/linux-mm';
import { randomScheduler, schedule } from '@shootdown/sim';
import type { Kthread } from './kernel.ts';
import { PMD_SIZE, PUD_SIZE } from './kernel/pgtable.ts';
import { startCpus } from './kernel/sched.ts';
import {
  type AllFunctions,
  BASE,
  bytes,
  emptyMm,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  testKernel,
} from './kernel.testlib.ts';
import type { Edition } from './kernel.ts';
import type { Mode } from './kconfigModes.testlib.ts';
import { type Under, violations } from './orderLaw.testlib.ts';
import { OrderRecorder } from './recorder.testlib.ts';
import type { TlbBackend } from './tlb.ts';

/** 2 MiB pieces of a thread's own memory, and in each of them as many pages are used. */
const CHUNKS = 3;
const PAGES = 9;

/** What a thread does next; what makes no sense at that moment is left out. */
export type Action =
  | { readonly do: 'touch' | 'unmap' | 'dontneed'; readonly chunk: number; readonly pages: number }
  | { readonly do: 'protect'; readonly chunk: number; readonly write: boolean }
  | {
      readonly do: 'unmapChunks' | 'dontneedChunks';
      readonly chunk: number;
      readonly chunks: number;
    }
  | { readonly do: 'hugepage'; readonly chunk: number }
  | { readonly do: 'shared'; readonly empty: boolean; readonly pages: number }
  | { readonly do: 'gup'; readonly shared: boolean }
  | { readonly do: 'fork'; readonly unmaps: boolean };

/** The programs of two threads, and what the schedule is drawn from. */
export interface Plan {
  readonly seed: number;
  readonly main: readonly Action[];
  readonly other: readonly Action[];
}

const chunk = fc.nat({ max: CHUNKS - 1 });
const pages = fc.integer({ min: 1, max: PAGES });

const oneAction: fc.Arbitrary<Action> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('touch' as const), chunk, pages }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom('unmap' as const, 'dontneed' as const),
      chunk,
      pages,
    }),
  },
  fc.record({ do: fc.constant('protect' as const), chunk, write: fc.boolean() }),
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('unmapChunks' as const, 'dontneedChunks' as const),
      chunk,
      chunks: fc.integer({ min: 1, max: CHUNKS }),
    }),
  },
  fc.record({ do: fc.constant('hugepage' as const), chunk }),
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('shared' as const), empty: fc.boolean(), pages }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('gup' as const), shared: fc.boolean() }),
  },
  fc.record({ do: fc.constant('fork' as const), unmaps: fc.boolean() }),
);

const actions = fc.array(oneAction, { minLength: 1, maxLength: 10 });

export const plans: fc.Arbitrary<Plan> = fc.record({
  seed: fc.integer({ min: 1, max: 1_000_000 }),
  main: actions,
  other: actions,
});

const SHARED = BASE + 8 * PUD_SIZE;

/** One thread: what it knows about its own memory, so that it gets no SIGSEGV. */
class Actor {
  private readonly user: User;
  private readonly base: number;
  /** By chunk: how many of its pages from the first on are mapped, and whether for writing. */
  private readonly mapped: { from: number; write: boolean }[];

  constructor(user: User, id: number) {
    this.user = user;
    this.base = BASE + id * PUD_SIZE;
    this.mapped = Array.from({ length: CHUNKS }, () => ({ from: 0, write: true }));
  }

  *run(script: readonly Action[]): Kthread {
    yield* call(this.user.mmap({ addr: this.base, length: CHUNKS * PMD_SIZE }));
    for (const one of script) yield* call(this.act(one));
  }

  private at(index: number): number {
    return this.base + index * PMD_SIZE;
  }

  /** How far a range of whole chunks from `first` on can go before one that is not as made. */
  private whole(first: number, chunks: number): number {
    let last = first;
    while (last < first + chunks && this.mapped[last]?.from === 0) last++;
    return last - first;
  }

  private *act(action: Action): Kthread {
    const { user } = this;
    switch (action.do) {
      case 'touch':
      case 'unmap':
      case 'dontneed':
        return yield* call(this.inChunk(action.do, action.chunk, action.pages));
      case 'protect': {
        const state = this.mapped[action.chunk];
        if (state?.from !== 0) return;
        const to = { read: true, write: action.write };
        yield* call(user.mprotect(this.at(action.chunk), PMD_SIZE, to));
        state.write = action.write;
        return;
      }
      case 'unmapChunks':
      case 'dontneedChunks': {
        const length = this.whole(action.chunk, action.chunks) * PMD_SIZE;
        const addr = this.at(action.chunk);
        if (action.do === 'dontneedChunks') {
          yield* call(user.madvise(addr, length, MADV_DONTNEED));
          return;
        }
        yield* call(this.renew(action.chunk, Math.min(CHUNKS, action.chunk + action.chunks)));
        return;
      }
      case 'hugepage':
        yield* call(this.renew(action.chunk, action.chunk + 1));
        yield* call(user.madvise(this.at(action.chunk), PMD_SIZE, MADV_HUGEPAGE));
        yield* call(user.touch(this.at(action.chunk), 1));
        return;
      case 'shared':
        if (action.empty) yield* call(user.madvise(SHARED, bytes(action.pages), MADV_DONTNEED));
        else yield* call(user.touch(SHARED, action.pages));
        return;
      case 'gup':
        yield* call(user.vmsplice(action.shared ? SHARED : this.base, PAGES));
        return;
      case 'fork': {
        const child = yield* call(user.fork((forked) => childProgram(forked, action.unmaps), 2));
        if (action.unmaps) yield* call(user.touch(SHARED, PAGES));
        yield* call(user.join(child));
      }
    }
  }

  /** Unmaps whole chunks, or what is left of them, with their tables; and maps them anew. */
  private *renew(from: number, to: number): Kthread {
    yield* call(this.user.munmap(this.at(from), (to - from) * PMD_SIZE));
    for (let index = from; index < to; index++) {
      yield* call(this.user.mmap({ addr: this.at(index), length: PMD_SIZE }));
      this.mapped[index] = { from: 0, write: true };
    }
  }

  private *inChunk(what: 'touch' | 'unmap' | 'dontneed', index: number, count: number): Kthread {
    const state = this.mapped[index];
    if (state === undefined) return;
    const addr = this.at(index) + bytes(state.from);
    if (what === 'unmap') {
      yield* call(this.user.munmap(addr, bytes(count)));
      state.from += count;
    } else if (what === 'dontneed')
      yield* call(this.user.madvise(addr, bytes(count), MADV_DONTNEED));
    else if (state.write) yield* call(this.user.touch(addr, count));
    else yield* call(this.user.read(addr, count));
  }
}

function* childProgram(user: User, unmaps: boolean): Kthread {
  yield* call(user.touch(SHARED, 3));
  if (unmaps) yield* call(user.munmap(SHARED, PMD_SIZE));
}

/** Sets a plan's process up: its main thread on CPU 0, the other one on CPU 1. */
export function setUpPlan(k: MmKernel, { main, other }: Plan): void {
  newProcess(k, { comm: 'plan', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(user.mmap({ addr: SHARED, length: PMD_SIZE }));
    const helper = yield* call(user.thread(1, (thread) => new Actor(thread, 1).run(other)));
    yield* call(new Actor(user, 0).run(main));
    yield* call(user.join(helper));
  });
}

/** What is changed to see whether the law notices. */
export interface Mutation {
  readonly editions?: readonly Edition<Partial<AllFunctions>>[];
  /** Changes the backend below where it is watched, or above. */
  readonly backend?: (backend: TlbBackend) => TlbBackend;
  /** Starts something beside the plan. */
  readonly beside?: (k: MmKernel) => void;
}

/** A judged run. */
export interface Judged {
  readonly k: MmKernel;
  readonly recorder: OrderRecorder;
  readonly broken: readonly string[];
  /** Frames that are still somebody's when all has ended, and should not be. */
  readonly lost: number;
}

/** Runs a plan in a mode, under the schedule of its seed, and judges it. */
export function judge({ backend, kernel }: Mode, plan: Plan, mutation: Mutation = {}): Judged {
  const recorder = new OrderRecorder();
  const watched = recorder.watch(backend);
  const { editions, backend: change = (same) => same } = mutation;
  const k = testKernel({ cpus: 4, kernel, backend: change(watched), editions });
  recorder.attach(k);
  setUpPlan(k, plan);
  mutation.beside?.(k);
  startCpus(k);
  schedule(k.machine, recorder.scheduler(randomScheduler(plan.seed)));
  const under: Under = { kconfig: k.kconfig, needsTableInvalidate: k.claims.needsTableInvalidate };
  const borrowed = new Set(k.percpu.map(({ idle }) => idle.activeMm));
  // init_mm's root and the zero page; root tables that idle CPUs have loaded still.
  const lost = k.pages.pages.size - 2 - Array.from(borrowed).filter((mm) => mm !== k.initMm).length;
  return { k, recorder, lost, broken: violations(recorder.events, under) };
}

/**
 * Stories about processes that map one hugetlb file: steps in a given order, each by one of them,
 * with what each step made the kernel do.
 */
import { call, ptePfn, walk } from '@shootdown/machine';
import {
  type AddressSpace,
  type Completion,
  completion,
  freePages,
  isTable,
  isWriteLocked,
  KERNEL_COSTS,
  type Kthread,
  Level,
  type MmStruct,
  type Page,
  pageOf,
  PMD_SIZE,
  type ProbeEvent,
  PUD_SIZE,
  startCpus,
  type VmFlags,
} from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import { systemCall } from './entry.ts';
import { hugetlbfsEvictInode, newHugetlbFile } from './hugetlbFile.ts';
import { testKernel, type TestKernelOptions } from './kernel.testlib.ts';
import type { MmKernel } from './mm.ts';
import { newProcess, type User } from './user.ts';
import { ANON_RW } from './vma.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

export const GIB: number = PUD_SIZE;
export const MIB2: number = PMD_SIZE;
export const SHARED: VmFlags = { ...ANON_RW, shared: true, hugetlb: true };
export const PRIVATE: VmFlags = { ...ANON_RW, hugetlb: true };

/** The PMD table that `mm` uses for `addr`; null if it has none. */
export function pmdTable(k: MmKernel, mm: MmStruct, addr: number = BASE): Page | null {
  const steps = walk(k.machine.physical, mm.pgd, k.machine.levels, addr);
  const pud = steps.find(({ level }) => level === Level.pud)?.pte ?? 0;
  return isTable(pud, Level.pud) ? pageOf(k, ptePfn(pud)) : null;
}

/** What the kernel did in one step, and since the one before. */
export interface Told {
  /** Function-call interrupts by function: how often sent, to how many CPUs in all. */
  readonly ipis: Readonly<Record<string, readonly [sends: number, interrupts: number]>>;
  /** Probe events, processes by number; `locked`: i_mmap_rwsem is held for writing. */
  readonly events: readonly string[];
  /** tlb:tlb_flush events by `reason:pages`. */
  readonly flushes: Readonly<Record<string, number>>;
  readonly faults: number;
}

/** One step of a story: who does what. */
export interface Step {
  /** The process, which is also its CPU. */
  readonly on: number;
  readonly name: string;
  readonly run: (user: User) => Kthread<unknown>;
  /** Looked at when the step is done. */
  readonly after?: () => void;
}

/** How to run a story. */
export interface RunOptions {
  readonly lingersNs?: number;
  readonly together?: readonly Step[];
}

/** Processes, a file, and what is known about both. */
export class Story {
  readonly k: MmKernel;
  readonly file: AddressSpace;
  readonly mms: readonly MmStruct[];
  /** Waits for walkers, from the beginning on. */
  waits = 0;
  private readonly before: number;
  private readonly told = new Map<string, Told>();
  private events: string[] = [];
  private last: Omit<Told, 'events'> = { ipis: {}, flushes: {}, faults: 0 };

  constructor(processes: number, options: TestKernelOptions = {}) {
    this.k = testKernel(options).k;
    this.file = newHugetlbFile(this.k, 'segment');
    this.before = freePages(this.k);
    this.mms = Array.from({ length: processes }, () => emptyMm(this.k));
    this.k.probe = (event) => {
      if (event.kind === 'sync' && event.by === 'ipi') this.waits++;
      const line = this.describe(event);
      if (line !== null) this.events.push(line);
    };
  }

  /** The address space of process `p`. */
  mm(p: number): MmStruct {
    const mm = this.mms[p];
    if (mm === undefined) throw new Error(`there is no process ${p}`);
    return mm;
  }

  /** The table of process `p`, and how many use it beyond the first; null without one. */
  sharing(p: number, addr: number = BASE): { readonly pfn: number; readonly count: number } | null {
    const table = pmdTable(this.k, this.mm(p), addr);
    return table === null ? null : { pfn: table.pfn, count: table.ptShareCount.value };
  }

  private describe(event: ProbeEvent): string | null {
    const locked = isWriteLocked(this.file.iMmapRwsem) ? ' locked' : '';
    if (event.kind === 'sync') return `sync ${event.by}${locked}`;
    if (event.kind === 'free-table') return `free ${event.table.pfn}`;
    if (event.kind === 'unhook-table') return `unhook ${event.table.pfn}${locked}`;
    if (event.kind !== 'flush' && event.kind !== 'flushed') return null;
    const { kind, mm, start, end, freedTables } = event;
    const range = end === Infinity ? 'all' : `+${start - BASE}..${end - BASE}`;
    return `${kind} p${this.mms.indexOf(mm)} ${range}${freedTables ? ' freed' : ''}${locked}`;
  }

  private snapshot(): Omit<Told, 'events'> {
    const { stats } = this.k;
    const ipis: Record<string, [number, number]> = {};
    for (const { func, sends, interrupts } of stats.ipis.values()) {
      const [s, i] = ipis[func] ?? [0, 0];
      ipis[func] = [s + sends, i + interrupts];
    }
    return { ipis, flushes: Object.fromEntries(stats.flushes), faults: stats.vmstat.pgfault };
  }

  /**
   * Runs the steps in their order, and then everything to its end. A process exits after its last
   * step, while the next step is being done, or `lingersNs` later. Steps of `together` come before
   * all others, those of one process in order, those of several at once.
   */
  run(steps: readonly Step[], options: RunOptions = {}): void {
    const { k } = this;
    const turn = completion(k.machine, 'turn');
    this.last = this.snapshot();
    for (const [p, mm] of this.mms.entries())
      newProcess(k, { comm: `p${p}`, cpu: p, mm }, (user) =>
        this.program(user, p, turn, steps, options),
      );
    startCpus(k);
    const { ended } = runByClock(k.machine, { costs: KERNEL_COSTS });
    if (!ended) throw new Error('the story did not come to its end');
  }

  private *program(
    user: User,
    p: number,
    turn: Completion,
    steps: readonly Step[],
    { lingersNs = 0, together = [] }: RunOptions,
  ): Kthread {
    for (const { run } of together.filter(({ on }) => on === p)) {
      yield* call(run(user));
      yield* call(user.signal(turn));
    }
    for (const [at, { on, name, run, after }] of steps.entries()) {
      if (on !== p) continue;
      yield* call(user.waitFor(turn, together.length + at));
      yield* call(run(user));
      this.told.set(name, this.since(this.last));
      this.last = this.snapshot();
      this.events = [];
      after?.();
      yield* call(user.signal(turn));
    }
    if (lingersNs > 0) yield* call(user.compute(lingersNs));
  }

  private since(from: Omit<Told, 'events'>): Told {
    const now = this.snapshot();
    const ipis: Record<string, [number, number]> = {};
    for (const [func, [sends, interrupts]] of Object.entries(now.ipis)) {
      const [s, i] = from.ipis[func] ?? [0, 0];
      if (sends > s) ipis[func] = [sends - s, interrupts - i];
    }
    const flushes: Record<string, number> = {};
    for (const [key, count] of Object.entries(now.flushes)) {
      const more = count - (from.flushes[key] ?? 0);
      if (more > 0) flushes[key] = more;
    }
    return { ipis, flushes, events: [...this.events], faults: now.faults - from.faults };
  }

  /** What has gone wrong: the kernel's own warnings, and frames that are lost. */
  get findings(): readonly string[] {
    const { leaked, k } = this;
    return leaked === 0 ? [...k.warnings] : [...k.warnings, `${leaked} frames are lost`];
  }

  /** What the step of that name did. */
  of(name: string): Told {
    const told = this.told.get(name);
    if (told === undefined) throw new Error(`no step '${name}' was run`);
    return told;
  }

  /** How often a step waited for walkers by interrupting all. */
  syncs(name: string): number {
    return this.of(name).events.filter((event) => event.startsWith('sync ipi')).length;
  }

  /**
   * Frames that are gone for good after the run. An idle CPU borrows the last address space that it
   * ran, with its root table: those are not counted.
   */
  private get leaked(): number {
    const { k } = this;
    const borrowed = new Set(k.percpu.map(({ idle }) => idle.activeMm ?? k.initMm));
    borrowed.delete(k.initMm);
    return this.before - freePages(k) - borrowed.size;
  }
}

/** Maps `length` bytes of the story's file at BASE. */
export const map = (
  story: Story,
  on: number,
  length: number = GIB,
  flags: VmFlags = SHARED,
): Step => ({
  on,
  name: `p${on} maps`,
  run: (user) => user.mmap({ addr: BASE, length, flags, file: story.file }),
});

/** Writes to huge page `page`. */
export const touch = (on: number, page: number, write = true): Step => ({
  on,
  name: `p${on} touches ${page}`,
  run: (user) => user.access(BASE + page * MIB2, write),
});

/** Unmaps what `map` has mapped. */
export const unmap = (on: number, length: number = GIB): Step => ({
  on,
  name: `p${on} leaves`,
  run: (user) => user.munmap(BASE, length),
});

/** The last user of the file closes it: its pages go. */
export const evict = (story: Story, on: number): Step => ({
  on,
  name: 'the file goes',
  run: (user) =>
    systemCall(user.k, { name: 'close', args: { fd: 3 } }, function* () {
      yield* call(hugetlbfsEvictInode(user.k, story.file));
      return 0;
    }),
});

/** Processes 0 to `processes` - 1 map and touch `tables` GiB, a huge page of each. */
export function allShare(story: Story, processes: number, tables = 1): readonly Step[] {
  return Array.from({ length: processes }, (_, p) => [
    map(story, p, tables * GIB),
    ...Array.from({ length: tables }, (_none, table) => touch(p, table * (GIB / MIB2))),
  ]).flat();
}

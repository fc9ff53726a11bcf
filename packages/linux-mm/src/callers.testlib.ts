/**
 * A process with company: threads of it that spin in user mode on other CPUs, and threads that sleep,
 * which leave their CPUs in lazy TLB mode. What a piece of its program made the kernel do is told.
 */
import { call, type Cell, PAGE_SIZE, Pte, pteHas, ptePfn, walk } from '@shootdown/machine';
import {
  allocPages,
  type Completion,
  completion,
  freePages,
  freeFrames,
  type Kthread,
  Level,
  type MmStruct,
  type Page,
  pageOf,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { testKernel, type TestKernelOptions, runProgram } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import type { MmKernel } from './mm.ts';
import { lostFrames } from './reclaim.testlib.ts';
import type { Program, Started, User } from './user.ts';

export const KIB4: number = PAGE_SIZE;
export const MIB2: number = 2 ** 21;
export const GIB: number = 2 ** 30;
export const RO = { read: true, write: false } as const;
export const RW = { read: true, write: true } as const;
export const NONE = { read: false, write: false } as const;

/** What the kernel did meanwhile. */
export interface Told {
  /** tlb:tlb_flush events by `reason:pages`, those of task switches left out. */
  readonly flushes: Readonly<Record<string, number>>;
  /** Function-call interrupts by CPU. */
  readonly interrupts: readonly number[];
  /** Probe events: `unhook`, `free-table`, `sync ipi`, `free-page`. */
  readonly events: readonly string[];
}

/** A kernel that is looked at: every free is checked against every TLB. */
export class Scene {
  readonly k: MmKernel;
  /** What must not be: give it to `expect`. */
  readonly wrong: string[] = [];
  readonly events: string[] = [];

  constructor(options: TestKernelOptions = {}) {
    this.k = testKernel({ kernel: '6.12.117', ...options }).k;
    this.k.probe = (event) => {
      if (event.kind === 'free-page') this.freed(event.page, false);
      if (event.kind === 'free-table') this.freed(event.table, true);
      if (event.kind === 'sync') this.events.push(`sync ${event.by}`);
      else if (event.kind !== 'unmap-page') this.events.push(event.kind);
    };
  }

  /** A CPU that is not lazy has no translation to a page that is freed, and walks through no table. */
  private freed({ pfn: frame, order }: Page, table: boolean): void {
    for (const { current, hardware } of this.k.percpu) {
      // With interrupts off it may be switching, and be lazy already.
      if (current.mm === null || (current.inKernel && !hardware.irqsOn)) continue;
      const used = table
        ? hardware.tlb.walksThrough(frame)
        : Array.from({ length: 2 ** order }, (_, n) => frame + n).some((one) =>
            hardware.tlb.translatesTo(one),
          );
      if (used)
        this.wrong.push(`${table ? 'table' : 'page'} ${frame} is used by CPU ${hardware.id}`);
    }
  }

  /** Runs a program to its end, and that of everybody. */
  run(program: Program): void {
    const { ended } = runProgram(this.k, function* (user) {
      yield* call(program(user));
    });
    if (!ended) this.wrong.push('did not end');
    this.wrong.push(...findings(this.k));
  }

  /** The same with a thread that spins on each of `spinning` and one that sleeps on each of `lazy`. */
  runBeside(
    {
      spinning = [1],
      lazy = [],
    }: { readonly spinning?: readonly number[]; lazy?: readonly number[] },
    program: Program,
  ): void {
    this.run(function* (user) {
      const company = yield* call(beginCompany(user, spinning, lazy));
      yield* call(program(user));
      yield* call(endCompany(user, company));
    });
  }

  /** What `body` makes the kernel do. */
  *during(body: Kthread<unknown>): Kthread<Told> {
    const { stats } = this.k;
    const flushes = new Map(stats.flushes);
    const interrupts = Array.from(stats.calRow);
    const from = this.events.length;
    yield* call(body);
    const more: Record<string, number> = {};
    for (const [key, count] of stats.flushes) {
      const grown = count - (flushes.get(key) ?? 0);
      if (grown > 0 && !key.startsWith('0:')) more[key] = grown;
    }
    return {
      flushes: more,
      interrupts: Array.from(stats.calRow, (count, cpu) => count - (interrupts[cpu] ?? 0)),
      events: this.events.slice(from),
    };
  }
}

/** Frames that nobody has and that are not free, and what the kernel warns of. */
export function findings(k: MmKernel): readonly string[] {
  const wrong = [...k.warnings, ...lostFrames(k).map((frame) => `frame ${frame} is lost`)];
  // Frames 0 and 1 are init_mm's root and the zero page; an idle CPU keeps the root that it ran last.
  const roots = new Set(k.percpu.map(({ current }) => current.activeMm ?? k.initMm));
  roots.delete(k.initMm);
  const all = k.pages.zones.reduce((sum, { start, end }) => sum + end - start, 0);
  const missing = all - 2 - roots.size - freePages(k);
  return missing === 0 ? wrong : [...wrong, `${missing} frames are missing`];
}

interface Company {
  readonly stop: Cell<boolean>;
  readonly wake: Completion;
  readonly started: readonly Started[];
}

/** Long enough for threads to begin to spin, or to fall asleep. */
const SETTLE_NS = 200_000;

function* beginCompany(
  user: User,
  spinning: readonly number[],
  lazy: readonly number[],
): Kthread<Company> {
  const { machine } = user.k;
  const stop = machine.cell('stop', false);
  const wake = completion(machine, 'wake');
  const started: Started[] = [];
  for (const cpu of spinning)
    started.push(yield* call(user.thread(cpu, (other) => other.spin(stop))));
  for (const cpu of lazy)
    started.push(yield* call(user.thread(cpu, (other) => other.waitFor(wake, 1))));
  yield* call(user.compute(SETTLE_NS));
  return { stop, wake, started };
}

function* endCompany(user: User, { stop, wake, started }: Company): Kthread {
  yield* call(user.set(stop));
  yield* call(user.signal(wake));
  for (const one of started) yield* call(user.join(one));
}

/** Maps `pages` pages and writes to each. */
export function* mapTouched(user: User, addr: number, pages: number): Kthread {
  yield* call(user.mmap({ addr, length: pages * PAGE_SIZE }));
  yield* call(user.touch(addr, pages));
}

/** Maps 2 MiB and has it be one huge page. */
export function* mapHuge(user: User, addr: number): Kthread {
  yield* call(user.mmap({ addr, length: MIB2 }));
  yield* call(user.madvise(addr, MIB2, Madvise.HUGEPAGE));
  yield* call(user.touch(addr, 1));
}

/** The entry of whichever level that maps `addr`; 0 if none does. A look, without a step. */
export function leafAt({ machine }: MmKernel, mm: MmStruct, addr: number): number {
  const last = walk(machine.physical, mm.pgd, machine.levels, addr).at(-1);
  const { pte = 0, level = 0 } = last ?? {};
  return level === Level.pte || pteHas(pte, Pte.huge) ? pte : 0;
}

/** How `addr` is mapped: `none`, `swap`, `zero`, `ro`, `rw`, `prot-none`, huge ones by `huge-` before it. */
export function mapping(k: MmKernel, mm: MmStruct, addr: number): string {
  const pte = leafAt(k, mm, addr);
  if (pte === 0) return 'none';
  if (!pteHas(pte, Pte.present)) return 'swap';
  if (ptePfn(pte) === ZERO_PFN) return 'zero';
  const size = pteHas(pte, Pte.huge) ? 'huge-' : '';
  if (!pteHas(pte, Pte.user)) return `${size}prot-none`;
  return pteHas(pte, Pte.write) ? `${size}rw` : `${size}ro`;
}

/** The page that is mapped at `addr`. */
export const pageAt = (k: MmKernel, mm: MmStruct, addr: number): Page =>
  pageOf(k, ptePfn(leafAt(k, mm, addr)));

/** VMAs as [start, end) relative to `base`, in pages. */
export const vmasOf = ({ vmas }: MmStruct, base: number): readonly (readonly [number, number])[] =>
  vmas.map(({ start, end }) => [(start - base) / PAGE_SIZE, (end - base) / PAGE_SIZE]);

/** Takes all frames but `left`; gives what gives them back. */
export function* takeAllBut(k: MmKernel, left: number): Kthread<() => Kthread> {
  const taken: Page[] = [];
  while (freePages(k) > left) {
    const page = yield* call(allocPages(k, { gfp: 'GFP_KERNEL', purpose: 'taken' }));
    if (page !== null) taken.push(page);
  }
  return function* () {
    for (const page of taken) yield* call(freeFrames(k, page));
  };
}

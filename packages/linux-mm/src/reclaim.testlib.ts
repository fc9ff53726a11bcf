/** What tests of reclaim and migration look at: entries, frames, and who can still use a page. */
import {
  call,
  type Cell,
  type Machine,
  PAGE_SIZE,
  Pte,
  pteHas,
  ptePfn,
  type Transition,
  walk,
} from '@shootdown/machine';
import {
  freePages,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  type Page,
  pageOf,
  pageToNid,
  startCpus,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { type ScheduledRun, schedule, type Scheduler } from '@shootdown/sim';
import { runProgram } from './kernel.testlib.ts';
import type { MmKernel } from './mm.ts';
import { newProcess, type Program, type User } from './user.ts';
import type { PhaseCounts } from './workloads/phases.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

/** What the entry for `addr` holds; 0 where there is no table for it. A look, without a step. */
export function pteAt({ machine }: Kernel, mm: MmStruct, addr: number): number {
  const last = walk(machine.physical, mm.pgd, machine.levels, addr).at(-1);
  return last?.level === Level.pte ? last.pte : 0;
}

/** The entries for `pages` pages from `start` on. */
export const ptesAt = (k: Kernel, mm: MmStruct, start: number, pages: number): readonly number[] =>
  Array.from({ length: pages }, (_, n) => pteAt(k, mm, start + n * PAGE_SIZE));

/** The page that is mapped at `addr`. */
export const mappedAt = (k: Kernel, mm: MmStruct, addr: number): Page =>
  pageOf(k, ptePfn(pteAt(k, mm, addr)));

/** tlb_flush events of a phase but those of task switches, by `reason:pages`. */
export const shootdowns = ({ flushes }: PhaseCounts): Readonly<Record<string, number>> =>
  Object.fromEntries(Object.entries(flushes).filter(([key]) => /^[1-4]:/.test(key)));

/** tlb_flush events so far, the same. */
export const flushesSoFar = ({ stats }: Kernel): Readonly<Record<string, number>> =>
  Object.fromEntries(Array.from(stats.flushes).filter(([key]) => /^[1-4]:/.test(key)));

/** Frames that are allocated and nobody's, after everything has ended. */
export function lostFrames(k: Kernel): readonly number[] {
  // An idle CPU keeps the root of the mm that it ran last.
  const roots = new Set<number>(k.percpu.map(({ current }) => current.activeMm?.pgd ?? 0));
  return Array.from(k.pages.pages.keys()).filter((frame) => frame > ZERO_PFN && !roots.has(frame));
}

/** Notes every slot of swap from now on; gives those that something refers to. */
export function watchSwap({ machine }: Kernel): () => readonly string[] {
  const slots: Cell[] = [];
  const make = machine.cell.bind(machine);
  machine.cell = (name, value) => {
    const cell = make(name, value);
    if (name.startsWith('swap_map[')) slots.push(cell);
    return cell;
  };
  return () =>
    slots.filter(({ value }) => value !== 0).map(({ name, value }) => `${name}=${String(value)}`);
}

/** CPUs that may use a translation to `page` now: in user mode, with no interrupt in between. */
const usersOf = (k: Kernel, { pfn }: Page): readonly number[] =>
  k.percpu
    .filter(({ current, hardware }) => {
      const inUserMode = current.mm !== null && !current.inKernel && hardware.contextBits === 0;
      return inUserMode && hardware.tlb.translatesTo(pfn);
    })
    .map(({ id }) => id);

/** Notes every page that is freed while a CPU may use it: give it to `expect`. */
export function watchFrees(k: Kernel): readonly string[] {
  const wrong: string[] = [];
  k.probe = (event) => {
    if (event.kind !== 'free-page') return;
    for (const cpu of usersOf(k, event.page)) wrong.push(`${event.page.pfn} is used by CPU ${cpu}`);
  };
  return wrong;
}

/** Pages that are unmapped and locked: being written out or moved. */
const unmappedPages = (k: Kernel): readonly Page[] =>
  Array.from(k.pages.pages.values()).filter(
    ({ lock, mappings }) => lock.value && mappings.value.length === 0,
  );

/**
 * A scheduler that looks on: who writes a page out owes no flush for dirty entries, and who copies a
 * page that moves owes none at all. With `strict`, for one unmapper and dirty pages, no CPU may use
 * such a page then either, whatever the kernel believes.
 */
export function watching(k: Kernel, inner: Scheduler, wrong: string[], strict: boolean): Scheduler {
  const look = (): void => {
    for (const { current, hardware } of k.percpu) {
      const step = hardware.op?.kind.name;
      const moves = step === 'copyPage' && current.syscall === 'mbind';
      if (step !== 'swapOut' && !moves) continue;
      const { flushRequired = false, writable = false } = current.tlbUbc ?? {};
      if (moves ? flushRequired : writable) wrong.push(`${step} before what it owes`);
      if (!strict) continue;
      for (const page of unmappedPages(k))
        for (const cpu of usersOf(k, page))
          wrong.push(`${step}: ${page.pfn} is used by CPU ${cpu}`);
    }
  };
  return {
    name: inner.name,
    pick(enabled: readonly Transition[], machine: Machine) {
      look();
      return inner.pick(enabled, machine);
    },
  };
}

/** Frames that are free and frames that have a struct page: all that there are, at any time. */
const accounted = (k: Kernel): number => freePages(k) + k.pages.pages.size;

/** Runs to the end under a scheduler; gives what was seen that must not be. */
export function runWatched(k: Kernel, scheduler: Scheduler, strict = false): readonly string[] {
  const wrong: string[] = [];
  const all = accounted(k);
  const frees = watchFrees(k);
  const slots = watchSwap(k);
  const run: ScheduledRun = schedule(k.machine, watching(k, scheduler, wrong, strict));
  if (!run.ended) wrong.push('did not end');
  if (accounted(k) !== all) wrong.push(`${accounted(k) - all} frames were freed twice`);
  const lost = lostFrames(k).map((frame) => `frame ${frame} is lost`);
  return [...wrong, ...frees, ...k.warnings, ...lost, ...slots()];
}

/**
 * What does not fit together while nobody works on `mm`: pages know their entries, and have a
 * reference for each.
 */
export function misfits(k: Kernel, mm: MmStruct, start: number, pages: number): readonly string[] {
  const wrong: string[] = [];
  for (let n = 0; n < pages; n++) {
    const addr = start + n * PAGE_SIZE;
    const pte = pteAt(k, mm, addr);
    if (!pteHas(pte, Pte.present) || ptePfn(pte) === ZERO_PFN) continue;
    const { mappings, refcount, pfn } = pageOf(k, ptePfn(pte));
    if (!mappings.value.some((where) => where.mm === mm && where.addr === addr))
      wrong.push(`page ${pfn} does not know the entry for page ${n}`);
    if (refcount.value !== mappings.value.length)
      wrong.push(
        `page ${pfn} has ${refcount.value} references and ${mappings.value.length} entries`,
      );
  }
  return wrong;
}

/** Nodes of the pages from BASE on; -1 where none is mapped. */
export const nodes = (k: MmKernel, mm: MmStruct, pages: number): readonly number[] =>
  ptesAt(k, mm, BASE, pages).map((pte) =>
    pteHas(pte, Pte.present) ? pageToNid(k, ptePfn(pte)) : -1,
  );

export const all = (pages: number, node: number): readonly number[] =>
  Array.from({ length: pages }, () => node);

/** mbind of `pages` pages from BASE on. */
export const move = (user: User, pages: number, node: number): Kthread<number> =>
  user.mbind(BASE, pages * PAGE_SIZE, node);

/** A process on CPU 0 with `pages` pages on node 0; gives what went wrong around it. */
export function withPages(k: MmKernel, pages: number, program: Program): readonly string[] {
  const frees = watchFrees(k);
  const unfit: string[] = [];
  runProgram(k, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: pages * PAGE_SIZE }));
    yield* call(user.touch(BASE, pages));
    yield* call(program(user));
    unfit.push(...misfits(k, user.mm, BASE, pages));
  });
  return [...frees, ...unfit, ...k.warnings, ...lostFrames(k).map(String)];
}

/** A process whose second thread does `other` on CPU 1 meanwhile. */
export function beside(k: MmKernel, pages: number, program: Program, other: Program): void {
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: pages * PAGE_SIZE }));
    yield* call(user.touch(BASE, pages));
    const helper = yield* call(user.thread(1, other));
    yield* call(program(user));
    yield* call(user.join(helper));
  });
  startCpus(k);
}

/**
 * Random programs: processes of one or two threads that map, touch, unmap, advise, protect, move, fork,
 * get pages and sleep. What every access reaches is checked, and what is freed while somebody can
 * still reach it.
 */
import { call, PAGE_FAULT, PAGE_SIZE, userTouch, virtAddr } from '@shootdown/machine';
import {
  HPAGE_PMD_NR,
  isWriteLocked,
  type Kthread,
  type MmStruct,
  type Page,
  putPage,
  type Release,
  RELEASES,
  startCpus,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import fc from 'fast-check';
import { findings, MIB2, NONE, RO, RW, Scene } from './callers.testlib.ts';
import { doUserAddrFault } from './fault.ts';
import { gupFast } from './gup.ts';
import { Madvise, type MadviseBehavior } from './madvise.ts';
import { newProcess, type Program, type Started, type User } from './user.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

/** What a thread can do. */
export const KINDS = [
  'touch',
  'read',
  'map',
  'unmap',
  'dontneed',
  'dontneedAll',
  'pageout',
  'hugepage',
  'nohugepage',
  'collapse',
  'protect',
  'move',
  'moveBack',
  'fork',
  'vmsplice',
  'hold',
  'letGo',
  'sleep',
  'yield',
] as const;

/** One of them, on pages [page, page + pages). */
export interface Action {
  readonly kind: (typeof KINDS)[number];
  readonly page: number;
  readonly pages: number;
  /** Of three kinds of what it does. */
  readonly which: number;
}

/** One process: what its threads do, the first of which forks the others. */
export interface RandomProcess {
  readonly cpu: number;
  readonly threads: readonly (readonly Action[])[];
}

/** All of it. */
export interface RandomProgram {
  readonly kernel: Release;
  readonly tlb: 'finite' | 'mayCached';
  readonly processes: readonly RandomProcess[];
  readonly seed: number;
}

/** Pages that are touched: a few at the beginning of 2 MiB, and the last one. */
const PAGES = 5;
const CPUS = 4;
/** Where pages are moved to, not a multiple of 2 MiB away. */
const AWAY = BASE + 3 * MIB2 + 509 * PAGE_SIZE;

/** Random programs of `kinds`. */
export function programOf(
  kinds: readonly Action['kind'][],
  { processes, actions }: { readonly processes: number; readonly actions: number },
): fc.Arbitrary<RandomProgram> {
  const action: fc.Arbitrary<Action> = fc.record({
    kind: fc.constantFrom(...kinds),
    page: fc.nat(PAGES - 1),
    pages: fc.integer({ min: 1, max: PAGES }),
    which: fc.nat(2),
  });
  const thread = fc.array(action, { minLength: 2, maxLength: actions, size: 'max' });
  return fc.record({
    kernel: fc.constantFrom(...RELEASES),
    tlb: fc.constantFrom('finite', 'mayCached'),
    processes: fc.array(
      fc.record({
        cpu: fc.nat(CPUS - 1),
        threads: fc.array(thread, { minLength: 1, maxLength: 2, size: 'max' }),
      }),
      { minLength: 1, maxLength: processes, size: 'max' },
    ),
    seed: fc.nat(1_000_000),
  });
}

/** A program on its kernel. */
export class RandomRun {
  readonly scene: Scene;
  /** What must not be. */
  readonly wrong: string[];
  /** Who descends from whom may share pages. */
  private readonly families = new Map<MmStruct, number>();
  private readonly held = new Set<Page>();

  constructor(program: RandomProgram) {
    const { kernel, tlb } = program;
    this.scene = new Scene({ cpus: CPUS, kernel, frames: 32 * 512, machine: { tlb } });
    this.wrong = this.scene.wrong;
    const { k } = this.scene;
    const { probe } = k;
    k.probe = (event) => {
      if (event.kind === 'free-page' && this.held.has(event.page))
        this.wrong.push(`page ${event.page.pfn} is freed while it is held`);
      probe?.(event);
    };
    for (const [family, process] of program.processes.entries()) {
      const mm = emptyMm(k);
      this.families.set(mm, family);
      newProcess(k, { comm: `p${family}`, cpu: process.cpu, mm }, (user) =>
        this.main(user, process),
      );
    }
    startCpus(k);
  }

  /** Runs it by `drive`, which says whether it has ended; gives what is wrong. */
  run(drive: () => boolean): readonly string[] {
    if (!drive()) this.wrong.push('did not end');
    return [...this.wrong, ...findings(this.scene.k)];
  }

  private *main(user: User, { cpu, threads: [mine = [], ...others] }: RandomProcess): Kthread {
    yield* call(user.mmap({ addr: BASE, length: MIB2 }));
    const started: Started[] = [];
    for (const [n, actions] of others.entries())
      started.push(yield* call(user.thread((cpu + n + 1) % CPUS, this.acting(actions, cpu + n))));
    yield* call(this.acting(mine, cpu)(user));
    for (const one of started) yield* call(user.join(one));
  }

  private acting =
    (actions: readonly Action[], cpu: number): Program =>
    (user) =>
      this.all(user, actions, cpu);

  private *all(user: User, actions: readonly Action[], cpu: number): Kthread {
    const held: Page[] = [];
    for (const action of actions) yield* call(this.act(user, action, held, cpu));
    yield* call(this.letGo(user, held));
  }

  private *act(user: User, action: Action, held: Page[], cpu: number): Kthread {
    const { kind, page, pages, which } = action;
    const addr = BASE + page * PAGE_SIZE;
    const length = pages * PAGE_SIZE;
    const advise = (what: MadviseBehavior, from = addr, bytes = length): Kthread<number> =>
      user.madvise(from, bytes, what);
    if (kind === 'touch' || kind === 'read') {
      for (let n = 0; n < pages; n++)
        yield* call(this.access(user, addr + n * PAGE_SIZE, kind === 'touch'));
      yield* call(this.access(user, BASE + MIB2 - PAGE_SIZE, which === 0));
    } else if (kind === 'map') yield* call(user.mmap({ addr, length }));
    else if (kind === 'unmap') yield* call(user.munmap(addr, length));
    else if (kind === 'dontneed') yield* call(advise(Madvise.DONTNEED));
    else if (kind === 'dontneedAll') yield* call(advise(Madvise.DONTNEED, BASE, MIB2));
    else if (kind === 'pageout') yield* call(advise(Madvise.PAGEOUT));
    else if (kind === 'hugepage') yield* call(advise(Madvise.HUGEPAGE, BASE, MIB2));
    else if (kind === 'nohugepage') yield* call(advise(Madvise.NOHUGEPAGE, BASE, MIB2));
    else if (kind === 'collapse') yield* call(advise(Madvise.COLLAPSE, BASE, MIB2));
    else if (kind === 'protect')
      yield* call(user.mprotect(addr, length, [RO, RW, NONE][which] ?? RW));
    else if (kind === 'move') yield* call(user.mremap(addr, length, AWAY));
    else if (kind === 'moveBack') yield* call(user.mremap(AWAY, length, addr));
    else if (kind === 'fork') yield* call(this.fork(user, action, cpu));
    else if (kind === 'vmsplice') yield* call(user.vmsplice(addr, pages));
    else if (kind === 'hold') yield* call(this.hold(user, action, held));
    else if (kind === 'letGo') yield* call(this.letGo(user, held));
    else if (kind === 'sleep') yield* call(user.nanosleep(1000 * (which + 1)));
    else yield* call(user.schedYield());
  }

  /** A child that writes to, unmaps and reads what it shares with its parent. */
  private *fork(user: User, { page, which }: Action, cpu: number): Kthread {
    const family = this.families.get(user.mm) ?? -1;
    const addr = BASE + page * PAGE_SIZE;
    yield* call(user.fork((child) => this.child(child, family, addr, which), (cpu + which) % CPUS));
  }

  private *child(user: User, family: number, addr: number, which: number): Kthread {
    this.families.set(user.mm, family);
    yield* call(this.access(user, addr, false));
    yield* call(this.access(user, addr, true));
    if (which === 0) yield* call(user.munmap(addr, PAGE_SIZE));
    if (which === 1) yield* call(user.madvise(BASE, MIB2, Madvise.DONTNEED));
    if (which === 2) yield* call(user.madvise(BASE, MIB2, Madvise.COLLAPSE));
    yield* call(this.access(user, addr + PAGE_SIZE, true));
  }

  private *hold(user: User, { page, pages, which }: Action, held: Page[]): Kthread {
    const got: Page[] = [];
    const start = BASE + page * PAGE_SIZE;
    const end = start + pages * PAGE_SIZE;
    const range = { start, end, write: which === 0, pin: which === 1, pages: got };
    yield* call(gupFast(this.scene.k, range));
    for (const one of got) {
      if (one.refcount.value < 1) this.wrong.push(`page ${one.pfn} is got and free`);
      this.held.add(one);
    }
    held.push(...got);
  }

  private *letGo({ k }: User, held: Page[]): Kthread {
    for (const page of held.splice(0)) {
      if (!held.includes(page)) this.held.delete(page);
      yield* call(putPage(k, page));
    }
  }

  /** One access, as far as the mapping allows it, and what it reaches. */
  private *access(user: User, addr: number, write: boolean): Kthread {
    const { k } = this.scene;
    for (;;) {
      const at = yield* userTouch(virtAddr(addr), write);
      if (at !== PAGE_FAULT) {
        this.check(user.mm, Math.floor(at / PAGE_SIZE), write);
        return;
      }
      if ((yield* call(doUserAddrFault(k, addr, write))) !== 'done') return;
    }
  }

  private check(mm: MmStruct, frame: number, write: boolean): void {
    const what = `${mm.name} ${write ? 'writes to' : 'reads'} frame ${frame}`;
    if (frame === ZERO_PFN) {
      if (write) this.wrong.push(`${what}, the zero page`);
      return;
    }
    const { k } = this.scene;
    const head = k.pages.pages.get(Math.floor(frame / HPAGE_PMD_NR) * HPAGE_PMD_NR);
    const page = k.pages.pages.get(frame) ?? (head?.order === 0 ? undefined : head);
    if (page === undefined || k.ptLocks.has(frame)) {
      this.wrong.push(`${what}, which is no page`);
      return;
    }
    for (const { mm: other } of page.mappings.value) {
      if (other === mm) continue;
      const family = this.families.get(other);
      if (family !== undefined && family !== this.families.get(mm))
        this.wrong.push(`${what}, a page of ${other.name}`);
      // While a fork is under way the last writers do not know yet.
      if (write && !isWriteLocked(mm.mmapLock))
        this.wrong.push(`${what}, which ${other.name} shares`);
    }
  }
}

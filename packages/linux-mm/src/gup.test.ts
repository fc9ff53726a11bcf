/** GUP-fast: how it walks, where it stops, what it holds, and what it notices. */
import { call, Machine, PAGE_SIZE, ptePfn, smpMb, transitionCpu } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import { composeKernel, type Kthread, type Page, putPage, startCpus } from '@shootdown/mmu-gather';
import { randomScheduler, schedule, type Scheduler } from '@shootdown/sim';
import { expect, test } from 'vitest';
import {
  findings,
  GIB,
  leafAt,
  mapHuge,
  mapping,
  mapTouched,
  MIB2,
  NONE,
  pageAt,
  RO,
  RW,
  Scene,
} from './callers.testlib.ts';
import { gupFast, gupFastPgdRange, type GupRange } from './gup.ts';
import { getUserPages } from './gupSlow.ts';
import { testKernel } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import type { MmKernel } from './mm.ts';
import { mmFunctions } from './mmFunctions.ts';
import { newProcess, type Program, type User } from './user.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

interface Want {
  readonly pages: number;
  readonly write?: boolean;
  readonly pin?: boolean;
  readonly from?: number;
}

const rangeOf = ({ pages, write = false, pin = false, from = 0 }: Want) => {
  const start = BASE + from * PAGE_SIZE;
  const got: Page[] = [];
  return { start, end: start + pages * PAGE_SIZE, write, pin, pages: got };
};

function* letGo(k: MmKernel, pages: readonly Page[]): Kthread {
  for (const page of pages) yield* call(putPage(k, page));
}

/** How many GUP-fast gets; they are let go again. */
function* count(user: User, want: Want): Kthread<number> {
  const range = rangeOf(want);
  const got = yield* call(gupFast(user.k, range));
  expect(range.pages).toHaveLength(got);
  yield* call(letGo(user.k, range.pages));
  return got;
}

test('the whole walk has interrupts off, and nothing else has', () => {
  const machine = new Machine({ cpus: 2 });
  let walking = false;
  const k = composeKernel({
    machine,
    backend: native(),
    functions: {
      ...mmFunctions,
      *gupFastPgdRange(kernel: MmKernel, range: GupRange): Kthread<number> {
        walking = true;
        const got = yield* call(gupFastPgdRange(kernel, range));
        walking = false;
        return got;
      },
    },
    frames: 2048,
  });
  const seen = new Set<boolean>();
  const after: boolean[] = [];
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(mapTouched(user, BASE, 4));
    yield* call(mapHuge(user, BASE + MIB2));
    for (const pin of [false, true]) {
      yield* call(count(user, { pages: 5, pin }));
      yield* call(count(user, { pages: 3, from: 512, pin }));
      after.push(machine.cpu(0).irqsOn);
    }
  });
  startCpus(k);
  const random = randomScheduler(1);
  schedule(machine, {
    name: 'watching',
    pick(enabled, of) {
      if (walking) seen.add(machine.cpu(0).irqsOn);
      return random.pick(enabled, of);
    },
  });
  expect(Array.from(seen)).toEqual([false]);
  expect(after).toEqual([true, true]);
});

test('it stops at the first page that it cannot get, and keeps what it has', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 8));
    yield* call(user.madvise(BASE + 3 * PAGE_SIZE, PAGE_SIZE, Madvise.DONTNEED));
    expect(yield* call(count(user, { pages: 8 }))).toBe(3);
    expect(yield* call(count(user, { pages: 4, from: 4 }))).toBe(4);
    // A zero page is there, and not got.
    yield* call(user.read(BASE + 3 * PAGE_SIZE, 1));
    expect(yield* call(count(user, { pages: 8 }))).toBe(3);
    yield* call(user.touch(BASE + 3 * PAGE_SIZE, 1));
    expect(yield* call(count(user, { pages: 8 }))).toBe(8);
    yield* call(user.mprotect(BASE + 5 * PAGE_SIZE, PAGE_SIZE, RO));
    expect(yield* call(count(user, { pages: 8 }))).toBe(8);
    expect(yield* call(count(user, { pages: 8, write: true }))).toBe(5);
    yield* call(user.mprotect(BASE + 2 * PAGE_SIZE, PAGE_SIZE, NONE));
    expect(yield* call(count(user, { pages: 8 }))).toBe(2);
    yield* call(user.madvise(BASE + PAGE_SIZE, PAGE_SIZE, Madvise.PAGEOUT));
    expect(yield* call(count(user, { pages: 8 }))).toBe(1);
    // Where there is no table of any level.
    expect(yield* call(count(user, { pages: 1, from: 512 }))).toBe(0);
    expect(yield* call(count(user, { pages: 1, from: 2 * (GIB / PAGE_SIZE) }))).toBe(0);
    expect(yield* call(count(user, { pages: 1, from: -1 }))).toBe(0);
  });
  expect(scene.wrong).toEqual([]);
});

test('it goes on over the borders of tables', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE + GIB - 3 * PAGE_SIZE, 6));
    const from = GIB / PAGE_SIZE - 3;
    const range = rangeOf({ pages: 6, from });
    expect(yield* call(gupFast(user.k, range))).toBe(6);
    const { k, mm } = user;
    const there = [0, 1, 2, 3, 4, 5].map((n) => pageAt(k, mm, range.start + n * PAGE_SIZE));
    expect(range.pages).toEqual(there);
    yield* call(letGo(k, range.pages));
  });
  expect(scene.wrong).toEqual([]);
});

test('of a huge page it gets the one huge page, as often as asked, if it may be accessed so', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    yield* call(mapHuge(user, BASE));
    const page = pageAt(user.k, user.mm, BASE);
    const range = rangeOf({ pages: 3, from: 5, write: true });
    expect(yield* call(gupFast(user.k, range))).toBe(3);
    expect(range.pages).toEqual([page, page, page]);
    expect(page.refcount.value).toBe(4);
    yield* call(letGo(user.k, range.pages));
    yield* call(user.mprotect(BASE, MIB2, RO));
    expect(yield* call(count(user, { pages: 2 }))).toBe(2);
    expect(yield* call(count(user, { pages: 2, write: true }))).toBe(0);
    yield* call(user.mprotect(BASE, MIB2, NONE));
    expect(yield* call(count(user, { pages: 2 }))).toBe(0);
  });
  expect(scene.wrong).toEqual([]);
});

test('what is held outlives its mapping, and goes with the last reference', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    const range = rangeOf({ pages: 2 });
    yield* call(gupFast(k, range));
    const [page] = range.pages;
    if (page === undefined) throw new Error('two pages were got');
    expect(page.refcount.value).toBe(2);
    const gone = yield* call(scene.during(user.munmap(BASE, 2 * PAGE_SIZE)));
    expect(gone.events).not.toContain('free-page');
    expect(k.pages.pages.get(page.pfn)).toBe(page);
    expect(page.refcount.value).toBe(1);
    const let2 = yield* call(scene.during(letGo(k, range.pages)));
    expect(let2.events).toEqual(['free-page', 'free-page']);
  });
  expect(scene.wrong).toEqual([]);
});

test('vmsplice faults in what was missing, lets everything go, and says -EFAULT for nothing', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    yield* call(user.mmap({ addr: BASE + 2 * PAGE_SIZE, length: 2 * PAGE_SIZE }));
    expect(yield* call(user.vmsplice(BASE, 4))).toBe(4);
    expect(mapping(k, user.mm, BASE + 3 * PAGE_SIZE)).toBe('zero');
    expect(pageAt(k, user.mm, BASE).refcount.value).toBe(1);
    expect(k.pages.pages.get(1)?.refcount.value).toBe(1);
    // Up to the end of what is mapped, and not at all behind it.
    expect(yield* call(user.vmsplice(BASE + 3 * PAGE_SIZE, 4))).toBe(1);
    expect(yield* call(user.vmsplice(BASE + 4 * PAGE_SIZE, 1))).toBe(-14);
    yield* call(user.mprotect(BASE, PAGE_SIZE, NONE));
    expect(yield* call(user.vmsplice(BASE, 1))).toBe(-14);
  });
  expect(scene.wrong).toEqual([]);
});

test('for writing it breaks copy on write, and gets small and huge pages', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 2 * PAGE_SIZE }));
    yield* call(user.read(BASE, 1));
    yield* call(mapHuge(user, BASE + MIB2));
    yield* call(user.mprotect(BASE + MIB2, MIB2, RO));
    yield* call(user.mprotect(BASE + MIB2, MIB2, RW));
    const small = rangeOf({ pages: 2, write: true });
    expect(yield* call(getUserPages(k, small))).toBe(2);
    yield* call(letGo(k, small.pages));
    expect(mapping(k, user.mm, BASE)).toBe('rw');
    const huge = rangeOf({ pages: 2, from: 512, write: true });
    expect(yield* call(getUserPages(k, huge))).toBe(2);
    yield* call(letGo(k, huge.pages));
    yield* call(user.mprotect(BASE, PAGE_SIZE, RO));
    const refused = rangeOf({ pages: 1, write: true });
    expect(yield* call(getUserPages(k, refused))).toBe(0);
  });
  expect(scene.wrong).toEqual([]);
});

/** Runs CPU `cpu` alone, as far as it can, until something holds; then the next; then all, fairly. */
function inTurn(turns: readonly { readonly cpu: number; until: () => boolean }[]): Scheduler {
  const rest = [...turns];
  const random = randomScheduler(1);
  return {
    name: 'inTurn',
    pick(enabled, machine) {
      while (rest[0]?.until() === true) rest.shift();
      const [turn] = rest;
      const own = enabled.findIndex((next) => transitionCpu(next) === turn?.cpu);
      return own === -1 ? random.pick(enabled, machine) : own;
    },
  };
}

/** A walker on CPU 1 against `other` on CPU 0, in the order that `turns` says. */
interface Duel {
  readonly want: Want;
  readonly other: Program;
  /** What has to have happened before the walker, which has read the entries, goes on. */
  readonly changed: (k: MmKernel, user: User, page: Page) => boolean;
  readonly before?: Program;
}

function duel({ want, other, changed, before }: Duel): { got: number; k: MmKernel; page: Page } {
  const { k } = testKernel({ cpus: 3, frames: 4096 });
  let page: Page | null = null;
  let main: User | null = null;
  let got = -1;
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(before === undefined ? mapTouched(user, BASE, 4) : before(user));
    const ready = k.machine.cell('ready', false);
    const walker = yield* call(
      user.thread(1, function* (one) {
        yield* call(one.spin(ready));
        const range = rangeOf(want);
        got = yield* call(gupFast(k, range));
        yield* call(letGo(k, range.pages));
      }),
    );
    yield* call(user.compute(1000));
    yield* smpMb();
    page = pageAt(k, user.mm, BASE);
    main = user;
    yield* call(user.set(ready));
    yield* smpMb();
    yield* call(other(user));
    yield* call(user.join(walker));
  });
  startCpus(k);
  const { ended } = schedule(
    k.machine,
    inTurn([
      { cpu: 0, until: () => page !== null },
      // Both entries are read, and the reference is about to be taken.
      { cpu: 1, until: () => page !== null && k.machine.cpu(1).op?.cell === page.refcount },
      { cpu: 0, until: () => page !== null && main !== null && changed(k, main, page) },
      { cpu: 1, until: () => got !== -1 },
    ]),
  );
  if (page === null) throw new Error('the page was never mapped');
  expect({ ended, wrong: findings(k) }).toEqual({ ended: true, wrong: [] });
  return { got, k, page };
}

/** The mm of the thread on CPU 0, looked at from outside. */
const mmOn = (k: MmKernel): User['mm'] => k.percpu[0]?.current.mm ?? k.initMm;

test('an entry that was cleared after it was read is noticed: the page is let go again', () => {
  const { got, k, page } = duel({
    want: { pages: 1 },
    other: (user) => user.madvise(BASE, PAGE_SIZE, Madvise.DONTNEED),
    changed: (kernel) => leafAt(kernel, mmOn(kernel), BASE) === 0,
  });
  expect(got).toBe(0);
  expect(k.pages.pages.get(page.pfn)).not.toBe(page);
});

test('a table that was unhooked after it was walked is noticed, though its entries are the same', () => {
  const { got, k } = duel({
    want: { pages: 1 },
    before: (user) => mapTouched(user, BASE, 512),
    *other(user) {
      expect(yield* call(user.madvise(BASE, MIB2, Madvise.COLLAPSE))).toBe(0);
    },
    changed: (kernel) => leafAt(kernel, mmOn(kernel), BASE) === 0,
  });
  // It lets go, so the collapse finds nobody who holds a page.
  expect(got).toBe(0);
  expect(k.stats.vmstat.thp_collapse_alloc).toBe(1);
});

test('a huge entry that was cleared after it was read is noticed', () => {
  const { got } = duel({
    want: { pages: 1 },
    before: (user) => mapHuge(user, BASE),
    other: (user) => user.madvise(BASE, MIB2, Madvise.DONTNEED),
    changed: (kernel) => leafAt(kernel, mmOn(kernel), BASE) === 0,
  });
  expect(got).toBe(0);
});

test('who pins gives up if a fork came in between, and holds nothing', () => {
  for (const pin of [true, false]) {
    const { got } = duel({
      want: { pages: 1, pin },
      other: (user) => user.fork((child) => child.compute(1), 2),
      changed: (kernel) => mmOn(kernel).writeProtectSeq.value > 0,
    });
    // Without a pin the page is had only if the entry has not changed either: it is the same still.
    expect(got).toBe(pin ? 0 : 1);
  }
});

test('who pins while a fork is under way does not even begin', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    user.mm.writeProtectSeq.value = 1;
    expect(yield* call(count(user, { pages: 2, pin: true }))).toBe(0);
    expect(yield* call(count(user, { pages: 2 }))).toBe(2);
    user.mm.writeProtectSeq.value = 2;
    expect(yield* call(count(user, { pages: 2, pin: true }))).toBe(2);
    expect(ptePfn(leafAt(k, user.mm, BASE))).toBeGreaterThan(1);
  });
  expect(scene.wrong).toEqual([]);
});

test('who finds a huge page that is split before it has the lock does not take the table for it', () => {
  const { k } = testKernel({ cpus: 3, frames: 4096 });
  let mm: User['mm'] | null = null;
  const tables: boolean[] = [];
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(mapHuge(user, BASE));
    // Shared, so that a walker without a lock cannot get it for writing.
    const go = k.machine.cell('go', false);
    yield* call(user.fork((child) => child.spin(go), 2));
    const getter = yield* call(
      user.thread(1, function* (one) {
        yield* call(one.spin(go));
        const range = rangeOf({ pages: 1, from: 3, write: true });
        expect(yield* call(getUserPages(k, range))).toBe(1);
        for (const page of range.pages) tables.push(k.ptLocks.has(page.pfn));
        yield* call(letGo(k, range.pages));
      }),
    );
    yield* smpMb();
    ({ mm } = user);
    yield* call(user.set(go));
    yield* smpMb();
    yield* call(user.madvise(BASE, PAGE_SIZE, Madvise.DONTNEED));
    yield* call(user.join(getter));
  });
  startCpus(k);
  const waits = (): boolean => k.machine.cpu(1).op?.cell?.name.startsWith('ptlock[') === true;
  const split = (): boolean => mm !== null && mapping(k, mm, BASE + PAGE_SIZE) === 'ro';
  schedule(
    k.machine,
    inTurn([
      { cpu: 0, until: () => mm !== null },
      { cpu: 1, until: waits },
      { cpu: 0, until: split },
    ]),
  );
  expect(tables).toEqual([false]);
  expect(findings(k)).toEqual([]);
});

/** Transparent huge pages: made by a fault, zapped, split, and the tables that wait under them. */
import { call, PAGE_SIZE, ptePfn } from '@shootdown/machine';
import { freePages, HPAGE_PMD_NR, type Kthread, putPage, startCpus } from '@shootdown/mmu-gather';
import { randomScheduler, schedule } from '@shootdown/sim';
import { expect, test } from 'vitest';
import {
  findings,
  leafAt,
  mapHuge,
  mapping,
  mapTouched,
  MIB2,
  pageAt,
  RO,
  Scene,
  takeAllBut,
} from './callers.testlib.ts';
import { gupFast } from './gup.ts';
import { testKernel } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import { misfits } from './reclaim.testlib.ts';
import { newProcess, type User } from './user.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

test('the first write to 2 MiB that may be huge maps a huge page, with one fault and one table', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE + 8 * MIB2, 1));
    const before = freePages(k);
    const faults = k.stats.vmstat.pgfault;
    const seen = yield* call(scene.during(mapHuge(user, BASE)));
    expect(seen.flushes).toEqual({});
    expect(before - freePages(k)).toBe(HPAGE_PMD_NR + 1);
    yield* call(user.touch(BASE, 512));
    expect(k.stats.vmstat.pgfault - faults).toBe(1);
    const page = pageAt(k, user.mm, BASE);
    expect(page.pfn % HPAGE_PMD_NR).toBe(0);
    expect([page.order, page.refcount.value, page.anonExclusive]).toEqual([9, 1, true]);
  });
  expect(scene.wrong).toEqual([]);
});

test('small pages where a huge one does not fit, is not wanted, is only read, or has no memory', () => {
  const scene = new Scene({ frames: 2048 });
  const { k } = scene;
  scene.run(function* (user) {
    const kind = (): string => mapping(k, user.mm, BASE + MIB2);
    const fresh = function* (from: number, length: number, advice: number): Kthread {
      yield* call(user.munmap(BASE, 4 * MIB2));
      yield* call(user.mmap({ addr: from, length }));
      if (advice !== 0) yield* call(user.madvise(from, length, advice as 14 | 15));
    };
    yield* call(fresh(BASE + MIB2, MIB2 - PAGE_SIZE, Madvise.HUGEPAGE));
    yield* call(user.touch(BASE + MIB2, 1));
    expect(kind()).toBe('rw');
    yield* call(fresh(BASE + MIB2, 2 * MIB2, 0));
    yield* call(user.touch(BASE + MIB2, 1));
    expect(kind()).toBe('rw');
    yield* call(fresh(BASE + MIB2, 2 * MIB2, Madvise.NOHUGEPAGE));
    yield* call(user.touch(BASE + MIB2, 1));
    expect(kind()).toBe('rw');
    yield* call(fresh(BASE + MIB2, 2 * MIB2, Madvise.HUGEPAGE));
    yield* call(user.read(BASE + MIB2, 1));
    yield* call(user.touch(BASE + MIB2, 1));
    expect(kind()).toBe('rw');
    yield* call(fresh(BASE + MIB2, 2 * MIB2, Madvise.HUGEPAGE));
    const giveBack = yield* call(takeAllBut(k, 511));
    yield* call(user.touch(BASE + MIB2, 1));
    expect(kind()).toBe('rw');
    yield* call(giveBack());
  });
  expect(scene.wrong).toEqual([]);
});

test('with memory for the huge page and none for its table the huge page is given back', () => {
  const scene = new Scene({ frames: 2048 });
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    yield* call(user.mmap({ addr: BASE + MIB2, length: MIB2 }));
    yield* call(user.madvise(BASE + MIB2, MIB2, Madvise.HUGEPAGE));
    // All single frames go, so that what is left is one huge page.
    const giveBack = yield* call(takeAllBut(k, 512));
    yield* call(user.touch(BASE + MIB2, 1));
    expect(mapping(k, user.mm, BASE + MIB2)).toBe('rw');
    expect(freePages(k)).toBe(510);
    yield* call(giveBack());
  });
  expect(scene.wrong).toEqual([]);
});

test('a huge page is zapped as a whole: one entry, its table goes back, nothing is freed twice', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
    yield* call(mapHuge(user, BASE));
    const before = freePages(k);
    const seen = yield* call(scene.during(user.madvise(BASE, MIB2, Madvise.DONTNEED)));
    expect(seen.flushes).toEqual({ '4:512': 1, '3:1': 1, '1:1': 1 });
    expect(seen.interrupts).toEqual([0, 1, 0, 0]);
    expect(seen.events).toEqual(['flush', 'flushed', 'free-page']);
    expect(freePages(k) - before).toBe(513);
    expect(mapping(k, user.mm, BASE)).toBe('none');
    yield* call(user.touch(BASE, 1));
    expect(mapping(k, user.mm, BASE)).toBe('huge-rw');
  });
  expect(scene.wrong).toEqual([]);
});

test('zapping a part splits it first: a flush of everything before there are small pages', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
    yield* call(mapHuge(user, BASE));
    const { pfn } = pageAt(k, user.mm, BASE);
    const before = freePages(k);
    const part = user.madvise(BASE + 3 * PAGE_SIZE, 2 * PAGE_SIZE, Madvise.DONTNEED);
    const seen = yield* call(scene.during(part));
    expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1, '4:2': 1, '3:2': 1, '1:2': 1 });
    expect(seen.interrupts).toEqual([0, 2, 1, 0]);
    expect(freePages(k) - before).toBe(2);
    expect(mapping(k, user.mm, BASE + 3 * PAGE_SIZE)).toBe('none');
    // The frames stay where they were, with what the huge entry allowed.
    for (const n of [0, 2, 5, 511]) {
      expect(ptePfn(leafAt(k, user.mm, BASE + n * PAGE_SIZE))).toBe(pfn + n);
      expect(mapping(k, user.mm, BASE + n * PAGE_SIZE)).toBe('rw');
      expect(pageAt(k, user.mm, BASE + n * PAGE_SIZE).anonExclusive).toBe(true);
    }
    expect(misfits(k, user.mm, BASE, 512)).toEqual([]);
    expect((yield* call(scene.during(user.touch(BASE, 3)))).flushes).toEqual({});
  });
  expect(scene.wrong).toEqual([]);
});

test('a read-only huge page is split into read-only pages', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapHuge(user, BASE));
    yield* call(user.mprotect(BASE, MIB2, RO));
    yield* call(user.munmap(BASE, PAGE_SIZE));
    expect(mapping(k, user.mm, BASE + PAGE_SIZE)).toBe('ro');
  });
  expect(scene.wrong).toEqual([]);
});

test('munmap of the first half: the other half stays, and the table it is in now', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapHuge(user, BASE));
    yield* call(user.munmap(BASE, MIB2 / 2));
    expect(mapping(k, user.mm, BASE)).toBe('none');
    expect(mapping(k, user.mm, BASE + MIB2 / 2)).toBe('rw');
    yield* call(user.munmap(BASE + MIB2 / 2, MIB2 / 2));
  });
  expect(scene.wrong).toEqual([]);
});

test('who has got a page of it keeps it when it is split and unmapped', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapHuge(user, BASE));
    const pages: ReturnType<typeof pageAt>[] = [];
    const start = BASE + 5 * PAGE_SIZE;
    const range = { start, end: start + PAGE_SIZE, write: true, pin: false, pages };
    expect(yield* call(gupFast(k, range))).toBe(1);
    const [page] = pages;
    if (page === undefined) throw new Error('one page was got');
    const freed = scene.events.length;
    yield* call(user.munmap(BASE, PAGE_SIZE));
    yield* call(user.munmap(BASE, MIB2));
    expect(scene.events.slice(freed)).not.toContain('free-page');
    expect(page.refcount.value).toBe(1);
    yield* call(putPage(k, page));
    expect(scene.events.slice(freed)).toContain('free-page');
  });
  expect(scene.wrong).toEqual([]);
});

/** What two threads do at once to one huge page. */
const PAIRS: Readonly<Record<string, readonly ((user: User) => Kthread<unknown>)[]>> = {
  'split and zap the whole': [
    (user) => user.madvise(BASE + PAGE_SIZE, PAGE_SIZE, Madvise.DONTNEED),
    (user) => user.madvise(BASE, MIB2, Madvise.DONTNEED),
  ],
  'split by both': [
    (user) => user.madvise(BASE + PAGE_SIZE, PAGE_SIZE, Madvise.DONTNEED),
    (user) => user.madvise(BASE + 2 * PAGE_SIZE, PAGE_SIZE, Madvise.DONTNEED),
  ],
  'zap by both': [
    (user) => user.madvise(BASE, MIB2, Madvise.DONTNEED),
    (user) => user.madvise(BASE, MIB2, Madvise.DONTNEED),
  ],
  'split and get': [
    (user) => user.madvise(BASE + PAGE_SIZE, PAGE_SIZE, Madvise.DONTNEED),
    (user) => user.vmsplice(BASE, 3),
  ],
  'split and touch': [
    (user) => user.madvise(BASE + PAGE_SIZE, PAGE_SIZE, Madvise.DONTNEED),
    (user) => user.touch(BASE, 3),
  ],
};

test.each(Object.entries(PAIRS))('at once: %s', (name, [one, two]) => {
  if (one === undefined || two === undefined) throw new Error('a pair is of two');
  for (let seed = 1; seed <= 12; seed++) {
    const { k } = testKernel({ cpus: 2, frames: 2048 });
    newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
      yield* call(mapHuge(user, BASE));
      const other = yield* call(user.thread(1, two));
      yield* call(one(user));
      yield* call(user.join(other));
      // Whatever came first: what was to be zapped by both is zapped.
      const zapped = name.includes('zap') ? [mapping(k, user.mm, BASE)] : ['none'];
      expect(zapped).toEqual(['none']);
      expect(misfits(k, user.mm, BASE, 512)).toEqual([]);
    });
    startCpus(k);
    const { ended } = schedule(k.machine, randomScheduler(seed));
    expect({ seed, ended, wrong: findings(k) }).toEqual({ seed, ended: true, wrong: [] });
  }
});

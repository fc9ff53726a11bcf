/** Reclaim by MADV_PAGEOUT: against a recording, and what it must never do. */
import { call, PAGE_SIZE, Pte, pteHas, ptePfn, readOnce } from '@shootdown/machine';
import {
  isSwapPte,
  KERNEL_COSTS,
  type Kthread,
  type Page,
  putPage,
  type Release,
  spinLock,
  spinUnlock,
} from '@shootdown/mmu-gather';
import { roundRobin, runByClock } from '@shootdown/sim';
import { expect, test } from 'vitest';
import { gupFast } from './gup.ts';
import { runProgram, testKernel } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import type { MmKernel } from './mm.ts';
import {
  beside,
  flushesSoFar,
  lostFrames,
  mappedAt,
  ptesAt,
  runWatched,
  shootdowns,
  watchFrees,
} from './reclaim.testlib.ts';
import type { Program, User } from './user.ts';
import { pageout } from './workloads/pageout.ts';
import { BASE, setUpWorkload } from './workloads/workload.ts';

const W10 = { threads: 2, values: { list: [1, 8, 33], iterations: 2 } };

function runW10(kernel: Release): readonly (readonly [string, Readonly<Record<string, number>>])[] {
  const { k } = testKernel({ cpus: 8, kernel });
  const frees = watchFrees(k);
  const phases = setUpWorkload(k, pageout, W10);
  runByClock(k.machine, { costs: KERNEL_COSTS });
  expect([...frees, ...k.warnings, ...lostFrames(k)]).toEqual([]);
  return phases.counts.map((phase) => [phase.name, shootdowns(phase)]);
}

test('flushes as Linux 6.12.117 does: recording, 8 CPUs, wl pageout T=2 N=2 list=1,8,33', () => {
  expect(runW10('6.12.117')).toEqual([
    ['pageout pages=1', { '1:-1': 3, '2:-1': 2, '3:-1': 1, '4:-1': 3 }],
    ['pageout pages=8', { '1:-1': 18, '2:-1': 16, '3:-1': 2, '4:-1': 18 }],
    ['pageout pages=33', { '1:-1': 68, '2:-1': 66, '3:-1': 2, '4:-1': 68 }],
  ]);
});

test('Linux 6.1.192 adds one ranged flush per call, for the accessed bits that it clears', () => {
  expect(runW10('6.1.192')).toEqual([
    [
      'pageout pages=1',
      { '1:-1': 3, '1:1': 2, '2:-1': 2, '3:-1': 1, '3:1': 2, '4:-1': 3, '4:1': 2 },
    ],
    [
      'pageout pages=8',
      { '1:-1': 18, '1:8': 2, '2:-1': 16, '3:-1': 2, '3:8': 2, '4:-1': 18, '4:8': 2 },
    ],
    [
      'pageout pages=33',
      { '1:-1': 68, '1:33': 2, '2:-1': 66, '3:-1': 2, '3:33': 2, '4:-1': 68, '4:33': 2 },
    ],
  ]);
});

/** A process with a second thread that spins on CPU 1, which so is always in mm_cpumask. */
function* besideSpinner(user: User, program: Program): Kthread {
  const stop = user.k.machine.cell('stop', false);
  const helper = yield* call(user.thread(1, (other) => other.spin(stop)));
  yield* call(user.compute(10_000));
  yield* call(program(user));
  yield* call(user.set(stop));
  yield* call(user.join(helper));
}

const pageOut = (user: User, pages: number): Kthread<number> =>
  user.madvise(BASE, pages * PAGE_SIZE, Madvise.PAGEOUT);

test('with no other CPU in the mask each entry is flushed at once', () => {
  const { k } = testKernel({ kernel: '6.12.117' });
  runProgram(k, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 8 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 8));
    yield* call(pageOut(user, 8));
    expect(flushesSoFar(k)).toEqual({ '3:1': 8 });
    // Nothing was put off, so nobody has to catch up.
    yield* call(user.touch(BASE, 8));
    yield* call(pageOut(user, 8));
    expect(flushesSoFar(k)).toEqual({ '3:1': 16 });
  });
  expect(lostFrames(k)).toEqual([]);
});

test('what was paged out is in swap, its frames are free, and a touch brings it back', () => {
  const { k } = testKernel();
  runProgram(k, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 8 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 8));
    const before = ptesAt(k, user.mm, BASE, 8);
    expect(yield* call(pageOut(user, 8))).toBe(0);
    expect(ptesAt(k, user.mm, BASE, 8).every(isSwapPte)).toBe(true);
    for (const pte of before) expect(k.pages.pages.has(ptePfn(pte))).toBe(false);
    yield* call(user.touch(BASE, 4));
    yield* call(user.madvise(BASE, 8 * PAGE_SIZE, Madvise.DONTNEED));
    expect(ptesAt(k, user.mm, BASE, 8)).toEqual(Array.from({ length: 8 }, () => 0));
  });
  expect([...k.warnings, ...lostFrames(k)]).toEqual([]);
});

function* nothing(): Kthread {}

/** Flushes of a page-out of pages that were brought back by reading, so are not dirty. */
function* pageOutClean(
  user: User,
  pages: number,
  before: () => Kthread = nothing,
): Kthread<Readonly<Record<string, number>>> {
  yield* call(user.touch(BASE, pages));
  yield* call(pageOut(user, pages));
  yield* call(user.read(BASE, pages));
  yield* call(before());
  // So that the next call finds nothing that was put off.
  yield* call(user.mprotect(BASE, pages * PAGE_SIZE, { read: true, write: false }));
  const earlier = flushesSoFar(user.k);
  yield* call(pageOut(user, pages));
  const after = flushesSoFar(user.k);
  return Object.fromEntries(
    Object.entries(after).map(([key, count]) => [key, count - (earlier[key] ?? 0)] as const),
  );
}

test.each([
  { pages: 8, flushes: 1 },
  { pages: 31, flushes: 1 },
  { pages: 33, flushes: 2 },
  { pages: 93, flushes: 3 },
])('$pages clean pages are written first, and flushed 31 at a time before they are freed', (of) => {
  const { k } = testKernel({ kernel: '6.12.117' });
  const frees = watchFrees(k);
  let seen: Readonly<Record<string, number>> = {};
  runProgram(k, (user) =>
    besideSpinner(user, function* () {
      yield* call(user.mmap({ addr: BASE, length: of.pages * PAGE_SIZE }));
      seen = yield* call(pageOutClean(user, of.pages));
    }),
  );
  expect(seen).toMatchObject({ '2:-1': of.flushes, '4:-1': of.flushes });
  expect([...frees, ...k.warnings, ...lostFrames(k)]).toEqual([]);
});

test('a dirty page is flushed everywhere before it is written, and freed after that', () => {
  const { k } = testKernel({ cpus: 2, machine: { tlb: 'mayCached' } });
  let faults = 0;
  beside(
    k,
    8,
    function* (user) {
      for (let i = 0; i < 4; i++) yield* call(pageOut(user, 8));
    },
    function* (user) {
      for (let i = 0; i < 400; i++) yield* call(user.touch(BASE, 8));
      faults = k.stats.vmstat.pgfault;
    },
  );
  expect(runWatched(k, roundRobin(), true)).toEqual([]);
  // It was in the middle of it: pages went and came back.
  expect(faults).toBeGreaterThan(16);
});

/** Gets the pages from `addr` on, as GUP-fast does for whoever keeps them. */
function* hold(k: MmKernel, addr: number, pages = 1): Kthread<readonly Page[]> {
  const got: Page[] = [];
  const end = addr + pages * PAGE_SIZE;
  yield* call(gupFast(k, { start: addr, end, write: true, pin: false, pages: got }));
  return got;
}

test('a page that somebody else holds stays mapped as it was, and its neighbours go', () => {
  const { k } = testKernel();
  runProgram(k, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 4 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 4));
    const before = ptesAt(k, user.mm, BASE, 4);
    const held = yield* call(hold(k, BASE + PAGE_SIZE));
    expect(held).toEqual([mappedAt(k, user.mm, BASE + PAGE_SIZE)]);
    yield* call(pageOut(user, 4));
    const after = ptesAt(k, user.mm, BASE, 4);
    expect(after.map(isSwapPte)).toEqual([true, false, true, true]);
    expect(after[1]).toBe(before[1]);
    // It was not even tried.
    expect(flushesSoFar(k)).toEqual({ '3:1': 3 });
    for (const page of held) {
      expect(yield* readOnce(page.refcount)).toBe(2);
      expect(page.swapEntry).toBeNull();
      yield* call(putPage(k, page));
    }
    yield* call(pageOut(user, 4));
    expect(ptesAt(k, user.mm, BASE, 4).every(isSwapPte)).toBe(true);
  });
  expect([...k.warnings, ...lostFrames(k)]).toEqual([]);
});

test('a page whose lock is held is left alone', () => {
  const { k } = testKernel();
  runProgram(k, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 2 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 2));
    const { lock } = mappedAt(k, user.mm, BASE);
    yield* spinLock(lock);
    yield* call(pageOut(user, 2));
    yield* spinUnlock(lock);
    expect(ptesAt(k, user.mm, BASE, 2).map(isSwapPte)).toEqual([false, true]);
  });
  expect([...k.warnings, ...lostFrames(k)]).toEqual([]);
});

test('pages of different nodes go in lists of their own', () => {
  const { k } = testKernel({ kernel: '6.12.117', nodes: 2 });
  let seen: Readonly<Record<string, number>> = {};
  runProgram(k, (user) =>
    besideSpinner(user, function* () {
      yield* call(user.mmap({ addr: BASE, length: 4 * PAGE_SIZE }));
      seen = yield* call(
        pageOutClean(user, 4, function* () {
          for (const page of [1, 3]) yield* call(user.mbind(BASE + page * PAGE_SIZE, PAGE_SIZE, 1));
        }),
      );
    }),
  );
  expect(seen).toMatchObject({ '2:-1': 4, '4:-1': 4 });
});

test('a page that two processes map is left alone, until one of them has ended', () => {
  const { k } = testKernel();
  runProgram(k, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 2 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 2));
    const child = yield* call(user.fork((other) => other.compute(100_000), 1));
    const before = ptesAt(k, user.mm, BASE, 2);
    yield* call(pageOut(user, 2));
    expect(ptesAt(k, user.mm, BASE, 2)).toEqual(before);
    yield* call(user.join(child));
    yield* call(user.compute(100_000));
    yield* call(pageOut(user, 2));
    expect(ptesAt(k, user.mm, BASE, 2).every(isSwapPte)).toBe(true);
  });
  expect([...k.warnings, ...lostFrames(k)]).toEqual([]);
});

test('zero pages, huge pages, shared memory, raw frames and holes are passed over', () => {
  const { k } = testKernel();
  runProgram(k, function* (user) {
    const flags = { read: true, write: true, hugetlb: false, hugepage: false, pfnmap: false };
    yield* call(user.mmap({ addr: BASE, length: 4 * PAGE_SIZE }));
    yield* call(user.read(BASE, 1));
    const shared = { ...flags, shared: true };
    yield* call(user.mmap({ addr: BASE + 2 ** 30, length: PAGE_SIZE, flags: shared }));
    yield* call(user.touch(BASE + 2 ** 30, 1));
    const huge = { ...flags, shared: false, hugepage: true };
    yield* call(user.mmap({ addr: BASE + 2 ** 31, length: 2 ** 21, flags: huge }));
    yield* call(user.touch(BASE + 2 ** 31, 1));
    const pfnmap = { ...flags, shared: false, pfnmap: true };
    yield* call(user.mmap({ addr: BASE + 2 ** 32, length: PAGE_SIZE, flags: pfnmap }));
    yield* call(user.touch(BASE + 2 ** 32, 1));
    const { mm } = user;
    const raw = ptesAt(k, mm, BASE + 2 ** 32, 1);
    yield* call(user.madvise(BASE + 2 ** 32, PAGE_SIZE, Madvise.PAGEOUT));
    expect(ptesAt(k, mm, BASE + 2 ** 32, 1)).toEqual(raw);
    for (const addr of [BASE, BASE + 2 ** 30, BASE + 2 ** 31])
      yield* call(user.madvise(addr, PAGE_SIZE, Madvise.PAGEOUT));
    expect(pteHas(ptesAt(k, user.mm, BASE, 1)[0] ?? 0, Pte.present)).toBe(true);
    expect(pteHas(ptesAt(k, user.mm, BASE + 2 ** 30, 1)[0] ?? 0, Pte.present)).toBe(true);
    expect(flushesSoFar(k)).toEqual({});
  });
  expect([...k.warnings]).toEqual([]);
});

test('who unmaps afterwards catches up with what was put off, once', () => {
  const { k } = testKernel({ kernel: '6.12.117' });
  runProgram(k, (user) =>
    besideSpinner(user, function* () {
      yield* call(user.mmap({ addr: BASE, length: 8 * PAGE_SIZE }));
      yield* call(user.touch(BASE, 8));
      yield* call(pageOut(user, 8));
      const { tlbFlushBatched } = user.mm;
      expect(tlbFlushBatched.value).toEqual({ pending: 8, flushed: 0 });
      yield* call(user.mprotect(BASE, 8 * PAGE_SIZE, { read: true, write: false }));
      expect(tlbFlushBatched.value).toEqual({ pending: 8, flushed: 8 });
      const before = flushesSoFar(k)['3:-1'];
      yield* call(user.madvise(BASE, 8 * PAGE_SIZE, Madvise.DONTNEED));
      expect(flushesSoFar(k)['3:-1']).toBe(before);
    }),
  );
});

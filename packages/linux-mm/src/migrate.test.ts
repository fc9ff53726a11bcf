/** Migration by mbind: against recordings, and what it must never do. */
import { call, PAGE_SIZE, ptePfn } from '@shootdown/machine';
import {
  allocPages,
  freePages,
  isMigrationPte,
  KERNEL_COSTS,
  type Kthread,
  type MmStruct,
  type Page,
  putPage,
  spinLock,
  spinUnlock,
} from '@shootdown/mmu-gather';
import { roundRobin, runByClock } from '@shootdown/sim';
import { expect, test } from 'vitest';
import { gupFast } from './gup.ts';
import { runProgram, testKernel } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import { Errno, type MmKernel } from './mm.ts';
import {
  all,
  beside,
  flushesSoFar,
  lostFrames,
  mappedAt,
  misfits,
  move,
  nodes,
  ptesAt,
  runWatched,
  shootdowns,
  watchFrees,
  withPages,
} from './reclaim.testlib.ts';
import { ANON_RW } from './vma.ts';
import { migrate } from './workloads/migrate.ts';
import { BASE, setUpWorkload } from './workloads/workload.ts';

const LIST = [1, 8, 33, 64, 512];

// Recordings of Linux 6.12.117, 8 CPUs, 2 nodes: wl migrate T=1 N=4, T=4 N=3 and T=8 N=2. Every
// phase has the same events, whatever its number of pages.
test.each([
  { threads: 1, iterations: 4, events: { '2:-1': 4, '4:-1': 4 } },
  { threads: 4, iterations: 3, events: { '1:-1': 9, '2:-1': 3, '4:-1': 3 } },
  { threads: 8, iterations: 2, events: { '1:-1': 14, '2:-1': 2, '4:-1': 2 } },
])('flushes as Linux 6.12.117 does: wl migrate T=$threads N=$iterations', (recorded) => {
  const { threads, iterations, events } = recorded;
  const { k } = testKernel({ cpus: 8, nodes: 2, kernel: '6.12.117' });
  const frees = watchFrees(k);
  const phases = setUpWorkload(k, migrate, { threads, values: { list: LIST, iterations } });
  runByClock(k.machine, { costs: KERNEL_COSTS });
  expect([...frees, ...k.warnings, ...lostFrames(k)]).toEqual([]);
  expect(phases.counts.map((phase) => [phase.name, shootdowns(phase)])).toEqual(
    LIST.map((pages) => [`migrate pages=${pages}`, events]),
  );
  // pgmigrate_success of the recordings.
  expect(phases.counts.map(({ vmstat }) => vmstat['pgmigrate_success'])).toEqual(
    LIST.map((pages) => pages * iterations),
  );
});

test('pages go to the other node, with their entries as they were, and the old frames are free', () => {
  const { k } = testKernel({ nodes: 2 });
  const wrong = withPages(k, 8, function* (user) {
    yield* call(user.mprotect(BASE, 4 * PAGE_SIZE, { read: true, write: false }));
    const before = ptesAt(k, user.mm, BASE, 8);
    expect(nodes(k, user.mm, 8)).toEqual(all(8, 0));
    const free = freePages(k);
    expect(yield* call(move(user, 8, 1))).toBe(0);
    expect(nodes(k, user.mm, 8)).toEqual(all(8, 1));
    const flags = (pte: number): number => pte - ptePfn(pte) * PAGE_SIZE;
    expect(ptesAt(k, user.mm, BASE, 8).map(flags)).toEqual(before.map(flags));
    expect(freePages(k)).toBe(free);
    expect(misfits(k, user.mm, BASE, 8)).toEqual([]);
    expect(mappedAt(k, user.mm, BASE).anonExclusive).toBe(true);
    // Where they are already nothing moves.
    const flushes = flushesSoFar(k);
    expect(yield* call(move(user, 8, 1))).toBe(0);
    expect(flushesSoFar(k)).toEqual(flushes);
    expect(k.stats.vmstat.pgmigrate_success).toBe(8);
  });
  expect(wrong).toEqual([]);
});

test('what is no range, no node or not mapped is refused', () => {
  const { k } = testKernel({ nodes: 2 });
  const wrong = withPages(k, 8, function* (user) {
    const { mm } = user;
    expect(yield* call(user.mbind(BASE + 1, PAGE_SIZE, 1))).toBe(Errno.EINVAL);
    expect(yield* call(user.mbind(BASE, PAGE_SIZE, 2))).toBe(Errno.EINVAL);
    expect(yield* call(user.mbind(BASE, 9 * PAGE_SIZE, 1))).toBe(Errno.EFAULT);
    expect(yield* call(user.mbind(BASE, 0, 1))).toBe(0);
    expect(nodes(k, mm, 8)).toEqual(all(8, 0));
  });
  expect(wrong).toEqual([]);
});

test('no page is copied before every CPU has forgotten it', () => {
  const { k } = testKernel({ cpus: 2, nodes: 2, machine: { tlb: 'mayCached' } });
  let moved: readonly number[] = [];
  beside(
    k,
    8,
    function* (user) {
      for (let i = 0; i < 3; i++) yield* call(move(user, 8, (i + 1) % 2));
      moved = nodes(k, user.mm, 8);
    },
    function* (user) {
      for (let i = 0; i < 400; i++) yield* call(user.touch(BASE, 8));
    },
  );
  expect(runWatched(k, roundRobin(), true)).toEqual([]);
  expect(moved).toEqual(all(8, 1));
});

test('who faults on a page that moves waits, and finds it where it has gone', () => {
  const { k } = testKernel({ cpus: 2, nodes: 2 });
  const waits: number[] = [];
  let found: readonly number[] = [];
  const isMoving = (mm: MmStruct): boolean => ptesAt(k, mm, BASE, 1).some(isMigrationPte);
  const frees = watchFrees(k);
  beside(
    k,
    64,
    (user) => move(user, 64, 1),
    function* (user) {
      while (!isMoving(user.mm)) yield* call(user.compute(100));
      const faults = k.stats.vmstat.pgfault;
      const from = k.machine.time;
      yield* call(user.touch(BASE, 1));
      waits.push(k.machine.time - from, k.stats.vmstat.pgfault - faults);
      found = nodes(k, user.mm, 1);
    },
  );
  runByClock(k.machine, { costs: KERNEL_COSTS });
  const [time = 0, faults] = waits;
  expect(faults).toBe(1);
  // Through the copying of its page, and more.
  expect(time).toBeGreaterThan(KERNEL_COSTS['copyPage']?.ns ?? Infinity);
  expect(found).toEqual([1]);
  expect([...frees, ...k.warnings, ...lostFrames(k)]).toEqual([]);
});

test('a page that somebody else holds is tried twice and stays mapped as it was', () => {
  const { k } = testKernel({ nodes: 2, kernel: '6.12.117' });
  const held: Page[] = [];
  const wrong = withPages(k, 4, function* (user) {
    const stop = k.machine.cell('stop', false);
    const helper = yield* call(user.thread(1, (other) => other.spin(stop)));
    yield* call(user.compute(10_000));
    const start = BASE + PAGE_SIZE;
    const end = start + PAGE_SIZE;
    yield* call(gupFast(k, { start, end, write: true, pin: false, pages: held }));
    const before = ptesAt(k, user.mm, BASE, 4);
    expect(yield* call(move(user, 4, 1))).toBe(0);
    expect(nodes(k, user.mm, 4)).toEqual([1, 0, 1, 1]);
    expect(ptesAt(k, user.mm, BASE, 4)[1]).toBe(before[1]);
    expect(k.stats.vmstat.pgmigrate_success).toBe(3);
    // Once with the batch; then alone, and not put off.
    expect(flushesSoFar(k)).toMatchObject({ '2:-1': 1, '3:1': 1 });
    for (const page of held) yield* call(putPage(k, page));
    yield* call(move(user, 4, 1));
    expect(nodes(k, user.mm, 4)).toEqual(all(4, 1));
    yield* call(user.set(stop));
    yield* call(user.join(helper));
  });
  expect(held.length).toBe(1);
  expect(wrong).toEqual([]);
});

/** Takes frames of node 1 until `left` are left; gives them. */
function* fill(k: MmKernel, left: number): Kthread<readonly Page[]> {
  const taken: Page[] = [];
  const request = { gfp: 'GFP_KERNEL', purpose: 'test', node: 1, thisNode: true } as const;
  while ((k.pages.zones[1]?.area.value.free ?? 0) > left) {
    const page = yield* call(allocPages(k, request));
    if (page !== null) taken.push(page);
  }
  return taken;
}

test.each([0, 3])('without memory for more than %i pages on the node the others stay', (room) => {
  const { k } = testKernel({ nodes: 2, frames: 2048 });
  const wrong = withPages(k, 8, function* (user) {
    const taken = yield* call(fill(k, room));
    const before = ptesAt(k, user.mm, BASE, 8);
    const flushes = flushesSoFar(k);
    expect(yield* call(move(user, 8, 1))).toBe(0);
    expect(nodes(k, user.mm, 8)).toEqual([...all(room, 1), ...all(8 - room, 0)]);
    expect(ptesAt(k, user.mm, BASE, 8).slice(room)).toEqual(before.slice(room));
    if (room === 0) expect(flushesSoFar(k)).toEqual(flushes);
    expect(misfits(k, user.mm, BASE, 8)).toEqual([]);
    for (const page of taken) yield* call(putPage(k, page));
    yield* call(move(user, 8, 1));
    expect(nodes(k, user.mm, 8)).toEqual(all(8, 1));
  });
  expect(wrong).toEqual([]);
});

test('a page whose lock is held is waited for, alone', () => {
  const { k } = testKernel({ cpus: 2, nodes: 2, kernel: '6.12.117' });
  let moved: readonly number[] = [];
  beside(
    k,
    4,
    function* (user) {
      yield* call(user.compute(10_000));
      yield* call(move(user, 4, 1));
      moved = nodes(k, user.mm, 4);
    },
    function* (user) {
      const { lock } = mappedAt(k, user.mm, BASE);
      yield* spinLock(lock);
      yield* call(user.compute(100_000));
      yield* spinUnlock(lock);
    },
  );
  runByClock(k.machine, { costs: KERNEL_COSTS });
  expect(moved).toEqual(all(4, 1));
  expect(flushesSoFar(k)).toMatchObject({ '2:-1': 1, '3:1': 1 });
  expect([...k.warnings, ...lostFrames(k)]).toEqual([]);
});

test('what is unmapped while it moves is not mapped again', () => {
  const { k } = testKernel({ cpus: 2, nodes: 2 });
  const frees = watchFrees(k);
  let zapped: readonly number[] = [];
  beside(
    k,
    64,
    function* (user) {
      yield* call(move(user, 64, 1));
      yield* call(user.compute(1_000_000));
      zapped = ptesAt(k, user.mm, BASE, 64);
    },
    function* (user) {
      while (!ptesAt(k, user.mm, BASE + 63 * PAGE_SIZE, 1).some(isMigrationPte))
        yield* call(user.compute(100));
      yield* call(user.madvise(BASE, 64 * PAGE_SIZE, Madvise.DONTNEED));
    },
  );
  runByClock(k.machine, { costs: KERNEL_COSTS });
  expect(zapped).toEqual(all(64, 0));
  expect([...frees, ...k.warnings, ...lostFrames(k)]).toEqual([]);
});

test('more than 512 pages are two batches, with a flush each', () => {
  const { k } = testKernel({ nodes: 2, kernel: '6.12.117', frames: 4096 });
  const wrong = withPages(k, 513, function* (user) {
    const stop = k.machine.cell('stop', false);
    const helper = yield* call(user.thread(1, (other) => other.spin(stop)));
    yield* call(user.compute(10_000));
    yield* call(move(user, 513, 1));
    expect(flushesSoFar(k)).toMatchObject({ '2:-1': 2, '4:-1': 2 });
    expect(nodes(k, user.mm, 513)).toEqual(all(513, 1));
    yield* call(user.set(stop));
    yield* call(user.join(helper));
  });
  expect(wrong).toEqual([]);
});

test('zero pages and raw frames stay', () => {
  const { k } = testKernel({ nodes: 2 });
  runProgram(k, function* (user) {
    const { mm } = user;
    const flags = { ...ANON_RW, pfnmap: true };
    yield* call(user.mmap({ addr: BASE, length: PAGE_SIZE }));
    yield* call(user.mmap({ addr: BASE + PAGE_SIZE, length: PAGE_SIZE, flags }));
    yield* call(user.read(BASE, 1));
    yield* call(user.touch(BASE + PAGE_SIZE, 1));
    const before = ptesAt(k, mm, BASE, 2);
    expect(yield* call(move(user, 2, 1))).toBe(0);
    expect(ptesAt(k, mm, BASE, 2)).toEqual(before);
    expect(k.stats.vmstat.pgmigrate_success).toBe(0);
  });
});

test('a page that is let go while others move is moved in the same batch', () => {
  const { k } = testKernel({ cpus: 2, nodes: 2, kernel: '6.12.117' });
  let moved: readonly number[] = [];
  beside(
    k,
    64,
    function* (user) {
      yield* call(user.compute(10_000));
      yield* call(move(user, 64, 1));
      moved = nodes(k, user.mm, 64);
    },
    function* (user) {
      const got: Page[] = [];
      const end = BASE + PAGE_SIZE;
      yield* call(gupFast(k, { start: BASE, end, write: true, pin: false, pages: got }));
      // Until the first of the others has arrived.
      while (nodes(k, user.mm, 2)[1] !== 1) yield* call(user.compute(100));
      for (const page of got) yield* call(putPage(k, page));
      yield* call(user.compute(1_000_000));
    },
  );
  runByClock(k.machine, { costs: KERNEL_COSTS });
  expect(moved).toEqual(all(64, 1));
  expect(flushesSoFar(k)).toMatchObject({ '2:-1': 1 });
  expect(flushesSoFar(k)).not.toHaveProperty('3:1');
});

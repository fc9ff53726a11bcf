/** Page faults of user accesses: what is put where something is missing, and what it costs others. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { completion, freePages, type Kthread, RELEASES, startCpus } from '@shootdown/mmu-gather';
import { randomScheduler, schedule } from '@shootdown/sim';
import { expect, test } from 'vitest';
import {
  findings,
  mapHuge,
  mapping,
  mapTouched,
  MIB2,
  NONE,
  pageAt,
  RO,
  RW,
  Scene,
  takeAllBut,
} from './callers.testlib.ts';
import { runProgram, testKernel } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import type { MmKernel } from './mm.ts';
import { newProcess, type Program, type User } from './user.ts';
import { ANON_RW } from './vma.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

const map = (user: User, pages: number): Kthread<number> =>
  user.mmap({ addr: BASE, length: pages * PAGE_SIZE });

test('a read finds the zero page, and takes no frame but for tables', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(map(user, 4));
    const before = freePages(k);
    yield* call(user.read(BASE, 4));
    for (let n = 0; n < 4; n++) expect(mapping(k, user.mm, BASE + n * PAGE_SIZE)).toBe('zero');
    // A PUD, a PMD and a PTE table.
    expect(before - freePages(k)).toBe(3);
    expect(k.stats.vmstat.pgfault).toBe(4);
  });
  expect(scene.wrong).toEqual([]);
});

test('a write makes a page, which is exclusive, and flushes nothing', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(map(user, 2));
    const seen = yield* call(scene.during(user.touch(BASE, 2)));
    expect(seen.flushes).toEqual({});
    const page = pageAt(k, user.mm, BASE);
    expect(mapping(k, user.mm, BASE)).toBe('rw');
    expect(page.anonExclusive).toBe(true);
    expect(page.refcount.value).toBe(1);
    expect(page.mappings.value).toEqual([{ mm: user.mm, addr: BASE }]);
  });
  expect(scene.wrong).toEqual([]);
});

test('the first write to a zero page is a copy: one flush of one page where others run the mm', () => {
  const scene = new Scene();
  scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
    yield* call(map(user, 3));
    yield* call(user.read(BASE, 3));
    const seen = yield* call(scene.during(user.touch(BASE, 3)));
    expect(seen.flushes).toEqual({ '4:1': 3, '3:1': 3, '1:1': 3 });
    // No table goes: the lazy CPU sleeps on.
    expect(seen.interrupts).toEqual([0, 3, 0, 0]);
    expect(mapping(scene.k, user.mm, BASE)).toBe('rw');
  });
  expect(scene.wrong).toEqual([]);
});

test('alone, it is a local flush', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    yield* call(map(user, 1));
    yield* call(user.read(BASE, 1));
    expect((yield* call(scene.during(user.touch(BASE, 1)))).flushes).toEqual({ '3:1': 1 });
  });
  expect(scene.wrong).toEqual([]);
});

test('a page that one has alone is written to where it is, without a flush', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    const { pfn } = pageAt(k, user.mm, BASE);
    const child = yield* call(user.fork((other) => other.compute(1000), 2));
    expect(pageAt(k, user.mm, BASE).anonExclusive).toBe(false);
    yield* call(user.join(child));
    yield* call(user.compute(100_000));
    // The child's reference has gone with it.
    const seen = yield* call(scene.during(user.touch(BASE, 2)));
    expect(seen.flushes).toEqual({});
    expect(pageAt(k, user.mm, BASE).pfn).toBe(pfn);
    expect(pageAt(k, user.mm, BASE).anonExclusive).toBe(true);
    expect(mapping(k, user.mm, BASE)).toBe('rw');
  });
  expect(scene.wrong).toEqual([]);
});

test.each([
  { what: 'outside of every VMA', at: BASE + PAGE_SIZE, write: false, flags: ANON_RW },
  { what: 'of a write to read-only memory', at: BASE, write: true, flags: { ...ANON_RW, ...RO } },
  { what: 'of a read of PROT_NONE', at: BASE, write: false, flags: { ...ANON_RW, ...NONE } },
])('SIGSEGV $what: the workload is wrong', ({ at, write, flags }) => {
  const { k } = testKernel();
  const run = (): unknown =>
    runProgram(k, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: PAGE_SIZE, flags }));
      yield* call(user.access(at, write));
    });
  expect(run).toThrow(expect.objectContaining({ code: 'ERR_WORKLOAD' }));
});

test('memory that may only be written is readable too, as on the hardware', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    const flags = { ...ANON_RW, read: false };
    yield* call(user.mmap({ addr: BASE, length: 2 * PAGE_SIZE, flags }));
    yield* call(user.touch(BASE, 1));
    yield* call(user.read(BASE, 2));
    yield* call(user.mprotect(BASE, 2 * PAGE_SIZE, RO));
    yield* call(user.mprotect(BASE, 2 * PAGE_SIZE, { read: false, write: true }));
    yield* call(user.touch(BASE, 2));
  });
  expect(scene.wrong).toEqual([]);
});

/** Touches `then` with so many frames left. */
const short =
  (k: MmKernel, left: number, before: Program, then: Program): (() => unknown) =>
  () =>
    runProgram(
      k,
      function* (user) {
        yield* call(before(user));
        yield* call(takeAllBut(k, left));
        yield* call(then(user));
      },
      // Who tries again and again is stopped.
      { untilNs: 100_000_000 },
    );

test.each([
  { left: 0, what: 'a PTE table' },
  { left: 1, what: 'the page' },
])('with no frame for $what there is an error, and it says so', ({ left }) => {
  const { k } = testKernel({ frames: 1024 });
  const run = short(
    k,
    left,
    function* (user) {
      yield* call(mapTouched(user, BASE, 1));
      yield* call(user.mmap({ addr: BASE + MIB2, length: PAGE_SIZE }));
    },
    (user) => user.touch(BASE + MIB2, 1),
  );
  expect(run).toThrow(expect.objectContaining({ code: 'ERR_MEMORY' }));
});

test('with no frame for a copy there is an error', () => {
  const { k } = testKernel({ frames: 1024 });
  const run = short(
    k,
    0,
    function* (user) {
      yield* call(map(user, 1));
      yield* call(user.read(BASE, 1));
    },
    (user) => user.touch(BASE, 1),
  );
  expect(run).toThrow(expect.objectContaining({ code: 'ERR_MEMORY' }));
});

/** Two threads that do the same at the same time, in some order of steps; gives what went wrong. */
function race(k: MmKernel, seed: number, before: Program, both: Program, after: Program): string[] {
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(before(user));
    const other = yield* call(user.thread(1, both));
    yield* call(both(user));
    yield* call(user.join(other));
    yield* call(after(user));
  });
  startCpus(k);
  const { ended } = schedule(k.machine, randomScheduler(seed));
  return [...(ended ? [] : ['did not end']), ...findings(k)];
}

const SEEDS = Array.from({ length: 25 }, (_, seed) => seed + 1);

test.each(['6.12.117', '7.0'] as const)(
  '%s: two threads fault on one page: one page is mapped, the other is given back',
  (kernel) => {
    for (const seed of SEEDS) {
      const { k } = testKernel({ cpus: 2, kernel, frames: 1024 });
      const wrong = race(
        k,
        seed,
        (user) => map(user, 2),
        (user) => user.touch(BASE, 2),
        function* (user) {
          yield* call(user.read(BASE, 2));
          for (const addr of [BASE, BASE + PAGE_SIZE])
            expect(pageAt(k, user.mm, addr).refcount.value).toBe(1);
        },
      );
      expect({ seed, wrong }).toEqual({ seed, wrong: [] });
    }
  },
);

test('two threads fault on one huge page: the other one is given back, and its table', () => {
  for (const seed of SEEDS) {
    const { k } = testKernel({ cpus: 2, frames: 2048 });
    const flags = { ...ANON_RW, hugepage: true };
    const wrong = race(
      k,
      seed,
      (user) => user.mmap({ addr: BASE, length: MIB2, flags }),
      (user) => user.touch(BASE, 1),
      function* (user) {
        expect(mapping(k, user.mm, BASE)).toBe('huge-rw');
        expect(pageAt(k, user.mm, BASE).refcount.value).toBe(1);
        yield* call(user.read(BASE, 1));
      },
    );
    expect({ seed, wrong }).toEqual({ seed, wrong: [] });
  }
});

test('two threads copy one page of a parent: one copy is mapped', () => {
  for (const seed of SEEDS) {
    const { k } = testKernel({ cpus: 3, frames: 1024 });
    const go = completion(k.machine, 'go');
    const wrong = race(
      k,
      seed,
      function* (user) {
        yield* call(mapTouched(user, BASE, 1));
        yield* call(user.fork((child) => child.waitFor(go, 1), 2));
      },
      (user) => user.touch(BASE, 1),
      function* (user) {
        const { refcount, anonExclusive } = pageAt(k, user.mm, BASE);
        expect([refcount.value, anonExclusive]).toEqual([1, true]);
        yield* call(user.signal(go));
      },
    );
    expect({ seed, wrong }).toEqual({ seed, wrong: [] });
  }
});

test.each(RELEASES)(
  '%s: a fault against MADV_DONTNEED, which may free the table under it',
  (kernel) => {
    for (const seed of SEEDS.slice(0, 10)) {
      const { k } = testKernel({ cpus: 2, kernel, frames: 1024 });
      const wrong = race(
        k,
        seed,
        (user) => user.mmap({ addr: BASE, length: MIB2 }),
        function* (user) {
          yield* call(user.touch(BASE, 1));
          yield* call(user.madvise(BASE, MIB2, Madvise.DONTNEED));
          yield* call(user.read(BASE, 1));
          yield* call(user.touch(BASE, 1));
        },
        (user) => user.touch(BASE, 1),
      );
      expect({ seed, wrong }).toEqual({ seed, wrong: [] });
    }
  },
);

test('what was paged out comes back when it is read, and a later write needs no copy', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    yield* call(user.madvise(BASE, PAGE_SIZE, Madvise.PAGEOUT));
    expect(mapping(k, user.mm, BASE)).toBe('swap');
    yield* call(user.read(BASE, 1));
    expect(mapping(k, user.mm, BASE)).toBe('ro');
    expect(pageAt(k, user.mm, BASE).anonExclusive).toBe(true);
    expect((yield* call(scene.during(user.touch(BASE, 1)))).flushes).toEqual({});
    expect(mapping(k, user.mm, BASE)).toBe('rw');
  });
  expect(scene.wrong).toEqual([]);
});

test('what was paged out and is discarded does not come back', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    yield* call(user.madvise(BASE, 2 * PAGE_SIZE, Madvise.PAGEOUT));
    yield* call(user.madvise(BASE, PAGE_SIZE, Madvise.DONTNEED));
    yield* call(user.read(BASE, 2));
    expect(mapping(k, user.mm, BASE)).toBe('zero');
    expect(mapping(k, user.mm, BASE + PAGE_SIZE)).toBe('ro');
  });
  expect(scene.wrong).toEqual([]);
});

test('what is in swap and shared after fork comes back for each by itself', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    yield* call(user.madvise(BASE, PAGE_SIZE, Madvise.PAGEOUT));
    const child = yield* call(
      user.fork(function* (other) {
        expect(mapping(k, other.mm, BASE)).toBe('swap');
        yield* call(other.touch(BASE, 1));
      }, 1),
    );
    yield* call(user.join(child));
    expect(mapping(k, user.mm, BASE)).toBe('swap');
    yield* call(user.touch(BASE, 1));
    expect(pageAt(k, user.mm, BASE).refcount.value).toBe(1);
  });
  expect(scene.wrong).toEqual([]);
});

test('shared memory is written to by all, whoever was write-protected', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    const flags = { ...ANON_RW, shared: true };
    yield* call(user.mmap({ addr: BASE, length: PAGE_SIZE, flags }));
    yield* call(user.touch(BASE, 1));
    const { pfn } = pageAt(k, user.mm, BASE);
    const child = yield* call(
      user.fork(function* (other) {
        expect(mapping(k, other.mm, BASE)).toBe('rw');
        yield* call(other.mprotect(BASE, PAGE_SIZE, RO));
        yield* call(other.mprotect(BASE, PAGE_SIZE, RW));
        yield* call(other.touch(BASE, 1));
        expect(pageAt(k, other.mm, BASE).pfn).toBe(pfn);
      }, 1),
    );
    yield* call(user.join(child));
    yield* call(user.touch(BASE, 1));
    expect(pageAt(k, user.mm, BASE).pfn).toBe(pfn);
  });
  expect(scene.wrong).toEqual([]);
});

test('the trace has every fault with the error code that the CPU gives', () => {
  const { k, records } = testKernel({ record: true });
  runProgram(k, function* (user) {
    yield* call(map(user, 2));
    yield* call(user.read(BASE, 1));
    yield* call(user.touch(BASE, 1));
    yield* call(user.touch(BASE + PAGE_SIZE, 1));
    yield* call(user.mprotect(BASE, PAGE_SIZE, NONE));
    yield* call(user.mprotect(BASE, PAGE_SIZE, RW));
    yield* call(user.touch(BASE, 1));
    yield* call(mapHuge(user, BASE + MIB2));
  });
  const faults = records
    .filter(({ event }) => event.kind === 'page_fault')
    .map(({ event }) => event);
  // User is 4, write 2, and 1 that an entry was there: only of the write to the zero page.
  expect(faults).toMatchObject([
    { name: 'page_fault_user', address: BASE, errorCode: 4 },
    { name: 'page_fault_user', address: BASE, errorCode: 7 },
    { name: 'page_fault_user', address: BASE + PAGE_SIZE, errorCode: 6 },
    { name: 'page_fault_user', address: BASE + MIB2, errorCode: 6 },
  ]);
  expect(faults).toHaveLength(4);
});

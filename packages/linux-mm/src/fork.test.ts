/** fork and copy on write. */
import { call, PAGE_SIZE, Pte, pteHas } from '@shootdown/machine';
import { completion, freePages, type Kthread, startCpus } from '@shootdown/mmu-gather';
import { randomScheduler, schedule } from '@shootdown/sim';
import { expect, test } from 'vitest';
import {
  findings,
  GIB,
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
import { dupMm } from './fork.ts';
import { testKernel } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import { misfits } from './reclaim.testlib.ts';
import { newProcess, type Program, type User } from './user.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

const ONE_PAGE = { '4:1': 1, '3:1': 1, '1:1': 1 };

/** A child on CPU 3 that waits until `program` has ended. */
function* withChild(user: User, program: Program, childs?: Program): Kthread {
  const go = completion(user.k.machine, 'go');
  const child = yield* call(
    user.fork(function* (other) {
      yield* call(other.waitFor(go, 1));
      if (childs !== undefined) yield* call(childs(other));
    }, 3),
  );
  yield* call(user.compute(100_000));
  yield* call(program(user));
  yield* call(user.signal(go));
  yield* call(user.join(child));
}

test('fork flushes everything of the parent, once, and that reaches lazy CPUs too', () => {
  const scene = new Scene();
  scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
    yield* call(mapTouched(user, BASE, 4));
    const seen = yield* call(scene.during(user.fork((child) => child.read(BASE, 4), 3)));
    expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1 });
    expect(seen.interrupts.slice(0, 3)).toEqual([0, 1, 1]);
    expect(seen.events).toEqual([]);
    yield* call(user.compute(100_000));
  });
  expect(scene.wrong).toEqual([]);
});

test('with nothing mapped it does so all the same', () => {
  const scene = new Scene();
  scene.runBeside({}, function* (user) {
    const seen = yield* call(scene.during(user.fork((child) => child.compute(1), 3)));
    expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1 });
    yield* call(user.compute(100_000));
  });
  expect(scene.wrong).toEqual([]);
});

test('both map the same pages, and neither may write any more', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    yield* call(user.read(BASE, 2));
    const page = pageAt(k, user.mm, BASE);
    yield* call(
      withChild(
        user,
        function* () {
          expect(page.refcount.value).toBe(2);
          expect(page.mappings.value).toHaveLength(2);
          expect(page.anonExclusive).toBe(false);
          expect(mapping(k, user.mm, BASE)).toBe('ro');
          expect(misfits(k, user.mm, BASE, 2)).toEqual([]);
          yield* call(user.read(BASE, 2));
        },
        function* (other) {
          expect(mapping(k, other.mm, BASE)).toBe('ro');
          expect(pageAt(k, other.mm, BASE)).toBe(page);
          // The child has not accessed it yet.
          expect(pteHas(leafAt(k, other.mm, BASE), Pte.accessed)).toBe(false);
          yield* call(other.read(BASE, 1));
          expect(pteHas(leafAt(k, other.mm, BASE), Pte.accessed)).toBe(true);
        },
      ),
    );
  });
  expect(scene.wrong).toEqual([]);
});

test('a write is a copy and one flush of that page; the child keeps the old one for itself', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
    yield* call(mapTouched(user, BASE, 3));
    const old = pageAt(k, user.mm, BASE).pfn;
    yield* call(
      withChild(
        user,
        function* () {
          const seen = yield* call(scene.during(user.touch(BASE, 1)));
          expect(seen.flushes).toEqual(ONE_PAGE);
          // Not the lazy CPU, nor the child's.
          expect(seen.interrupts).toEqual([0, 1, 0, 0]);
          expect(pageAt(k, user.mm, BASE).pfn).not.toBe(old);
          expect(pageAt(k, user.mm, BASE).anonExclusive).toBe(true);
          // It is the parent's own now.
          expect((yield* call(scene.during(user.touch(BASE, 1)))).flushes).toEqual({});
        },
        function* (other) {
          expect(pageAt(k, other.mm, BASE).pfn).toBe(old);
          expect(pageAt(k, other.mm, BASE).refcount.value).toBe(1);
          // Nobody else has it: no copy, no flush. The second page is shared still.
          expect((yield* call(scene.during(other.touch(BASE, 1)))).flushes).toEqual({});
          expect(pageAt(k, other.mm, BASE).pfn).toBe(old);
          expect((yield* call(scene.during(other.touch(BASE + PAGE_SIZE, 1)))).flushes).toEqual({
            '3:1': 1,
          });
        },
      ),
    );
  });
  expect(scene.wrong).toEqual([]);
});

test('what was read-only before stays as it is, and the zero page is nobody else’s', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    yield* call(user.mprotect(BASE, PAGE_SIZE, RO));
    yield* call(user.mmap({ addr: BASE + PAGE_SIZE, length: PAGE_SIZE }));
    yield* call(user.read(BASE + PAGE_SIZE, 1));
    const before = leafAt(k, user.mm, BASE);
    yield* call(
      withChild(user, function* () {
        expect(leafAt(k, user.mm, BASE)).toBe(before);
        expect(pageAt(k, user.mm, BASE).refcount.value).toBe(2);
        expect(mapping(k, user.mm, BASE + PAGE_SIZE)).toBe('zero');
        yield* call(user.read(BASE, 2));
      }),
    );
    expect(k.pages.pages.get(1)?.refcount.value).toBe(1);
  });
  expect(scene.wrong).toEqual([]);
});

test('children of children: a page is copied until one is left, and all frames come back', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    const old = pageAt(k, user.mm, BASE).pfn;
    const child = yield* call(
      user.fork(function* (second) {
        const third = yield* call(
          second.fork(function* (last) {
            expect(pageAt(k, last.mm, BASE).refcount.value).toBe(3);
            yield* call(last.touch(BASE, 1));
            expect(pageAt(k, last.mm, BASE).pfn).not.toBe(old);
          }, 2),
        );
        yield* call(second.join(third));
        yield* call(second.compute(100_000));
        expect(pageAt(k, second.mm, BASE).refcount.value).toBe(2);
        yield* call(second.touch(BASE, 2));
      }, 1),
    );
    yield* call(user.join(child));
    yield* call(user.compute(100_000));
    expect(pageAt(k, user.mm, BASE).refcount.value).toBe(1);
    yield* call(user.touch(BASE, 2));
    expect(pageAt(k, user.mm, BASE).pfn).toBe(old);
  });
  expect(scene.wrong).toEqual([]);
});

test('write_protect_seq is odd while entries lose their write bit, and even otherwise', () => {
  for (let seed = 1; seed <= 10; seed++) {
    const { k } = testKernel({ cpus: 2, frames: 1024 });
    const mm = emptyMm(k);
    newProcess(k, { comm: 'test', cpu: 0, mm }, function* (user) {
      yield* call(mapTouched(user, BASE, 3));
      yield* call(user.fork((child) => child.read(BASE, 3), 1));
    });
    startCpus(k);
    const random = randomScheduler(seed);
    let writable = 0;
    const lost: number[] = [];
    const run = schedule(k.machine, {
      name: 'watching',
      pick(enabled, machine) {
        const now = [0, 1, 2].filter((n) => mapping(k, mm, BASE + n * PAGE_SIZE) === 'rw').length;
        if (now < writable && mm.users.value === 1) lost.push(mm.writeProtectSeq.value % 2);
        writable = now;
        return random.pick(enabled, machine);
      },
    });
    expect(run.ended).toBe(true);
    expect(lost.slice(0, 3)).toEqual([1, 1, 1]);
    // One VMA was copied.
    expect(mm.writeProtectSeq.value).toBe(2);
    expect(findings(k)).toEqual([]);
  }
});

test('a huge page is shared as a whole, with a table for each to split it into', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapHuge(user, BASE));
    const page = pageAt(k, user.mm, BASE);
    yield* call(
      withChild(
        user,
        function* () {
          expect(mapping(k, user.mm, BASE)).toBe('huge-ro');
          expect(page.refcount.value).toBe(2);
          // The first write splits the parent's mapping, of the child's nothing changes.
          const seen = yield* call(scene.during(user.touch(BASE + 3 * PAGE_SIZE, 1)));
          expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1, ...ONE_PAGE });
          expect(mapping(k, user.mm, BASE + 3 * PAGE_SIZE)).toBe('rw');
          expect(mapping(k, user.mm, BASE + 4 * PAGE_SIZE)).toBe('ro');
          expect(pageAt(k, user.mm, BASE + 4 * PAGE_SIZE)).toBe(page);
          // One by the child, 511 by the parent.
          expect(page.refcount.value).toBe(512);
        },
        function* (other) {
          expect(mapping(k, other.mm, BASE)).toBe('huge-ro');
          yield* call(other.touch(BASE, 1));
          yield* call(other.read(BASE, 512));
        },
      ),
    );
    yield* call(user.touch(BASE, 512));
  });
  expect(scene.wrong).toEqual([]);
});

test('a huge page whose other owner has gone is written to as a whole', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapHuge(user, BASE));
    const page = pageAt(k, user.mm, BASE);
    yield* call(withChild(user, () => user.read(BASE, 1)));
    yield* call(user.compute(100_000));
    expect((yield* call(scene.during(user.touch(BASE, 1)))).flushes).toEqual({});
    expect(mapping(k, user.mm, BASE)).toBe('huge-rw');
    expect(page.anonExclusive).toBe(true);
  });
  expect(scene.wrong).toEqual([]);
});

test('parts of a shared huge page are unmapped, moved and copied; its frames go with the last', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapHuge(user, BASE));
    const page = pageAt(k, user.mm, BASE);
    yield* call(
      withChild(
        user,
        function* () {
          yield* call(user.munmap(BASE, 8 * PAGE_SIZE));
          yield* call(user.mremap(BASE + 8 * PAGE_SIZE, 8 * PAGE_SIZE, BASE + GIB));
          yield* call(user.madvise(BASE + MIB2 - PAGE_SIZE, PAGE_SIZE, Madvise.DONTNEED));
          // 512 - 8 - 1, and the child's one.
          expect(page.refcount.value).toBe(504);
          expect(misfits(k, user.mm, BASE + GIB, 8)).toEqual([]);
        },
        (other) => other.munmap(BASE, PAGE_SIZE),
      ),
    );
    yield* call(user.compute(100_000));
    expect(page.refcount.value).toBe(503);
    expect(k.pages.pages.has(page.pfn)).toBe(true);
    yield* call(user.munmap(BASE, MIB2));
    yield* call(user.munmap(BASE + GIB, 8 * PAGE_SIZE));
    expect(k.pages.pages.has(page.pfn)).toBe(false);
  });
  expect(scene.wrong).toEqual([]);
});

test.each([0, 1, 2, 3, 4])('with %i frames left a fork fails, and takes none of them', (left) => {
  const scene = new Scene({ frames: 1024 });
  const { k } = scene;
  scene.run(function* (user) {
    const { mm } = user;
    yield* call(mapTouched(user, BASE, 3));
    // A second PTE table, for which the memory is not enough: root, PUD, PMD and one PTE table are 4.
    yield* call(mapTouched(user, BASE + MIB2, 1));
    yield* call(user.madvise(BASE, PAGE_SIZE, Madvise.PAGEOUT));
    const giveBack = yield* call(takeAllBut(k, left));
    const before = freePages(k);
    expect(yield* call(dupMm(k, mm, 'child'))).toBe(null);
    yield* call(user.compute(1000));
    yield* call(giveBack());
    expect(before).toBe(left);
    expect(pageAt(k, mm, BASE + PAGE_SIZE).refcount.value).toBe(1);
    expect(misfits(k, mm, BASE, 3)).toEqual([]);
    yield* call(user.touch(BASE, 3));
    yield* call(user.touch(BASE + MIB2, 1));
  });
  expect(scene.wrong).toEqual([]);
});

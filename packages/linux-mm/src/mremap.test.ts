/** mremap to another place: what moves, what is flushed, and what happens without memory. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { completion, type Kthread, taskSize } from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import {
  mapHuge,
  mapping,
  mapTouched,
  MIB2,
  pageAt,
  RO,
  Scene,
  takeAllBut,
  vmasOf,
} from './callers.testlib.ts';
import { Madvise } from './madvise.ts';
import { Errno } from './mm.ts';
import { misfits } from './reclaim.testlib.ts';
import type { User } from './user.ts';
import { BASE } from './workloads/workload.ts';

const TO = BASE + 32 * MIB2;

const move = (user: User, pages: number, to: number = TO): Kthread<number> =>
  user.mremap(BASE, pages * PAGE_SIZE, to);

test('entries move: the same pages, not present where they were', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    const { mm } = user;
    yield* call(user.mmap({ addr: BASE, length: 5 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 2));
    yield* call(user.read(BASE + 2 * PAGE_SIZE, 1));
    yield* call(user.touch(BASE + 3 * PAGE_SIZE, 1));
    yield* call(user.madvise(BASE + 3 * PAGE_SIZE, PAGE_SIZE, Madvise.PAGEOUT));
    const page = pageAt(k, mm, BASE);
    expect(yield* call(move(user, 5))).toBe(TO);
    expect(pageAt(k, mm, TO)).toBe(page);
    expect(page.mappings.value).toEqual([{ mm, addr: TO }]);
    expect(page.anonExclusive).toBe(true);
    const kinds = (from: number): readonly string[] =>
      [0, 1, 2, 3, 4].map((n) => mapping(k, mm, from + n * PAGE_SIZE));
    expect(kinds(TO)).toEqual(['rw', 'rw', 'zero', 'swap', 'none']);
    expect(kinds(BASE)).toEqual(['none', 'none', 'none', 'none', 'none']);
    expect(vmasOf(mm, TO)).toEqual([[0, 5]]);
    expect(misfits(k, mm, TO, 5)).toEqual([]);
    yield* call(user.touch(TO, 5));
  });
  expect(scene.wrong).toEqual([]);
});

test('one page, whose neighbours keep the tables: one flush, which also reaches lazy CPUs', () => {
  const scene = new Scene();
  scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
    yield* call(mapTouched(user, BASE - PAGE_SIZE, 3));
    yield* call(mapTouched(user, TO - PAGE_SIZE, 1));
    const seen = yield* call(scene.during(move(user, 1)));
    // flush_tlb_range() says that tables are freed.
    expect(seen.flushes).toEqual({ '4:1': 1, '3:1': 1, '1:1': 1 });
    expect(seen.interrupts).toEqual([0, 1, 1, 0]);
    expect(seen.events).toEqual([]);
    // The part behind is still there.
    expect(vmasOf(user.mm, BASE)).toEqual([
      [-1, 0],
      [1, 2],
      [32 * 512 - 1, 32 * 512 + 1],
    ]);
  });
  expect(scene.wrong).toEqual([]);
});

test('without neighbours the table of the old place goes too, in a second flush of no page', () => {
  const scene = new Scene();
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    const seen = yield* call(scene.during(move(user, 1)));
    // munmap of what is empty by now: 4 KiB by a stride of 2 MiB.
    expect(seen.flushes).toEqual({ '4:1': 2, '3:1': 1, '3:0': 1, '1:1': 1, '1:0': 1 });
    expect(seen.events.filter((event) => event === 'unhook-table')).toHaveLength(1);
  });
  expect(scene.wrong).toEqual([]);
});

test('where nothing was touched nothing is flushed', () => {
  const scene = new Scene();
  scene.runBeside({}, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 1024 * PAGE_SIZE }));
    const seen = yield* call(scene.during(move(user, 1024)));
    expect(seen.flushes).toEqual({});
    expect(vmasOf(user.mm, TO)).toEqual([[0, 1024]]);
  });
  expect(scene.wrong).toEqual([]);
});

test.each([
  { by: 0, pages: 4, at: 510, flushes: 2 },
  { by: 1, pages: 4, at: 510, flushes: 3 },
  { by: 3, pages: 4, at: 100, flushes: 1 },
  { by: 511, pages: 4, at: 0, flushes: 2 },
])(
  '$pages pages from entry $at, $by further on: $flushes flushes, one for each pair of tables',
  (of) => {
    const scene = new Scene();
    const { k } = scene;
    scene.runBeside({}, function* (user) {
      const from = BASE + of.at * PAGE_SIZE;
      const to = TO + (of.at + of.by) * PAGE_SIZE;
      // Neighbours that keep the old tables.
      yield* call(mapTouched(user, BASE - PAGE_SIZE, 1));
      yield* call(mapTouched(user, BASE + 3 * MIB2 - PAGE_SIZE, 1));
      yield* call(user.mmap({ addr: BASE + 800 * PAGE_SIZE, length: PAGE_SIZE }));
      yield* call(mapTouched(user, from, of.pages));
      const pages = Array.from({ length: of.pages }, (_, n) =>
        pageAt(k, user.mm, from + n * PAGE_SIZE),
      );
      const seen = yield* call(scene.during(user.mremap(from, of.pages * PAGE_SIZE, to)));
      const ranged = Object.entries(seen.flushes).filter(([key]) => /^3:[1-9]/.test(key));
      expect(ranged.reduce((sum, [, count]) => sum + count, 0)).toBe(of.flushes);
      for (const [n, page] of pages.entries())
        expect(pageAt(k, user.mm, to + n * PAGE_SIZE)).toBe(page);
    });
    expect(scene.wrong).toEqual([]);
  },
);

test('within one page table: one lock, and all is well', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 4));
    const page = pageAt(k, user.mm, BASE + PAGE_SIZE);
    const to = BASE + 8 * PAGE_SIZE;
    expect(yield* call(move(user, 4, to))).toBe(to);
    expect(pageAt(k, user.mm, to + PAGE_SIZE)).toBe(page);
  });
  expect(scene.wrong).toEqual([]);
});

test('what moves next to memory of its kind becomes one VMA with it', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    yield* call(mapTouched(user, TO + 2 * PAGE_SIZE, 2));
    yield* call(move(user, 2));
    expect(vmasOf(user.mm, TO)).toEqual([[0, 4]]);
    yield* call(mapTouched(user, BASE, 2));
    yield* call(user.mprotect(BASE, 2 * PAGE_SIZE, RO));
    yield* call(move(user, 2, TO + 4 * PAGE_SIZE));
    expect(vmasOf(user.mm, TO)).toEqual([
      [0, 4],
      [4, 6],
    ]);
  });
  expect(scene.wrong).toEqual([]);
});

test('a huge page is split on its way, and every small page arrives', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapHuge(user, BASE));
    const { pfn } = pageAt(k, user.mm, BASE);
    yield* call(move(user, 512));
    for (const n of [0, 1, 511]) expect(pageAt(k, user.mm, TO + n * PAGE_SIZE).pfn).toBe(pfn + n);
    expect(misfits(k, user.mm, TO, 512)).toEqual([]);
  });
  expect(scene.wrong).toEqual([]);
});

test('what is shared after fork moves in one process and stays in the other', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    const go = completion(k.machine, 'go');
    yield* call(mapTouched(user, BASE, 2));
    const child = yield* call(
      user.fork(function* (other) {
        yield* call(other.waitFor(go, 1));
        yield* call(other.touch(BASE, 2));
      }, 2),
    );
    yield* call(move(user, 2));
    expect(mapping(k, user.mm, TO)).toBe('ro');
    expect(pageAt(k, user.mm, TO).anonExclusive).toBe(false);
    expect(pageAt(k, user.mm, TO).refcount.value).toBe(2);
    yield* call(user.signal(go));
    yield* call(user.join(child));
    yield* call(user.touch(TO, 2));
  });
  expect(scene.wrong).toEqual([]);
});

test('what it refuses', () => {
  const scene = new Scene();
  const end = taskSize(scene.k);
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 4));
    yield* call(mapTouched(user, TO, 1));
    const to = (from: number, pages: number, at: number): Kthread<number> =>
      user.mremap(from, pages * PAGE_SIZE, at);
    expect(yield* call(to(BASE + 1, 1, TO + MIB2))).toBe(Errno.EINVAL);
    expect(yield* call(to(BASE, 1, TO + 1))).toBe(Errno.EINVAL);
    expect(yield* call(to(BASE, 0, TO + MIB2))).toBe(Errno.EINVAL);
    expect(yield* call(to(BASE, 2, BASE + PAGE_SIZE))).toBe(Errno.EINVAL);
    expect(yield* call(to(BASE, 2, BASE - PAGE_SIZE))).toBe(Errno.EINVAL);
    expect(yield* call(to(BASE, 2, end - PAGE_SIZE))).toBe(Errno.EINVAL);
    expect(yield* call(to(BASE, 2, -2 * PAGE_SIZE))).toBe(Errno.EINVAL);
    expect(yield* call(to(BASE, 5, TO + MIB2))).toBe(Errno.EFAULT);
    expect(yield* call(to(BASE + MIB2, 1, TO + MIB2))).toBe(Errno.EFAULT);
    // Linux would unmap what is there.
    expect(yield* call(to(BASE, 2, TO - PAGE_SIZE))).toBe(Errno.EEXIST);
    expect(vmasOf(user.mm, BASE)[0]).toEqual([0, 4]);
    yield* call(user.touch(BASE, 4));
  });
  expect(scene.wrong).toEqual([]);
});

test.each([0, 1])(
  'with %i frames left, too few for the tables, everything is back where it was',
  (left) => {
    const scene = new Scene({ frames: 2048 });
    const { k } = scene;
    scene.runBeside({}, function* (user) {
      const { mm } = user;
      // Four pages around the border of two tables; where they are to go there is one of two tables.
      const from = BASE + MIB2 - 2 * PAGE_SIZE;
      yield* call(mapTouched(user, from, 6));
      if (left === 0) yield* call(mapTouched(user, TO + MIB2 - 16 * PAGE_SIZE, 1));
      else yield* call(mapTouched(user, TO, 1));
      const pages = [0, 1, 2, 3].map((n) => pageAt(k, mm, from + n * PAGE_SIZE));
      const before = vmasOf(mm, BASE);
      const giveBack = yield* call(takeAllBut(k, left));
      const to = TO + MIB2 - 2 * PAGE_SIZE + (left === 0 ? 0 : MIB2);
      expect(yield* call(user.mremap(from, 4 * PAGE_SIZE, to))).toBe(Errno.ENOMEM);
      yield* call(giveBack());
      expect([0, 1, 2, 3].map((n) => pageAt(k, mm, from + n * PAGE_SIZE))).toEqual(pages);
      expect(mapping(k, mm, to)).toBe('none');
      expect(vmasOf(mm, BASE)).toEqual(before);
      expect(misfits(k, mm, from, 6)).toEqual([]);
      yield* call(user.touch(from, 6));
    });
    expect(scene.wrong).toEqual([]);
  },
);

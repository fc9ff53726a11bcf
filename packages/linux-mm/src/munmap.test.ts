/** munmap: which VMAs, which page tables, which flush. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { type Kthread, taskSize } from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import { GIB, mapTouched, mapping, MIB2, Scene, type Told, vmasOf } from './callers.testlib.ts';
import { Madvise } from './madvise.ts';
import { Errno } from './mm.ts';
import type { User } from './user.ts';
import { BASE } from './workloads/workload.ts';

const unmap = (user: User, addr: number, pages: number): Kthread<number> =>
  user.munmap(addr, pages * PAGE_SIZE);

/** What one munmap does in a process whose other thread spins on CPU 1, and one sleeps on CPU 2. */
function told(before: (user: User) => Kthread, addr: number, pages: number): Told {
  const scene = new Scene();
  let seen: Told | null = null;
  scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
    yield* call(before(user));
    seen = yield* call(scene.during(unmap(user, addr, pages)));
  });
  expect(scene.wrong).toEqual([]);
  if (seen === null) throw new Error('the program did not run');
  return seen;
}

const tables = ({ events }: Told): number =>
  events.filter((event) => event === 'unhook-table').length;

test('where nothing is mapped munmap does nothing, and says 0', () => {
  const scene = new Scene();
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    const seen = yield* call(
      scene.during(
        (function* () {
          expect(yield* call(unmap(user, BASE + PAGE_SIZE, 4))).toBe(0);
          expect(yield* call(unmap(user, BASE - 4 * PAGE_SIZE, 4))).toBe(0);
        })(),
      ),
    );
    expect(seen).toEqual({ flushes: {}, interrupts: [0, 0, 0, 0], events: [] });
    expect(vmasOf(user.mm, BASE)).toEqual([[0, 1]]);
  });
  expect(scene.wrong).toEqual([]);
});

test('what is no range of user addresses is -EINVAL, and nothing happens', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    const end = taskSize(scene.k);
    yield* call(mapTouched(user, BASE, 2));
    expect(yield* call(user.munmap(BASE + 1, PAGE_SIZE))).toBe(Errno.EINVAL);
    expect(yield* call(user.munmap(BASE, 0))).toBe(Errno.EINVAL);
    expect(yield* call(user.munmap(BASE, -PAGE_SIZE))).toBe(Errno.EINVAL);
    expect(yield* call(user.munmap(-PAGE_SIZE, PAGE_SIZE))).toBe(Errno.EINVAL);
    expect(yield* call(user.munmap(BASE, end))).toBe(Errno.EINVAL);
    expect(yield* call(user.munmap(end, PAGE_SIZE))).toBe(Errno.EINVAL);
    expect(yield* call(user.munmap(end - PAGE_SIZE, PAGE_SIZE))).toBe(0);
    expect(vmasOf(user.mm, BASE)).toEqual([[0, 2]]);
    // One byte is a page.
    expect(yield* call(user.munmap(BASE, 1))).toBe(0);
    expect(vmasOf(user.mm, BASE)).toEqual([[1, 2]]);
  });
  expect(scene.wrong).toEqual([]);
});

test('a part of a VMA goes, and what is left of it stays mapped', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    const { k } = scene;
    const at = (page: number): string => mapping(k, user.mm, BASE + page * PAGE_SIZE);
    yield* call(mapTouched(user, BASE, 10));
    yield* call(unmap(user, BASE + 4 * PAGE_SIZE, 2));
    expect(vmasOf(user.mm, BASE)).toEqual([
      [0, 4],
      [6, 10],
    ]);
    expect([3, 4, 5, 6].map(at)).toEqual(['rw', 'none', 'none', 'rw']);
    // From the middle of one to the middle of the other.
    yield* call(unmap(user, BASE + 2 * PAGE_SIZE, 6));
    expect(vmasOf(user.mm, BASE)).toEqual([
      [0, 2],
      [8, 10],
    ]);
    expect([1, 2, 3, 6, 7, 8].map(at)).toEqual(['rw', 'none', 'none', 'none', 'none', 'rw']);
    yield* call(unmap(user, BASE, 10));
    expect(vmasOf(user.mm, BASE)).toEqual([]);
  });
  expect(scene.wrong).toEqual([]);
});

/** Entry 3 of its PUD table, 5 of its PMD table and 7 of its PTE table. */
const AT = BASE + 3 * GIB + 5 * MIB2 + 7 * PAGE_SIZE;

test.each([
  {
    where: 'the last page of the same PTE table',
    at: BASE + 3 * GIB + 6 * MIB2 - PAGE_SIZE,
    of: 0,
  },
  { where: 'the first page behind it', at: BASE + 3 * GIB + 6 * MIB2, of: 1 },
  { where: 'the last page of the same PMD table', at: BASE + 4 * GIB - PAGE_SIZE, of: 1 },
  { where: 'the first page behind that', at: BASE + 4 * GIB, of: 2 },
  { where: 'the last page of the same PUD table', at: BASE + 512 * GIB - PAGE_SIZE, of: 2 },
  { where: 'the first page behind all', at: BASE + 512 * GIB, of: 3 },
  { where: 'the first page of the same PTE table', at: BASE + 3 * GIB + 5 * MIB2, of: 0 },
  { where: 'the page before that', at: BASE + 3 * GIB + 5 * MIB2 - PAGE_SIZE, of: 1 },
  { where: 'the first page of the same PMD table', at: BASE + 3 * GIB, of: 1 },
  { where: 'the page before the PMD table', at: BASE + 3 * GIB - PAGE_SIZE, of: 2 },
  { where: 'the first page of the same PUD table', at: BASE, of: 2 },
  { where: 'the page before all', at: BASE - PAGE_SIZE, of: 3 },
])('with a neighbour at $where $of tables go', ({ at, of }) => {
  const seen = told(
    function* (user) {
      yield* call(mapTouched(user, AT, 1));
      yield* call(user.mmap({ addr: at, length: PAGE_SIZE }));
    },
    AT,
    1,
  );
  expect(tables(seen)).toBe(of);
  // A lazy CPU is interrupted if, and only if, it could walk a table that goes.
  expect(seen.interrupts).toEqual([0, 1, of === 0 ? 0 : 1, 0]);
});

test.each([
  { entry: 0, pages: 1 },
  { entry: 7, pages: 8 },
  { entry: 32, pages: 33 },
  { entry: 33, pages: -1 },
])('entry $entry and only its PTE table go: $pages pages, from the start of the table', (of) => {
  const addr = AT + (of.entry - 7) * PAGE_SIZE;
  const seen = told(
    function* (user) {
      yield* call(mapTouched(user, addr, 1));
      yield* call(mapTouched(user, AT + 16 * MIB2, 1));
    },
    addr,
    1,
  );
  // free_pgd_range() begins at the 2 MiB; the PTE that was there makes the stride 4 KiB.
  const { pages } = of;
  expect(seen.flushes).toEqual({ [`4:${pages}`]: 1, [`3:${pages}`]: 1, [`1:${pages}`]: 1 });
  expect(tables(seen)).toBe(1);
});

test('one page, and the PMD table goes too: the range begins where that table does', () => {
  const seen = told((user) => mapTouched(user, AT, 1), AT, 1);
  // From BASE on, where the PUD table begins: 786432 + 2567 + 1 pages, more than 33.
  expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1 });
  expect(tables(seen)).toBe(3);
});

test('at the beginning of all tables the range is no larger than the page', () => {
  const seen = told((user) => mapTouched(user, BASE, 1), BASE, 1);
  expect(seen.flushes).toEqual({ '4:1': 1, '3:1': 1, '1:1': 1 });
  expect(tables(seen)).toBe(3);
});

test('33 pages are flushed one by one, 34 are everything', () => {
  const anchored = (pages: number): Told =>
    told(
      function* (user) {
        yield* call(mapTouched(user, AT - PAGE_SIZE, 1));
        yield* call(user.mmap({ addr: AT, length: pages * PAGE_SIZE }));
        yield* call(user.touch(AT, pages));
      },
      AT,
      pages,
    );
  expect(anchored(33).flushes).toEqual({ '4:33': 1, '3:33': 1, '1:33': 1 });
  expect(anchored(34).flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1 });
});

test('a table without an entry left: a flush of no page at all, by a stride of 2 MiB', () => {
  const seen = told(
    function* (user) {
      yield* call(mapTouched(user, AT, 1));
      yield* call(mapTouched(user, AT + 16 * MIB2, 1));
      yield* call(user.madvise(AT, PAGE_SIZE, Madvise.DONTNEED));
    },
    AT,
    1,
  );
  // 4 KiB from the start of the table: one page for who counts pages, and 0 strides of 2 MiB.
  expect(seen.flushes).toEqual({ '4:1': 1, '3:0': 1, '1:0': 1 });
  expect(tables(seen)).toBe(1);
  expect(seen.interrupts).toEqual([0, 1, 1, 0]);
});

test('a VMA that nobody has touched goes without a flush', () => {
  const seen = told(
    function* (user) {
      yield* call(user.mmap({ addr: AT, length: 64 * PAGE_SIZE }));
    },
    AT,
    64,
  );
  expect(seen).toEqual({ flushes: {}, interrupts: [0, 0, 0, 0], events: [] });
});

test('several VMAs in one call are one flush, and the tables between them go with them', () => {
  const seen = told(
    function* (user) {
      yield* call(mapTouched(user, BASE, 1));
      for (const table of [1, 2, 600, 601]) yield* call(mapTouched(user, BASE + table * MIB2, 3));
      yield* call(mapTouched(user, BASE + 700 * MIB2, 1));
    },
    BASE + MIB2,
    600 * 512 + 3,
  );
  expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1 });
  // Tables 0 and 700 are the neighbours', and with them both PMD tables.
  expect(tables(seen)).toBe(4);
  expect(seen.events.filter((event) => event === 'flush')).toHaveLength(1);
  expect(seen.events.filter((event) => event === 'free-page')).toHaveLength(12);
});

test('two VMAs in one PTE table that both go take it with them', () => {
  const seen = told(
    function* (user) {
      yield* call(mapTouched(user, AT, 1));
      yield* call(mapTouched(user, AT + 2 * PAGE_SIZE, 1));
      yield* call(mapTouched(user, AT + 16 * MIB2, 1));
    },
    AT,
    3,
  );
  expect(tables(seen)).toBe(1);
});

test('more pages than the batches hold are flushed and freed in between', () => {
  const pages = 10_000;
  const seen = told((user) => mapTouched(user, AT, pages), AT, pages);
  // 7 in the gather itself and 19 batches of 509: then the gather is full, once.
  expect(seen.events.filter((event) => event === 'flush')).toHaveLength(2);
  expect(seen.events.indexOf('free-page')).toBeLessThan(seen.events.lastIndexOf('flush'));
});

test.each(['6.1.192', '6.12.117', '6.18', '7.0', '7.3'] as const)(
  '%s: after munmap of everything all frames are free again',
  (kernel) => {
    const scene = new Scene({ kernel });
    scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
      yield* call(mapTouched(user, AT, 700));
      yield* call(mapTouched(user, AT + 2 * GIB, 2));
      yield* call(unmap(user, BASE, 6 * (GIB / PAGE_SIZE)));
      expect(user.mm.vmas).toEqual([]);
    });
    expect(scene.wrong).toEqual([]);
  },
);

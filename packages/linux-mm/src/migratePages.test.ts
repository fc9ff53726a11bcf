/** migrate_pages() itself, and the rmap walk under it: what is left, how often it is tried. */
import { call, PAGE_SIZE, smpMb } from '@shootdown/machine';
import {
  allocPages,
  currentTask,
  downRead,
  getPage,
  type Kthread,
  type MmStruct,
  type Page,
  putPage,
  spinLock,
  spinUnlock,
  upRead,
} from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import { testKernel } from './kernel.testlib.ts';
import { type MigrateMode, migratePages } from './migrate.ts';
import { Errno } from './mm.ts';
import { all, mappedAt, misfits, move, nodes, ptesAt, withPages } from './reclaim.testlib.ts';
import { type MigrationEntry, removeMigrationPtes, tryToMigrateOne } from './unmap.ts';
import type { User } from './user.ts';
import { isolateLru, putbackLru } from './vmscan.ts';
import { BASE } from './workloads/workload.ts';

/** migratePages() of the pages from BASE on; `room` counts down what it asks for. */
function* moveAll(
  { k, mm }: User,
  pages: number,
  mode: MigrateMode,
  room: { left: number },
): Kthread<readonly [result: number, stayed: number]> {
  yield* downRead(mm.mmapLock);
  const from = Array.from({ length: pages }, (_, n) => mappedAt(k, mm, BASE + n * PAGE_SIZE));
  for (const page of from) yield* call(isolateLru(k, page));
  const request = { gfp: 'GFP_KERNEL', purpose: 'test', node: 1, thisNode: true } as const;
  const getNewFolio = function* (): Kthread<Page | null> {
    return room.left-- > 0 ? yield* call(allocPages(k, request)) : null;
  };
  const result = yield* call(migratePages(k, from, getNewFolio, mode));
  const stayed = from.length;
  for (const page of from) yield* call(putbackLru(k, page));
  yield* upRead(mm.mmapLock);
  return [result, stayed];
}

/** Gets a reference on each of the pages `numbers`, and lets them go after `body`. */
function* holding({ k, mm }: User, numbers: readonly number[], body: () => Kthread): Kthread {
  const held = numbers.map((n) => mappedAt(k, mm, BASE + n * PAGE_SIZE));
  for (const page of held) yield* call(getPage(page));
  yield* call(body());
  for (const page of held) yield* call(putPage(k, page));
}

test('what is left is told, over all batches', () => {
  const { k } = testKernel({ nodes: 2, frames: 4096 });
  const wrong = withPages(k, 513, (user) =>
    holding(user, [0, 7, 512], function* () {
      expect(yield* call(moveAll(user, 513, 'MIGRATE_SYNC', { left: Infinity }))).toEqual([3, 3]);
      expect(k.stats.vmstat.pgmigrate_success).toBe(510);
    }),
  );
  expect(wrong).toEqual([]);
});

test('a locked page is asked for ten times without waiting', () => {
  const { k } = testKernel({ nodes: 2 });
  const wrong = withPages(k, 1, function* (user) {
    const { lock } = mappedAt(k, user.mm, BASE);
    const room = { left: 100 };
    yield* spinLock(lock);
    expect(yield* call(moveAll(user, 1, 'MIGRATE_ASYNC', room))).toEqual([1, 1]);
    yield* spinUnlock(lock);
    expect(room.left).toBe(90);
  });
  expect(wrong).toEqual([]);
});

test('without memory nothing is tried again', () => {
  const { k } = testKernel({ nodes: 2 });
  const wrong = withPages(k, 4, function* (user) {
    const room = { left: 1 };
    expect(yield* call(moveAll(user, 4, 'MIGRATE_SYNC', room))).toEqual([Errno.ENOMEM, 3]);
    expect(room.left).toBe(-1);
  });
  expect(wrong).toEqual([]);
});

test('memory that ends while pages are tried alone leaves the others', () => {
  const { k } = testKernel({ nodes: 2 });
  const wrong = withPages(k, 3, (user) =>
    holding(user, [0, 1, 2], function* () {
      const room = { left: 4 };
      expect(yield* call(moveAll(user, 3, 'MIGRATE_SYNC', room))).toEqual([Errno.ENOMEM, 3]);
      expect(nodes(k, user.mm, 3)).toEqual(all(3, 0));
    }),
  );
  expect(wrong).toEqual([]);
});

test('an entry that maps another page, or none any more, is left alone', () => {
  const { k } = testKernel({ nodes: 2 });
  const wrong = withPages(k, 2, function* (user) {
    const { mm } = user;
    const page = mappedAt(k, mm, BASE);
    const before = ptesAt(k, mm, BASE, 2);
    yield* call(getPage(page));
    const at = (addr: number): Kthread<MigrationEntry | null> =>
      tryToMigrateOne(k, page, { mm, addr }, { batchFlush: false });
    expect(yield* call(at(BASE + PAGE_SIZE))).toBeNull();
    expect(yield* call(at(BASE + 2 ** 40))).toBeNull();
    const entry = yield* call(at(BASE));
    expect(entry).toEqual({ mm, addr: BASE, pteval: before[0] });
    expect(yield* call(at(BASE))).toBeNull();
    if (entry !== null) yield* call(removeMigrationPtes(k, [entry], page, page));
    yield* smpMb();
    expect(ptesAt(k, mm, BASE, 2)).toEqual(before);
    yield* call(putPage(k, page));
  });
  expect(wrong).toEqual([]);
});

test('mbind leaves shared pages alone; migrate_pages() itself moves every entry', () => {
  const { k } = testKernel({ nodes: 2 });
  const wrong = withPages(k, 2, function* (user) {
    const stop = k.machine.cell('stop', false);
    let child: MmStruct | null = null;
    const started = yield* call(
      user.fork(function* (other) {
        child = other.mm;
        yield* call(other.spin(stop));
      }, 1),
    );
    yield* call(user.compute(100_000));
    yield* call(move(user, 2, 1));
    expect(nodes(k, user.mm, 2)).toEqual(all(2, 0));
    yield* call(moveShared(user, currentTask(k).mm, child));
    expect(nodes(k, user.mm, 2)).toEqual([1, 0]);
    const { mappings, refcount } = mappedAt(k, user.mm, BASE);
    expect([mappings.value.length, refcount.value]).toEqual([2, 2]);
    yield* call(user.touch(BASE, 2));
    expect(misfits(k, user.mm, BASE, 2)).toEqual([]);
    yield* call(user.set(stop));
    yield* call(user.join(started));
  });
  expect(wrong).toEqual([]);
});

/** As compaction would: the page at BASE of two mms. */
function* moveShared({ k }: User, one: MmStruct | null, two: MmStruct | null): Kthread {
  if (one === null || two === null) throw new Error('both are there');
  yield* downRead(one.mmapLock);
  yield* downRead(two.mmapLock);
  const page = mappedAt(k, one, BASE);
  expect(yield* call(isolateLru(k, page))).toBe(true);
  expect(yield* call(isolateLru(k, page))).toBe(false);
  const request = { gfp: 'GFP_KERNEL', purpose: 'test', node: 1, thisNode: true } as const;
  const from = [page];
  expect(yield* call(migratePages(k, from, () => allocPages(k, request), 'MIGRATE_ASYNC'))).toBe(0);
  expect(from).toEqual([]);
  expect(ptesAt(k, two, BASE, 1)).not.toEqual([0]);
  expect(mappedAt(k, two, BASE)).toBe(mappedAt(k, one, BASE));
  yield* upRead(two.mmapLock);
  yield* upRead(one.mmapLock);
}

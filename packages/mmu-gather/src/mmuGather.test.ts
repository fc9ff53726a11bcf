/** The page batches: their sizes, when they are full, and what happens then. */
import { call, nop, PAGE_SIZE } from '@shootdown/machine';
import type { User } from '@shootdown/linux-mm';
import { describe, expect, test } from 'vitest';
import type { Kernel, Kthread } from './kernel.ts';
import {
  BASE,
  bytes,
  count,
  flushesOf,
  MADV_DONTNEED,
  probed,
  runKernel,
  runProgram,
  somePage,
  testKernel,
} from './kernel.testlib.ts';
import { freePages, type Page } from './kernel/pageAlloc.ts';
import { PMD_SIZE } from './kernel/pgtable.ts';
import { tlbRemoveTlbEntry } from './gatherRange.ts';
import {
  __tlbRemovePageSize,
  MAX_GATHER_BATCH,
  MAX_GATHER_BATCH_COUNT,
  MMU_GATHER_BUNDLE,
  type MmuGather,
  tlbChangePageSize,
  tlbFlushMmu,
  tlbFlushMmuTlbonly,
  tlbFlushRmaps,
  tlbGatherMmu,
  tlbGatherMmuFullmm,
  tlbRemovePageSize,
} from './mmuGather.ts';
import { MAX_TABLE_BATCH } from './tableFree.ts';

/** Unmaps one page from `addr`, as far as the gather knows. */
function* removePage(
  k: Kernel,
  tlb: MmuGather,
  addr: number,
  { delayRmap = false, pageSize = PAGE_SIZE } = {},
): Kthread<boolean> {
  const page = yield* call(somePage(k));
  tlbRemoveTlbEntry(tlb, addr);
  return yield* call(__tlbRemovePageSize(k, tlb, page, delayRmap, pageSize));
}

/** Removes pages until the gather says to flush; gives how many that took. */
function* fill(k: Kernel, tlb: MmuGather, delayRmap = false): Kthread<number> {
  for (let removed = 0; ; removed++)
    if (yield* call(removePage(k, tlb, BASE + bytes(removed), { delayRmap }))) return removed + 1;
}

const NO_PAGE = { failures: { tlb_next_batch: 1 } };

/** 7 + 19 * 509 */
const CAPACITY = 9678;

test('sizes follow from a page of 4096 bytes and pointers of 8', () => {
  // next 8, nr 4, max 4; about 10000 pages at most; rcu_head 16, nr 8 with padding.
  expect(MMU_GATHER_BUNDLE).toBe(8);
  expect(MAX_GATHER_BATCH).toBe((4096 - 16) / 8);
  expect(MAX_GATHER_BATCH).toBe(510);
  expect(MAX_GATHER_BATCH_COUNT).toBe(19);
  expect(MAX_TABLE_BATCH).toBe((4096 - 24) / 8);
  expect(MAX_TABLE_BATCH).toBe(509);
  expect(MMU_GATHER_BUNDLE - 1 + MAX_GATHER_BATCH_COUNT * (MAX_GATHER_BATCH - 1)).toBe(CAPACITY);
});

describe('batches', () => {
  test('use all slots but one: 7 of the embedded ones, 509 of a page', () => {
    const k = testKernel();
    const batchAfter = runKernel(k, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(k, mm));
      const batches: number[] = [];
      for (let page = 0; page < 7 + 509 + 1; page++) {
        expect(yield* call(removePage(k, tlb, BASE + bytes(page)))).toBe(false);
        batches.push(tlb.batchCount);
      }
      const { local } = tlb;
      expect([local.pages.length, local.next?.pages.length, tlb.active.pages.length]).toEqual([
        7, 509, 1,
      ]);
      yield* call(k.fn.tlbFinishMmu(k, tlb));
      return batches;
    });
    const before = Array.from({ length: 6 }, () => 0);
    expect(batchAfter).toEqual([...before, ...Array.from({ length: 509 }, () => 1), 2, 2]);
  });

  test('are 19, and then it has to be flushed', () => {
    const k = testKernel();
    const [removed, batches] = runKernel(k, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(k, mm));
      const pages = yield* call(fill(k, tlb));
      const { batchCount } = tlb;
      yield* call(k.fn.tlbFinishMmu(k, tlb));
      return [pages, batchCount];
    });
    expect(removed).toBe(CAPACITY);
    expect(batches).toBe(19);
  });

  test('without a page for one, it has to be flushed after the embedded 7', () => {
    const k = testKernel();
    const removed = runKernel(
      k,
      function* (mm) {
        const tlb = yield* call(tlbGatherMmu(k, mm));
        const pages = yield* call(fill(k, tlb));
        // The page that did not fit another is in the batch: it is flushed with it.
        expect(tlb.active.pages).toHaveLength(7);
        yield* call(k.fn.tlbFinishMmu(k, tlb));
        return pages;
      },
      NO_PAGE,
    );
    expect(removed).toBe(7);
  });

  test('are kept over a flush, and given back when the gather ends', () => {
    const k = testKernel();
    const free = freePages(k) - 1; // The root table of runKernel().
    const frames = runKernel(k, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(k, mm));
      const at: number[] = [];
      for (const round of [0, 1]) {
        for (let page = 0; page < 10; page++)
          yield* call(removePage(k, tlb, BASE + bytes(10 * round + page)));
        at.push(free - freePages(k));
        yield* call(tlbFlushMmu(k, tlb));
        expect(tlb.active).toBe(tlb.local);
        expect(tlb.batchCount).toBe(1);
        at.push(free - freePages(k));
      }
      yield* call(k.fn.tlbFinishMmu(k, tlb));
      return [...at, free - freePages(k)];
    });
    // 10 pages and the batch; the batch; the same again; nothing.
    expect(frames).toEqual([11, 1, 11, 1, 0]);
  });

  test('tlb_remove_page() flushes by itself where __tlb_remove_page() says so', () => {
    const k = testKernel();
    const events = probed(k);
    runKernel(
      k,
      function* (mm) {
        const tlb = yield* call(tlbGatherMmu(k, mm));
        for (let page = 0; page < 8; page++) {
          tlbRemoveTlbEntry(tlb, BASE + bytes(page));
          yield* call(tlbRemovePageSize(k, tlb, yield* call(somePage(k)), PAGE_SIZE));
        }
        expect(flushesOf(events)).toHaveLength(1);
        expect(count(events, 'free-page')).toBe(7);
        yield* call(k.fn.tlbFinishMmu(k, tlb));
      },
      NO_PAGE,
    );
    expect(flushesOf(events)).toHaveLength(2);
    expect(count(events, 'free-page')).toBe(8);
  });
});

describe('delayed removal from the reverse mapping', () => {
  test('allows one batch beside the embedded one', () => {
    const k = testKernel();
    const removed = runKernel(k, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(k, mm));
      tlb.delayedRmap = true;
      const pages = yield* call(fill(k, tlb, true));
      yield* call(k.fn.tlbFinishMmu(k, tlb));
      return pages;
    });
    expect(removed).toBe(7 + 509);
  });

  test('happens once for each page that waits for it, in both batches', () => {
    const k = testKernel();
    const gone: Page[] = [];
    function* remove(_k: Kernel, page: Page): Kthread {
      gone.push(page);
      yield* nop();
    }
    runKernel(k, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(k, mm));
      yield* call(tlbFlushRmaps(k, tlb, remove));
      expect(gone).toEqual([]);
      tlb.delayedRmap = true;
      // Every third page: of 20 the pages 0, 3, ..., 18.
      for (let page = 0; page < 20; page++)
        yield* call(removePage(k, tlb, BASE + bytes(page), { delayRmap: page % 3 === 0 }));
      yield* call(tlbFlushMmuTlbonly(k, tlb));
      yield* call(tlbFlushRmaps(k, tlb, remove));
      expect(tlb.delayedRmap).toBe(false);
      yield* call(tlbFlushRmaps(k, tlb, remove));
      yield* call(k.fn.tlbFinishMmu(k, tlb));
    });
    expect(gone).toHaveLength(7);
    expect(new Set(gone).size).toBe(7);
  });
});

describe('a program unmaps', () => {
  /** Flushes of what `unmap` does to `pages` pages that are touched, as [start, end) in pages. */
  function flushes(
    pages: number,
    unmap: (user: User) => Kthread<number>,
    options: Parameters<typeof runProgram>[2] = {},
  ): readonly (readonly [number, number])[] {
    const k = testKernel({ kconfig: { PT_RECLAIM: false } });
    const events = probed(k);
    runProgram(
      k,
      function* (user) {
        yield* call(user.mmap({ addr: BASE, length: bytes(pages) }));
        yield* call(user.touch(BASE, pages));
        yield* call(unmap(user));
        k.probe = null;
      },
      options,
    );
    expect(count(events, 'free-page')).toBe(pages);
    return flushesOf(events).map(({ start, end }) => [
      (start - BASE) / PAGE_SIZE,
      (end - BASE) / PAGE_SIZE,
    ]);
  }
  const dontneed = (pages: number) => (user: User) =>
    user.madvise(BASE, bytes(pages), MADV_DONTNEED);
  const munmap = (pages: number) => (user: User) => user.munmap(BASE, bytes(pages));

  test('as many pages as the batches take, by one flush, and one more by two', () => {
    expect(flushes(CAPACITY, dontneed(CAPACITY))).toEqual([[0, CAPACITY]]);
    expect(flushes(CAPACITY + 1, dontneed(CAPACITY + 1))).toEqual([
      [0, CAPACITY],
      [CAPACITY, CAPACITY + 1],
    ]);
  });

  test('and its tables by the same flush, if the batches are not full', () => {
    expect(flushes(CAPACITY - 1, munmap(CAPACITY - 1))).toEqual([[0, CAPACITY - 1]]);
    // The last page fills them. Tables are noted by a page each at the start of what they cover.
    const last = Math.floor((CAPACITY - 1) / 512) * 512;
    expect(flushes(CAPACITY, munmap(CAPACITY))).toEqual([
      [0, CAPACITY],
      [0, last + 1],
    ]);
  });

  test('seven pages at a time without a page for a batch', () => {
    expect(flushes(20, dontneed(20), NO_PAGE)).toEqual([
      [0, 7],
      [7, 14],
      [14, 20],
    ]);
  });

  test('more tables than a batch holds in two batches, each after a flush', () => {
    const k = testKernel();
    const events = probed(k);
    const tables = MAX_TABLE_BATCH + 1;
    runProgram(k, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: tables * PMD_SIZE }));
      for (let table = 0; table < tables; table++)
        yield* call(user.touch(BASE + table * PMD_SIZE, 1));
      yield* call(user.munmap(BASE, tables * PMD_SIZE));
      k.probe = null;
    });
    // Pages and the first 509 tables; the last PTE table, the PMD table and the PUD table.
    const begun = events.flatMap(({ kind }, at) => (kind === 'flush' ? [at] : []));
    const unhooked = begun.map((at) => count(events.slice(0, at), 'unhook-table'));
    expect(unhooked).toEqual([509, 512]);
    expect(flushesOf(events).map(({ freedTables }) => freedTables)).toEqual([true, true]);
    expect(count(events, 'free-table')).toBe(512);
  });
});

describe('PAGE_SIZE: a batch holds pages of one size', () => {
  /** How often a gather flushes that goes from size to size, a page of each. */
  function flushes(
    sizes: readonly number[],
    { option = true, fullmm = false, needFlushAll = false } = {},
  ): readonly [number, readonly string[]] {
    const k = testKernel({ kconfig: { MMU_GATHER_PAGE_SIZE: option } });
    const events = probed(k);
    const flushed = runKernel(k, function* (mm) {
      const tlb = yield* call((fullmm ? tlbGatherMmuFullmm : tlbGatherMmu)(k, mm));
      tlb.needFlushAll = needFlushAll;
      for (const [index, pageSize] of sizes.entries()) {
        yield* call(tlbChangePageSize(k, tlb, pageSize));
        yield* call(removePage(k, tlb, BASE + index * PMD_SIZE, { pageSize }));
      }
      const before = flushesOf(events).length;
      expect(count(events, 'free-page')).toBe(before);
      yield* call(k.fn.tlbFinishMmu(k, tlb));
      return before;
    });
    return [flushed, Array.from(k.warnings)];
  }
  const MIXED = [PMD_SIZE, PAGE_SIZE, PAGE_SIZE, PMD_SIZE];

  test('a change flushes and frees, from huge to small and back', () => {
    expect(flushes([PMD_SIZE, PAGE_SIZE])).toEqual([1, []]);
    expect(flushes([PAGE_SIZE, PMD_SIZE])).toEqual([1, []]);
  });

  test('the same size again does not, and neither does the first', () => {
    expect(flushes([PAGE_SIZE, PAGE_SIZE])).toEqual([0, []]);
    expect(flushes([PMD_SIZE])).toEqual([0, []]);
  });

  test('nothing flushes without the option, or if everything is flushed in the end', () => {
    expect(flushes(MIXED, { option: false })).toEqual([0, []]);
    expect(flushes(MIXED, { fullmm: true })).toEqual([0, []]);
    expect(flushes(MIXED, { needFlushAll: true })).toEqual([0, []]);
  });

  test('a page of another size than was announced is a finding', () => {
    const k = testKernel({ kconfig: { MMU_GATHER_PAGE_SIZE: true } });
    runKernel(k, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(k, mm));
      yield* call(tlbChangePageSize(k, tlb, PAGE_SIZE));
      yield* call(removePage(k, tlb, BASE, { pageSize: PMD_SIZE }));
      yield* call(k.fn.tlbFinishMmu(k, tlb));
    });
    expect(k.warnings).toEqual(new Set(['a page of another size than the batch is removed']));
  });
});

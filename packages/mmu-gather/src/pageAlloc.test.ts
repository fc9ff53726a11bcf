/** The page allocator: what it hands out, what it takes back, and what it does when it has nothing. */
import { call, pfn, physAddr, readWord, smpMb, UsageError, writeWord } from '@shootdown/machine';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Kernel, Kthread } from './kernel.ts';
import {
  BASE,
  bytes,
  emptyMm,
  MADV_HUGEPAGE,
  probed,
  runKernel,
  runProgram,
  testKernel,
} from './kernel.testlib.ts';
import {
  allocPages,
  type AllocRequest,
  clearPage,
  freeFrames,
  freePages,
  getPage,
  getZeroedPage,
  HPAGE_PMD_NR,
  HPAGE_PMD_ORDER,
  type Page,
  pageOf,
  pageToNid,
  putPage,
  takeBulk,
  tryGetPage,
  ZERO_PFN,
} from './kernel/pageAlloc.ts';
import { PMD_SIZE } from './kernel/pgtable.ts';

const alloc = (k: Kernel, request: Partial<AllocRequest> = {}): Kthread<Page | null> =>
  allocPages(k, { gfp: 'GFP_KERNEL', purpose: 'test', ...request });

/** MADV_COLLAPSE */
const MADV_COLLAPSE = 25;

const HUGE: Partial<AllocRequest> = { order: HPAGE_PMD_ORDER };

/** Allocates until there is nothing left; gives the frames. */
function* drain(k: Kernel, request: Partial<AllocRequest> = {}): Kthread<Page[]> {
  const pages: Page[] = [];
  for (
    let page = yield* call(alloc(k, request));
    page !== null;
    page = yield* call(alloc(k, request))
  )
    pages.push(page);
  return pages;
}

/** What an allocation gives, as a number; -1: nothing. */
function* frameOf(k: Kernel, request: Partial<AllocRequest> = {}): Kthread<number> {
  return (yield* call(alloc(k, request)))?.pfn ?? -1;
}

const numbers = (from: number, to: number): readonly number[] =>
  Array.from({ length: to - from }, (_, index) => from + index);

/** Frames 0 (init_mm's root), 1 (the zero page) and 2 (the root of runKernel) are taken. */
const FIRST = 3;

describe('single frames', () => {
  test('come in order while none was freed, and then the one that was freed last', () => {
    const k = testKernel();
    const frames = runKernel(k, function* () {
      const pages: Page[] = [];
      for (let index = 0; index < 4; index++) {
        const page = yield* call(alloc(k));
        if (page !== null) pages.push(page);
      }
      for (const page of pages.slice(0, 3)) yield* call(putPage(k, page));
      const again: number[] = [];
      for (let index = 0; index < 4; index++) again.push(yield* call(frameOf(k)));
      return [pages.map((page): number => page.pfn), again];
    });
    expect(frames).toEqual([
      [3, 4, 5, 6],
      [5, 4, 3, 7],
    ]);
  });

  test('are nobody’s before init_mm’s root and the zero page', () => {
    const k = testKernel();
    expect([k.initMm.pgd, ZERO_PFN, emptyMm(k).pgd]).toEqual([0, 1, 2]);
  });

  test('run out: then there is null, and no crash', () => {
    const k = testKernel({ frames: 512 });
    const [got, more] = runKernel(k, function* () {
      const pages = yield* call(drain(k));
      expect(freePages(k)).toBe(0);
      const [last] = pages.slice(-1);
      if (last !== undefined) yield* call(putPage(k, last));
      return [
        pages.map((page): number => page.pfn),
        [yield* call(frameOf(k)), yield* call(frameOf(k))],
      ];
    });
    expect(got).toEqual(numbers(FIRST, 512));
    expect(more).toEqual([511, -1]);
  });

  test('may fail without memory being short where nobody may wait for it', () => {
    const k = testKernel();
    const outcomes = runKernel(
      k,
      function* () {
        const [nowait, other] = [
          { gfp: 'GFP_NOWAIT' },
          { gfp: 'GFP_NOWAIT', purpose: 'other' },
        ] as const;
        const frames = [];
        for (const request of [nowait, other, {}]) frames.push(yield* call(frameOf(k, request)));
        return frames;
      },
      { failures: { test: 1 } },
    );
    expect(outcomes).toEqual([-1, 3, 4]);
  });
});

describe('huge pages', () => {
  test('come from the end, aligned, until only parts are left', () => {
    const k = testKernel({ frames: 4 * HPAGE_PMD_NR });
    const heads = runKernel(k, function* () {
      return (yield* call(drain(k, HUGE))).map((page): number => page.pfn);
    });
    // The first 2 MiB have frames that are taken.
    expect(heads).toEqual([3 * HPAGE_PMD_NR, 2 * HPAGE_PMD_NR, HPAGE_PMD_NR]);
  });

  test('are handed out again when they are freed, the last one first', () => {
    const k = testKernel({ frames: 4 * HPAGE_PMD_NR });
    const [before, after] = runKernel(k, function* () {
      const pages = yield* call(drain(k, HUGE));
      for (const page of pages) yield* call(putPage(k, page));
      const again = yield* call(drain(k, HUGE));
      return [pages, again].map((list) => list.map((page): number => page.pfn));
    });
    expect(after).toEqual(before?.toReversed());
  });

  test('are broken up when there are no single frames left', () => {
    const k = testKernel({ frames: 2 * HPAGE_PMD_NR });
    const frames = runKernel(k, function* () {
      const huge = yield* call(alloc(k, HUGE));
      const singles = yield* call(drain(k));
      expect(singles).toHaveLength(HPAGE_PMD_NR - FIRST);
      if (huge !== null) yield* call(putPage(k, huge));
      expect(freePages(k)).toBe(HPAGE_PMD_NR);
      const parts = [yield* call(frameOf(k)), yield* call(frameOf(k))];
      // It is no huge page any more, and 510 of its frames are left.
      return [huge?.pfn, ...parts, yield* call(frameOf(k, HUGE)), freePages(k)];
    });
    expect(frames).toEqual([512, 512, 513, -1, 510]);
  });

  test('are one page, wherever in it one asks', () => {
    const k = testKernel();
    runKernel(k, function* () {
      const huge = yield* call(alloc(k, HUGE));
      expect(huge?.order).toBe(HPAGE_PMD_ORDER);
      const first = huge?.pfn ?? 0;
      for (const frame of [first, first + 1, first + 511]) expect(pageOf(k, frame)).toBe(huge);
      expect(() => pageOf(k, first - 1)).toThrow('a frame that is used was allocated');
    });
  });
});

describe('nodes', () => {
  const NODES = { frames: 4 * 512, nodes: 2 };

  test('share the frames, in halves', () => {
    const k = testKernel(NODES);
    expect([0, 1023, 1024, 2047].map((frame) => pageToNid(k, frame))).toEqual([0, 0, 1, 1]);
  });

  test('the one that is asked for comes first, then the others', () => {
    const k = testKernel(NODES);
    const [near, far] = runKernel(k, function* () {
      const frames: number[] = [];
      for (let index = 0; index <= 1024; index++) frames.push(yield* call(frameOf(k, { node: 1 })));
      return [frames.slice(0, 1024), frames.slice(1024)];
    });
    expect(near).toEqual(numbers(1024, 2048));
    expect(far).toEqual([FIRST]);
  });

  test('__GFP_THISNODE takes no other', () => {
    const k = testKernel(NODES);
    const left = runKernel(k, function* () {
      const pages = yield* call(drain(k, { node: 1, thisNode: true }));
      expect(pages).toHaveLength(1024);
      return yield* call(frameOf(k, { node: 0, thisNode: true }));
    });
    expect(left).toBe(FIRST);
  });
});

describe('references', () => {
  test('the last one that is put frees the page', () => {
    const k = testKernel();
    const events = probed(k);
    runKernel(k, function* () {
      const page = yield* call(alloc(k));
      if (page === null) return;
      yield* call(getPage(page));
      expect(yield* call(tryGetPage(page))).toBe(true);
      for (const left of [2, 1, 0]) {
        expect(events).toEqual([]);
        yield* call(putPage(k, page));
        expect(page.refcount.value).toBe(left);
      }
      expect(events).toEqual([{ kind: 'free-page', page }]);
      // Who comes now is too late.
      expect(yield* call(tryGetPage(page))).toBe(false);
      expect(page.refcount.value).toBe(0);
    });
  });
});

describe('contents', () => {
  test('stay in a frame, unless it is asked for zeroed', () => {
    const k = testKernel();
    const words = runKernel(k, function* () {
      const seen: number[] = [];
      const word = (page: Page | null): Kthread<number> => one(page);
      function* one(page: Page | null): Kthread<number> {
        return yield* readWord(physAddr((page?.pfn ?? 0) * 4096 + 80));
      }
      const dirty = yield* call(alloc(k));
      if (dirty === null) return seen;
      yield* writeWord(physAddr(dirty.pfn * 4096 + 80), 77);
      yield* call(freeFrames(k, dirty));
      const same = yield* call(alloc(k));
      seen.push(yield* call(word(same)));
      if (same !== null) yield* call(freeFrames(k, same));
      const zeroed = yield* call(getZeroedPage(k, { gfp: 'GFP_KERNEL', purpose: 'test' }));
      seen.push(yield* call(word(zeroed)));
      expect([same?.pfn, zeroed?.pfn]).toEqual([dirty.pfn, dirty.pfn]);
      return seen;
    });
    expect(words).toEqual([77, 0]);
  });

  test('of a huge page are cleared in all of its frames', () => {
    const k = testKernel();
    runKernel(k, function* () {
      const huge = yield* call(alloc(k, HUGE));
      if (huge === null) return;
      const last = physAddr((huge.pfn + 511) * 4096 + 8);
      yield* writeWord(last, 5);
      yield* smpMb();
      yield* call(clearPage(k, huge));
      expect(yield* readWord(last)).toBe(0);
    });
  });
});

describe('a program that needs more than there is', () => {
  test('is told so, and has had everything there was', () => {
    const k = testKernel({ frames: 512 });
    let caught: unknown = null;
    try {
      runProgram(k, function* (user) {
        yield* call(user.mmap({ addr: BASE, length: bytes(600) }));
        yield* call(user.touch(BASE, 600));
      });
    } catch (error) {
      caught = error;
    }
    // Frames 0 to 2 are taken, then three tables for the first page, and pages to the last frame.
    expect(caught).toBeInstanceOf(UsageError);
    expect(caught).toMatchObject({ code: 'ERR_MEMORY' });
    expect(String(caught)).toContain(`the access to 0x${(BASE + bytes(506)).toString(16)}`);
    expect(freePages(k)).toBe(0);
  });

  test('cannot fork without a frame for a root table, nor collapse without a huge page', () => {
    const k = testKernel({ frames: 512 });
    const results: number[] = [];
    let child: unknown = null;
    try {
      runProgram(k, function* (user) {
        yield* call(user.mmap({ addr: BASE, length: PMD_SIZE }));
        yield* call(user.touch(BASE, 3));
        results.push(yield* call(user.madvise(BASE, PMD_SIZE, MADV_COLLAPSE)));
        yield* call(user.touch(BASE, 506));
        yield* call(user.fork(() => user.touch(BASE, 1)));
      });
    } catch (error) {
      child = error;
    }
    expect(results).toEqual([-12]);
    expect(child).toMatchObject({ code: 'ERR_MEMORY' });
  });

  test('gets small pages where there is no huge one', () => {
    const k = testKernel({ frames: 512 });
    const orders: number[] = [];
    runProgram(k, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: PMD_SIZE }));
      yield* call(user.madvise(BASE, PMD_SIZE, MADV_HUGEPAGE));
      yield* call(user.touch(BASE, 2));
      for (const page of k.pages.pages.values()) orders.push(page.order);
    });
    expect(new Set(orders)).toEqual(new Set([0]));
  });
});

describe('frames in bulk', () => {
  test('are in a row, and have struct pages when they are asked for', () => {
    const k = testKernel({ frames: 1024 });
    const mm = emptyMm(k);
    const before = freePages(k);
    const range = takeBulk(k, mm, BASE, 100);
    expect([range.first, range.count, before - freePages(k)]).toEqual([3, 100, 100]);
    expect(k.pages.pages.has(50)).toBe(false);
    const page = pageOf(k, 50);
    expect([page.pfn, page.anonExclusive, page.refcount.value]).toEqual([50, true, 1]);
    expect(page.mappings.value).toEqual([{ mm, addr: BASE + bytes(47) }]);
    expect(pageOf(k, 50)).toBe(page);
  });

  test('are refused where no node has so many', () => {
    const k = testKernel({ frames: 2048, nodes: 2 });
    const mm = emptyMm(k);
    expect(takeBulk(k, mm, BASE, 1024).first).toBe(1024);
    expect(() => takeBulk(k, mm, BASE, 1022)).toThrow(
      '1022 page frames are wanted and the machine has 1021 in a row: give it more memory',
    );
  });
});

/** Allocates, or frees the allocation with that number, if there is one. */
type Step = { readonly free: number } | { readonly huge: boolean; readonly node: number };

test('no frame is handed out twice, none is lost, and all come back', () => {
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ free: fc.nat({ max: 40 }) }),
    fc.record({ huge: fc.boolean(), node: fc.nat({ max: 1 }) }),
  );
  let failed = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const k = testKernel({ frames: 4 * 512, nodes: 2 });
      runKernel(k, function* () {
        const whole = freePages(k);
        const held: Page[] = [];
        const taken = new Set<number>();
        for (const one of steps) {
          if ('free' in one) {
            const [page] = held.splice(one.free, 1);
            if (page === undefined) continue;
            for (let sub = 0; sub < 2 ** page.order; sub++) taken.delete(page.pfn + sub);
            yield* call(freeFrames(k, page));
          } else {
            const order = one.huge ? HPAGE_PMD_ORDER : 0;
            const page = yield* call(alloc(k, { order, node: one.node }));
            if (page === null) failed++;
            else held.push(page);
            for (const sub of page === null ? [] : numbers(page.pfn, page.pfn + 2 ** order)) {
              expect(taken.has(sub)).toBe(false);
              taken.add(sub);
            }
          }
          expect(whole - freePages(k)).toBe(taken.size);
        }
        for (const page of held) yield* call(freeFrames(k, page));
        expect(freePages(k)).toBe(whole);
        for (const reserved of [0, 1, 2]) expect(taken.has(pfn(reserved))).toBe(false);
      });
    }),
    { numRuns: 100 },
  );
  expect(failed).toBeGreaterThan(0);
});

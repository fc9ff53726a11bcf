/** The life of a gather: what begins it, what flushes, what another gather of the mm changes. */
import { call, PAGE_SIZE, readOnce } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import { describe, expect, test } from 'vitest';
import {
  ANON,
  BASE,
  bytes,
  count,
  type FlushEvent,
  flushesOf,
  MADV_DONTNEED,
  probed,
  runKernel,
  runProgram,
  somePage,
  testKernel,
} from './kernel.testlib.ts';
import { allocTable, Level, PUD_SIZE } from './kernel/pgtable.ts';
import { tlbNoteFreedTable, tlbNoteUnshared, tlbRemoveTlbEntry } from './gatherRange.ts';
import {
  __tlbRemovePageSize,
  tlbEndVma,
  tlbFlushMmu,
  tlbFlushMmuTlbonly,
  tlbFreeVmas,
  tlbGatherMmu,
  tlbGatherMmuFullmm,
  tlbGatherMmuVma,
  tlbStartVma,
} from './mmuGather.ts';
import type { MmStruct, VmArea } from './mmStruct.ts';
import { type Invalidation, OrderRecorder } from './recorder.testlib.ts';
import type { Release } from './rules.ts';
import type { TlbBackend } from './tlb.ts';

const vmaOf = (mm: MmStruct, flags: Partial<VmArea['flags']> = {}): VmArea => ({
  mm,
  start: BASE,
  end: BASE + PUD_SIZE,
  flags: { ...ANON, ...flags },
  file: null,
  offset: 0,
});

const ranges = (flushes: readonly FlushEvent[]): readonly (readonly [number, number, boolean])[] =>
  flushes.map(({ start, end, freedTables }) => [start, end, freedTables]);

test('nothing noted, nothing flushed', () => {
  const k = testKernel();
  const events = probed(k);
  runKernel(k, function* (mm) {
    const tlb = yield* call(tlbGatherMmu(k, mm));
    yield* call(tlbFlushMmuTlbonly(k, tlb));
    yield* call(tlbFlushMmu(k, tlb));
    tlb.needFlushAll = true;
    yield* call(k.fn.tlbFinishMmu(k, tlb));
  });
  expect(events).toEqual([]);
});

test('a flush forgets what it was for, and pages wait for the rest of it', () => {
  const k = testKernel();
  const events = probed(k);
  runKernel(k, function* (mm) {
    const tlb = yield* call(tlbGatherMmu(k, mm));
    tlbRemoveTlbEntry(tlb, BASE);
    yield* call(__tlbRemovePageSize(k, tlb, yield* call(somePage(k)), false, PAGE_SIZE));
    yield* call(tlbFlushMmuTlbonly(k, tlb));
    yield* call(tlbFlushMmuTlbonly(k, tlb));
    expect(events.map(({ kind }) => kind)).toEqual(['flush', 'flushed']);
    yield* call(k.fn.tlbFinishMmu(k, tlb));
  });
  expect(events.map(({ kind }) => kind)).toEqual(['flush', 'flushed', 'free-page']);
});

test('tables are freed before pages, after the flush', () => {
  const k = testKernel({ kconfig: { MMU_GATHER_RCU_TABLE_FREE: false, PT_RECLAIM: false } });
  const own = { ...native(), tlbRemoveTable: undefined };
  const batched = testKernel({ backend: { ...own, kconfig: { MMU_GATHER_TABLE_FREE: true } } });
  for (const [kernel, expected] of [
    [batched, ['flush', 'flushed', 'free-table', 'free-page']],
    // Without a batch of their own they are in the order in which they were removed.
    [k, ['flush', 'flushed', 'free-page', 'free-table']],
  ] as const) {
    const events = probed(kernel);
    runKernel(kernel, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(kernel, mm));
      tlbRemoveTlbEntry(tlb, BASE);
      const page = yield* call(somePage(kernel));
      yield* call(__tlbRemovePageSize(kernel, tlb, page, false, PAGE_SIZE));
      tlbNoteFreedTable(tlb, Level.pte, BASE);
      const table = yield* call(allocTable(kernel, 'test', Level.pte));
      if (table !== null) yield* call(kernel.fn.tlbRemoveTable(kernel, tlb, table));
      yield* call(kernel.fn.tlbFinishMmu(kernel, tlb));
    });
    expect(events.map(({ kind }) => kind)).toEqual(expected);
  }
});

test('a flush is pending from the beginning of a gather until it has flushed', () => {
  const k = testKernel();
  const pending: number[] = [];
  runKernel(k, function* (mm) {
    k.probe = ({ kind }) => {
      if (kind === 'flush' || kind === 'flushed') pending.push(mm.tlbFlushPending.value);
    };
    pending.push(yield* readOnce(mm.tlbFlushPending));
    const tlb = yield* call(tlbGatherMmu(k, mm));
    pending.push(yield* readOnce(mm.tlbFlushPending));
    tlbRemoveTlbEntry(tlb, BASE);
    yield* call(k.fn.tlbFinishMmu(k, tlb));
    pending.push(yield* readOnce(mm.tlbFlushPending));
  });
  expect(pending).toEqual([0, 1, 1, 1, 0]);
});

describe('need_flush_all: everything, whatever was noted', () => {
  test.each<[string, TlbBackend]>([
    ['x86', native()],
    ['generic tlb_flush()', { ...native(), tlbFlush: undefined }],
  ])('%s', (_name, backend) => {
    const recorder = new OrderRecorder();
    const k = testKernel({ backend: recorder.watch(backend) });
    runKernel(k, function* (mm) {
      for (const needFlushAll of [false, true]) {
        const tlb = yield* call(tlbGatherMmu(k, mm));
        tlb.needFlushAll = needFlushAll;
        tlbRemoveTlbEntry(tlb, BASE);
        yield* call(k.fn.tlbFinishMmu(k, tlb));
      }
    });
    const asked = recorder.events.filter((one): one is Invalidation => one.kind === 'invalidate');
    expect(asked.map(({ start, end }) => [start, end])).toEqual([
      [BASE, BASE + PAGE_SIZE],
      [0, Infinity],
    ]);
  });
});

describe('another gather of the mm is in between', () => {
  test('who ends first flushes everything, lazy CPUs too, even if nothing was noted', () => {
    const k = testKernel();
    const events = probed(k);
    runKernel(k, function* (mm) {
      const one = yield* call(tlbGatherMmu(k, mm));
      const other = yield* call(tlbGatherMmu(k, mm));
      tlbRemoveTlbEntry(other, BASE);
      // It has found the entry that the other one cleared: none.
      yield* call(k.fn.tlbFinishMmu(k, one));
      expect(one.fullmm).toBe(true);
      yield* call(k.fn.tlbFinishMmu(k, other));
      expect(other.fullmm).toBe(false);
    });
    expect(ranges(flushesOf(events))).toEqual([
      [Infinity, Infinity, true],
      [BASE, BASE + PAGE_SIZE, false],
    ]);
    expect(k.warnings).toEqual(new Set());
  });

  test('a gather of another mm is none', () => {
    const k = testKernel();
    const events = probed(k);
    runKernel(k, function* (mm) {
      const other = yield* call(tlbGatherMmu(k, k.initMm));
      const tlb = yield* call(tlbGatherMmu(k, mm));
      tlbRemoveTlbEntry(tlb, BASE);
      yield* call(k.fn.tlbFinishMmu(k, tlb));
      yield* call(k.fn.tlbFinishMmu(k, other));
    });
    expect(ranges(flushesOf(events))).toEqual([[BASE, BASE + PAGE_SIZE, false]]);
  });

  /** Two threads empty pages of their own again and again; whole flushes before exit. */
  function wholeFlushes(atOnce: boolean): number {
    const k = testKernel();
    const events = probed(k);
    let whole = 0;
    const own = BASE + bytes(64);
    runProgram(k, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: bytes(128) }));
      const helper = yield* call(
        user.thread(1, function* (other) {
          for (let round = 0; round < 30; round++) {
            yield* call(other.touch(own, 1));
            yield* call(other.madvise(own, bytes(1), MADV_DONTNEED));
          }
        }),
      );
      if (!atOnce) yield* call(user.join(helper));
      for (let round = 0; round < 10; round++) {
        yield* call(user.touch(BASE, 40));
        yield* call(user.madvise(BASE, bytes(40), MADV_DONTNEED));
      }
      if (atOnce) yield* call(user.join(helper));
      const flushes = flushesOf(events).filter(({ end }) => end === Infinity);
      whole = flushes.filter(({ freedTables }) => freedTables).length;
      expect(flushes).toHaveLength(whole);
      expect(user.mm.tlbFlushPending.value).toBe(0);
    });
    expect(count(events, 'free-page')).toBe(30 + 10 * 40);
    return whole;
  }

  test('two threads in MADV_DONTNEED at once, under mmap_lock for reading', () => {
    // One empties a page at a time and the other 40, so that they get out of step.
    expect(wholeFlushes(true)).toBeGreaterThan(0);
    expect(wholeFlushes(false)).toBe(0);
  });
});

describe('VMA by VMA', () => {
  test('tlb_end_vma() flushes, unless ranges are merged or everything goes', () => {
    const flushes = [false, true].map((merge) => {
      const own = { ...native(), kconfig: { MMU_GATHER_MERGE_VMAS: merge } };
      const k = testKernel({ backend: own });
      const events = probed(k);
      runKernel(k, function* (mm) {
        for (const gather of [tlbGatherMmu, tlbGatherMmuFullmm]) {
          const tlb = yield* call(gather(k, mm));
          tlbStartVma(tlb, vmaOf(mm, { hugetlb: true }));
          expect(tlb.vmaHuge).toBe(gather === tlbGatherMmu);
          tlbRemoveTlbEntry(tlb, BASE);
          yield* call(tlbEndVma(k, tlb));
          events.push({ kind: 'sync', by: 'rcu' });
          yield* call(k.fn.tlbFinishMmu(k, tlb));
        }
      });
      return events.map(({ kind }) => kind).filter((kind) => kind !== 'flushed');
    });
    expect(flushes).toEqual([
      ['flush', 'sync', 'sync', 'flush'],
      ['sync', 'flush', 'sync', 'flush'],
    ]);
  });

  test('a gather of one VMA knows it without tlb_start_vma()', () => {
    const k = testKernel({ kconfig: { MMU_GATHER_PAGE_SIZE: true } });
    runKernel(k, function* (mm) {
      const small = yield* call(tlbGatherMmuVma(k, vmaOf(mm)));
      expect([small.vmaHuge, small.vmaPfn, small.pageSize]).toEqual([false, false, 0]);
      yield* call(k.fn.tlbFinishMmu(k, small));
      const flags = { hugetlb: true, pfnmap: true };
      const huge = yield* call(tlbGatherMmuVma(k, vmaOf(mm, flags)));
      expect([huge.vmaHuge, huge.vmaPfn, huge.pageSize]).toEqual([true, true, 2 ** 21]);
      yield* call(k.fn.tlbFinishMmu(k, huge));
    });
  });

  test('tlb_free_vmas() has nothing to do for ordinary VMAs, nor when everything goes', () => {
    const k = testKernel();
    const events = probed(k);
    runKernel(k, function* (mm) {
      for (const gather of [tlbGatherMmu, tlbGatherMmuFullmm]) {
        const tlb = yield* call(gather(k, mm));
        tlbStartVma(tlb, vmaOf(mm, { pfnmap: gather === tlbGatherMmuFullmm }));
        tlbRemoveTlbEntry(tlb, BASE);
        yield* call(tlbFreeVmas(k, tlb));
        expect(flushesOf(events)).toHaveLength(gather === tlbGatherMmu ? 0 : 1);
        yield* call(k.fn.tlbFinishMmu(k, tlb));
      }
    });
  });

  /** Flushes of one munmap of three VMAs, a page each, the middle one of raw frames. In pages. */
  function pfnmapFlushes(kernel: Release): readonly (readonly [number, number, boolean])[] {
    const k = testKernel({ kernel });
    const events = probed(k);
    runProgram(k, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: bytes(1) }));
      const flags = { ...ANON, pfnmap: true };
      yield* call(user.mmap({ addr: BASE + bytes(1), length: bytes(1), flags }));
      yield* call(user.mmap({ addr: BASE + bytes(2), length: bytes(1) }));
      yield* call(user.touch(BASE, 3));
      yield* call(user.munmap(BASE, bytes(3)));
      k.probe = null;
    });
    return flushesOf(events).map(({ start, end, freedTables }) => [
      (start - BASE) / PAGE_SIZE,
      (end - BASE) / PAGE_SIZE,
      freedTables,
    ]);
  }

  test.each<[Release, readonly (readonly [number, number, boolean])[]]>([
    // At the end of that VMA, for what has come until then; the third waits for the tables.
    [
      '6.1.192',
      [
        [0, 2, false],
        [0, 3, true],
      ],
    ],
    [
      '6.12.117',
      [
        [0, 2, false],
        [0, 3, true],
      ],
    ],
    // Before the VMAs go, for all of them; then the tables, which are noted at the start.
    [
      '6.18',
      [
        [0, 3, false],
        [0, 1, true],
      ],
    ],
    [
      '7.0',
      [
        [0, 3, false],
        [0, 1, true],
      ],
    ],
    [
      '7.3',
      [
        [0, 3, false],
        [0, 1, true],
      ],
    ],
  ])('raw frames have a flush of their own, in %s', (kernel, flushes) => {
    expect(pfnmapFlushes(kernel)).toEqual(flushes);
  });
});

describe('shared PMD tables', () => {
  test('are flushed when they are let go, and waited for if one owner is left', () => {
    const k = testKernel();
    const events = probed(k);
    runKernel(k, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(k, mm));
      yield* call(k.fn.tlbFlushUnsharedTables(k, tlb));
      tlbNoteUnshared(tlb, BASE, false);
      yield* call(k.fn.tlbFlushUnsharedTables(k, tlb));
      expect(events.map(({ kind }) => kind)).toEqual(['flush', 'flushed']);
      tlbNoteUnshared(tlb, BASE, true);
      yield* call(k.fn.tlbFlushUnsharedTables(k, tlb));
      yield* call(k.fn.tlbFinishMmu(k, tlb));
    });
    const kinds = ['flush', 'flushed', 'flush', 'flushed', 'sync'];
    expect(events.map(({ kind }) => kind)).toEqual(kinds);
    expect(k.warnings).toEqual(new Set());
  });

  test('a gather that ends before they are waited for is a finding', () => {
    const k = testKernel();
    runKernel(k, function* (mm) {
      const tlb = yield* call(tlbGatherMmu(k, mm));
      tlbNoteUnshared(tlb, BASE, true);
      yield* call(k.fn.tlbFinishMmu(k, tlb));
    });
    expect(k.warnings).toEqual(new Set(['unshared tables were not flushed before tlb_finish_mmu']));
  });
});

test('where hardware walks no tables they are freed without an invalidation', () => {
  const claims = { ...native().claims, needsTableInvalidate: false };
  const kinds = [native().claims, claims].map((claimed) => {
    const k = testKernel({ backend: { ...native(), claims: claimed } });
    const events = probed(k);
    runKernel(
      k,
      function* (mm) {
        const tlb = yield* call(tlbGatherMmu(k, mm));
        tlbNoteFreedTable(tlb, Level.pte, BASE);
        const table = yield* call(allocTable(k, 'test', Level.pte));
        if (table !== null) yield* call(k.fn.tlbRemoveTable(k, tlb, table));
        events.push({ kind: 'sync', by: 'ipi' });
        yield* call(k.fn.tlbFinishMmu(k, tlb));
      },
      { failures: { tlb_remove_table: 1 } },
    );
    return events.map(({ kind }) => kind);
  });
  expect(kinds).toEqual([
    ['flush', 'flushed', 'sync'],
    ['sync', 'flush', 'flushed'],
  ]);
});

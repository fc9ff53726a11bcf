/** What a gather notes: range, levels, stride; and what range a munmap comes to. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { describe, expect, test } from 'vitest';
import {
  tlbFlushLevelRange,
  tlbGetUnmapShift,
  tlbNoteFreedTable,
  tlbNoteUnshared,
  tlbRemovePmdTlbEntry,
  tlbRemoveTlbEntry,
  tlbResetRange,
} from './gatherRange.ts';
import {
  BASE,
  bytes,
  flushesOf,
  probed,
  runKernel,
  runProgram,
  testKernel,
} from './kernel.testlib.ts';
import { Level, PMD_SIZE, PUD_SIZE, taskSize } from './kernel/pgtable.ts';
import { type MmuGather, tlbGatherMmu, tlbGatherMmuFullmm } from './mmuGather.ts';

/** What `note` makes of an empty gather; flags that are not set are left out. */
function noted(note: (tlb: MmuGather) => void): Record<string, unknown> {
  const k = testKernel();
  return runKernel(k, function* (mm) {
    const tlb = yield* call(tlbGatherMmu(k, mm));
    note(tlb);
    const { start, end, clearedPtes, clearedPmds, clearedPuds, clearedP4ds } = tlb;
    const { freedTables, unsharedTables, fullyUnsharedTables } = tlb;
    const flags = {
      clearedPtes,
      clearedPmds,
      clearedPuds,
      clearedP4ds,
      freedTables,
      unsharedTables,
      fullyUnsharedTables,
    };
    const set = Object.entries(flags).filter(([, on]) => on);
    return { start, end, set: set.map(([name]) => name), shift: tlbGetUnmapShift(tlb) };
  });
}

const ADDR = BASE + 5 * PUD_SIZE + 3 * PMD_SIZE + 7 * PAGE_SIZE;
const PUD_BASE = BASE + 5 * PUD_SIZE;
const P4D_SIZE = 2 ** 39;

test('an empty gather has a range that anything makes larger', () => {
  const empty = { start: taskSize(testKernel()), end: 0, set: [], shift: 12 };
  expect(noted(() => undefined)).toEqual(empty);
});

test.each<[string, (tlb: MmuGather) => void, number, number, string[], number]>([
  ['a PTE', (tlb) => tlbRemoveTlbEntry(tlb, ADDR), ADDR, PAGE_SIZE, ['clearedPtes'], 12],
  ['a huge PMD', (tlb) => tlbRemovePmdTlbEntry(tlb, BASE), BASE, PMD_SIZE, ['clearedPmds'], 21],
  [
    'a huge PUD',
    (tlb) => tlbFlushLevelRange(tlb, Level.pud, BASE, PUD_SIZE),
    BASE,
    PUD_SIZE,
    ['clearedPuds'],
    30,
  ],
  [
    'a huge P4D',
    (tlb) => tlbFlushLevelRange(tlb, Level.p4d, BASE, P4D_SIZE),
    BASE,
    P4D_SIZE,
    ['clearedP4ds'],
    39,
  ],
  [
    'a PTE table',
    (tlb) => tlbNoteFreedTable(tlb, Level.pte, ADDR),
    ADDR,
    PAGE_SIZE,
    ['clearedPmds', 'freedTables'],
    21,
  ],
  [
    'a PMD table',
    (tlb) => tlbNoteFreedTable(tlb, Level.pmd, ADDR),
    ADDR,
    PAGE_SIZE,
    ['clearedPuds', 'freedTables'],
    30,
  ],
  [
    'a PUD table',
    (tlb) => tlbNoteFreedTable(tlb, Level.pud, ADDR),
    ADDR,
    PAGE_SIZE,
    ['clearedP4ds', 'freedTables'],
    39,
  ],
  [
    'a P4D table, of no level that has a stride',
    (tlb) => tlbNoteFreedTable(tlb, Level.p4d, ADDR),
    ADDR,
    PAGE_SIZE,
    ['freedTables'],
    12,
  ],
  [
    'a shared PMD table, with all that it maps',
    (tlb) => tlbNoteUnshared(tlb, ADDR, false),
    PUD_BASE,
    PUD_SIZE,
    ['clearedPmds', 'unsharedTables'],
    21,
  ],
  [
    'a shared PMD table that one owner is left of',
    (tlb) => tlbNoteUnshared(tlb, ADDR, true),
    PUD_BASE,
    PUD_SIZE,
    ['clearedPmds', 'unsharedTables', 'fullyUnsharedTables'],
    21,
  ],
])('%s', (_what, note, start, size, set, shift) => {
  expect(noted(note)).toEqual({ start, end: start + size, set, shift });
});

test('the range grows to both sides, over what lies between', () => {
  const both = noted((tlb) => {
    tlbRemoveTlbEntry(tlb, ADDR);
    tlbRemoveTlbEntry(tlb, ADDR - 9 * PAGE_SIZE);
    tlbRemoveTlbEntry(tlb, ADDR - 2 * PAGE_SIZE);
  });
  expect(both).toMatchObject({ start: ADDR - 9 * PAGE_SIZE, end: ADDR + PAGE_SIZE });
});

test('the smallest level that was cleared decides the stride', () => {
  const levels = [Level.p4d, Level.pud, Level.pmd, Level.pte];
  const shifts = levels.map((_, index) =>
    noted((tlb) => {
      for (const level of levels.slice(0, index + 1)) tlbFlushLevelRange(tlb, level, BASE, 1);
    }),
  );
  expect(shifts.map(({ shift }) => shift)).toEqual([39, 30, 21, 12]);
});

test('what is forgotten after a flush, and what is not', () => {
  const reset = noted((tlb) => {
    tlbNoteFreedTable(tlb, Level.pte, ADDR);
    tlbNoteFreedTable(tlb, Level.pud, ADDR);
    tlbRemoveTlbEntry(tlb, ADDR);
    tlbNoteUnshared(tlb, ADDR, true);
    tlbResetRange(tlb, 1000);
  });
  expect(reset).toEqual({ start: 1000, end: 0, set: ['fullyUnsharedTables'], shift: 12 });
});

test('a gather of a whole address space has no range, only an end that is not 0', () => {
  const k = testKernel();
  const range = runKernel(k, function* (mm) {
    const tlb = yield* call(tlbGatherMmuFullmm(k, mm));
    const before = [tlb.start, tlb.end];
    tlbRemoveTlbEntry(tlb, ADDR);
    const noting = [tlb.start, tlb.end];
    tlbResetRange(tlb, taskSize(k));
    return [before, noting, [tlb.start, tlb.end]];
  });
  const whole = [Infinity, Infinity];
  expect(range).toEqual([whole, [ADDR, Infinity], whole]);
});

describe('the range of a munmap of one page', () => {
  /** Maps the page and, if there is one, a neighbour; gives the only flush of the munmap. */
  function range(neighbour: number | null): Record<string, unknown> | undefined {
    const k = testKernel();
    const events = probed(k);
    runProgram(k, function* (user) {
      if (neighbour !== null) {
        yield* call(user.mmap({ addr: neighbour, length: bytes(1) }));
        yield* call(user.touch(neighbour, 1));
      }
      yield* call(user.mmap({ addr: ADDR, length: bytes(1) }));
      yield* call(user.touch(ADDR, 1));
      yield* call(user.munmap(ADDR, bytes(1)));
      k.probe = null;
    });
    const flushes = flushesOf(events);
    expect(flushes).toHaveLength(1);
    return flushes.map(({ start, end, freedTables }) => ({ start, end, freedTables }))[0];
  }

  const end = ADDR + PAGE_SIZE;

  test('is that page, if its tables have other pages', () => {
    expect(range(ADDR + PAGE_SIZE)).toEqual({ start: ADDR, end, freedTables: false });
  });

  test('begins where its PTE table begins, if that goes', () => {
    // free_pte_range() gets the address rounded to 2 MiB, and notes one page there.
    const start = ADDR - 7 * PAGE_SIZE;
    expect(range(ADDR + PMD_SIZE)).toEqual({ start, end, freedTables: true });
  });

  test('begins where its PMD table begins, if that goes too', () => {
    expect(range(ADDR + PUD_SIZE)).toEqual({ start: PUD_BASE, end, freedTables: true });
  });

  test('begins where its PUD table begins, if all go', () => {
    expect(range(null)).toEqual({ start: BASE, end, freedTables: true });
  });
});

/** What each configuration makes of one workload: derived by hand, and as a table for the docs. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type Mode, MODES, type ModeRow, modesTable, runMode } from './kconfigModes.testlib.ts';

const RUNS = MODES.map(runMode);

function rowOf(mode: string): ModeRow {
  const run = RUNS.find(({ row }) => row.mode === mode);
  if (run === undefined) throw new Error(`no mode is called ${mode}`);
  return run.row;
}

const NO_TABLES = { 'page-batch': 0, batch: 0, rcu: 0, one: 0, 'one-rcu': 0, direct: 0 };
const NO_SYNCS = { ipi: 0, rcu: 0 };

describe('every mode frees the same', () => {
  test.each(RUNS)('$row.mode', ({ row, k, lost }) => {
    const tables = Object.values(row.tables).reduce((sum, count) => sum + count, 0);
    // The sums of the workload: see there.
    expect({ pages: row.pages, tables }).toEqual({ pages: 627, tables: 6 + 5 + 1 });
    // CPU 0 idles on the address space that is gone: its root table stays.
    expect(lost).toBe(1);
    expect(k.warnings).toEqual(new Set());
  });
});

test('RCU_TABLE_FREE: one flush for what is unmapped at a time', () => {
  // kept, one, many (600 pages are 7 + 509 + 84 in three page batches, none of which is refused),
  // two (one range over both VMAs), MADV_DONTNEED, the munmap after it (tables only), exit: 7, the
  // last one of everything. All 12 tables by the table batch, which RCU frees.
  expect(rowOf('RCU_TABLE_FREE')).toEqual({
    mode: 'RCU_TABLE_FREE',
    invalidations: 7,
    whole: 1,
    tables: { ...NO_TABLES, rcu: 12 },
    reclaimed: 0,
    syncs: NO_SYNCS,
    pages: 627,
  });
});

test('none: tables are pages like others, so they leave by the page batch', () => {
  // The page batches have room for them too: many has 600 pages and 3 tables, 7 + 509 + 87.
  expect(rowOf('none')).toMatchObject({
    invalidations: 7,
    tables: { ...NO_TABLES, 'page-batch': 12 },
    syncs: NO_SYNCS,
  });
});

test('no MERGE_VMAS: the pages of each VMA have a flush of their own, and the tables one more', () => {
  // kept 1, as its tables stay; one 1 + 1; many 1 + 1; two 2 VMAs + 1; MADV_DONTNEED 1; its munmap
  // 0 + 1; exit 1, as nobody runs there: 1 + 2 + 2 + 3 + 1 + 1 + 1.
  expect(rowOf('RCU_TABLE_FREE, no MERGE_VMAS')).toMatchObject({
    invalidations: 11,
    whole: 1,
    tables: { ...NO_TABLES, rcu: 12 },
  });
});

test('PAGE_SIZE: from huge to small pages is one flush more', () => {
  expect(rowOf('RCU_TABLE_FREE, PAGE_SIZE')).toMatchObject({ invalidations: 7 + 1, whole: 1 });
});

test('NO_RANGE: as many flushes, each of everything', () => {
  expect(rowOf('RCU_TABLE_FREE, NO_RANGE')).toMatchObject({ invalidations: 7, whole: 7 });
});

test('NO_GATHER: each entry that is cleared is invalidated, and then the gather flushes too', () => {
  // All 627 pages but the one that exit finds, where nobody runs; and the 7 of the gathers.
  expect(rowOf('TABLE_FREE, NO_GATHER')).toMatchObject({
    invalidations: 626 + 7,
    tables: { ...NO_TABLES, batch: 12 },
  });
});

test('PT_RECLAIM: a table that MADV_DONTNEED has emptied goes then', () => {
  expect(rowOf('RCU_TABLE_FREE, PT_RECLAIM')).toMatchObject({ invalidations: 7, reclaimed: 1 });
  expect(rowOf('x86 7.0')).toMatchObject({ invalidations: 7, reclaimed: 1 });
  expect(rowOf('RCU_TABLE_FREE')).toMatchObject({ invalidations: 7, reclaimed: 0 });
});

test('without pages for page batches every seventh page flushes', () => {
  // kept: 16 = 7 + 7 + 2, so 3. one 1. many: 600 = 85 * 7 + 5, so 86. two 1, MADV_DONTNEED and its
  // munmap 1 each, exit 1: 3 + 1 + 86 + 1 + 1 + 1 + 1.
  expect(rowOf('x86 7.0, no page for a page batch')).toMatchObject({
    invalidations: 94,
    tables: { ...NO_TABLES, rcu: 12 },
  });
});

describe('without a page for a table batch', () => {
  // Each table is invalidated before it goes, alone: kept 1 (none goes), one 2, many 3, two 2,
  // MADV_DONTNEED 1, its munmap 2, exit 3, which are of everything.
  const invalidations = 1 + 2 + 3 + 2 + 1 + 2 + 3;
  const alone = { ...NO_TABLES, one: 12 };

  test.each([
    ['TABLE_FREE', 'the flush was enough', NO_SYNCS],
    ['RCU_TABLE_FREE 7.0', 'everybody is interrupted for it', { ipi: 12, rcu: 0 }],
    ['RCU_TABLE_FREE 7.3', 'a grace period is waited for', { ipi: 0, rcu: 12 }],
  ])('%s: a table goes alone, and %s', (mode, _why, syncs) => {
    expect(rowOf(`${mode}, no page for a table batch`)).toMatchObject({
      invalidations,
      whole: 3,
      tables: alone,
      syncs,
    });
  });

  test('NO_TABLE_INVALIDATE: the flush comes when the gather ends, as where there is memory', () => {
    const mode = 'RCU_TABLE_FREE 7.0, NO_TABLE_INVALIDATE, no page for a table batch';
    expect(rowOf(mode)).toMatchObject({ invalidations: 7, tables: alone, syncs: { ipi: 12 } });
  });

  test('PT_RECLAIM: the table itself has room for the callback, so nobody waits', () => {
    // MADV_DONTNEED has its table go, which its munmap then does not: 1 and 1, not 1 and 2.
    expect(rowOf('x86 7.0, no page for a table batch')).toMatchObject({
      invalidations: invalidations - 1,
      tables: { ...NO_TABLES, 'one-rcu': 12 },
      reclaimed: 1,
      syncs: NO_SYNCS,
    });
  });
});

test('a run is a function of its mode', () => {
  const again = (mode: Mode): ModeRow => runMode(mode).row;
  expect(MODES.slice(0, 3).map(again)).toEqual(RUNS.slice(0, 3).map(({ row }) => row));
});

test('docs/kconfig-modes.md is up to date', () => {
  const path = fileURLToPath(new URL('../docs/kconfig-modes.md', import.meta.url));
  const expected = modesTable(RUNS.map(({ row }) => row));
  expect(
    readFileSync(path, 'utf8'),
    `docs/kconfig-modes.md is out of date. Put this in it:\n${expected}`,
  ).toBe(expected);
});

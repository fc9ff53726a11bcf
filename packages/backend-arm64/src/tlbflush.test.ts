/** What a flush broadcasts, in which order, and what it spares. */
import { call, type Invalidation, PAGE_SIZE, tlbi, UsageError } from '@shootdown/machine';
import {
  type Kthread,
  Level,
  type MmuGather,
  PMD_SIZE,
  PUD_SIZE,
  TLB_FLUSH_ALL,
  tlbFlushLevelRange,
  tlbFlushMmuTlbonly,
  tlbGatherMmu,
  tlbGatherMmuFullmm,
  tlbNoteFreedTable,
  tlbNoteUnshared,
  tlbRemoveTlbEntry,
} from '@shootdown/mmu-gather';
import { describe, expect, test } from 'vitest';
import { arm64 } from './arm64.ts';
import type { Arm64Features } from './context.ts';
import { BASE, emptyMm, runOn, stepsOn, testKernel } from './kernel.testlib.ts';
import { archTlbbatchAddPending, archTlbbatchFlush } from './tlbflush.ts';

const ASID = 1;

/** A kernel whose CPU 0 has an mm loaded, which so has the first ASID. */
function loaded(features: Partial<Arm64Features> = {}) {
  const { k, broadcasts } = testKernel({ backend: arm64({ features }) });
  const mm = emptyMm(k);
  runOn(k, 0, k.backend.switchMm(k, k.machine.cpu(0).id, mm));
  const sent = (): readonly Invalidation[] => broadcasts.splice(0).map(({ what }) => what);
  /** The Ops of a flush of `pages` from BASE on. */
  const flush = (pages: number, strideShift = 12, freedTables = false): readonly string[] => {
    const end = BASE + pages * PAGE_SIZE;
    const info = { mm, start: BASE, end, strideShift, freedTables };
    return stepsOn(k, 0, k.backend.flushTlbMmRange(k, info));
  };
  /** What a gather sends for what `note` notes. */
  const gathered = (note: (tlb: MmuGather) => void, gather = tlbGatherMmu) => {
    stepsOn(
      k,
      0,
      (function* () {
        const tlb = yield* call(gather(k, mm));
        note(tlb);
        yield* call(tlbFlushMmuTlbonly(k, tlb));
      })(),
    );
    return sent();
  };
  return { k, mm, sent, flush, gathered };
}

const at = (page: number, upper: Invalidation['upper'], pages = 1): Invalidation => ({
  pcid: ASID,
  from: BASE + page * PAGE_SIZE,
  pages,
  stride: PAGE_SIZE,
  globals: true,
  upper,
});

const WHOLE_ASID = { pcid: ASID, from: null, globals: false, upper: 'all' };

describe('a flush of a range', () => {
  test('is DSB ISHST, read the ASID, TLBI, DSB ISH', () => {
    const { flush, sent } = loaded();
    expect(flush(1)).toEqual(['fence', 'load', 'tlbi', 'dsb']);
    expect(sent()).toEqual([at(0, 'none')]);
  });

  test('waits once, however many entries it names', () => {
    const { flush } = loaded();
    expect(flush(3)).toEqual(['fence', 'load', 'tlbi', 'tlbi', 'tlbi', 'dsb']);
  });

  test('takes the walk caches on its path where tables are freed', () => {
    const { flush, sent } = loaded();
    flush(1, 12, true);
    expect(sent()).toEqual([at(0, 'path')]);
  });

  test('names 511 entries one by one; 512 are MAX_DVM_OPS, and the ASID goes as a whole', () => {
    const { flush, sent } = loaded();
    flush(511);
    const each = sent();
    expect(each).toHaveLength(511);
    expect(each.at(-1)).toEqual(at(510, 'none'));
    flush(512);
    expect(sent()).toMatchObject([WHOLE_ASID]);
  });

  test('counts in strides: 511 huge pages are 511 TLBIs, 512 the whole ASID', () => {
    const { flush, sent } = loaded();
    flush(511 * 512, 21);
    const each = sent();
    expect(each).toHaveLength(511);
    expect(each.at(-1)).toEqual(at(510 * 512, 'none'));
    flush(512 * 512, 21);
    expect(sent()).toMatchObject([WHOLE_ASID]);
  });

  test('rounds to its stride', () => {
    const { k, mm, sent } = loaded();
    const start = BASE + 5 * PAGE_SIZE;
    const info = { mm, start, end: start + PAGE_SIZE, strideShift: 21, freedTables: true };
    stepsOn(k, 0, k.backend.flushTlbMmRange(k, info));
    expect(sent()).toEqual([at(0, 'path')]);
  });

  test('of everything is of the ASID', () => {
    const { k, mm, sent } = loaded();
    stepsOn(k, 0, k.backend.flushTlbRange(k, mm, 0, TLB_FLUSH_ALL, 0));
    expect(sent()).toMatchObject([WHOLE_ASID]);
  });
});

describe('range TLBI', () => {
  const TLBI_RANGE = { tlbRange: true };

  test.each([
    // One page is no range.
    [1, [1]],
    // Scale 0 names 2, 4 ... 64 pages; an odd page goes last and alone.
    [2, [2]],
    [33, [32, 1]],
    [64, [64]],
    // Scale 1 names units of 64 pages: 511 = 7 * 64 + 31 * 2 + 1.
    [511, [448, 62, 1]],
    [512, [512]],
    // Scale 3 names units of 65,536: 2^21 pages are 32 of them.
    [2 ** 21, [2 ** 21]],
  ])('%i pages are TLBIs of %j', (pages, parts) => {
    const { flush, sent } = loaded(TLBI_RANGE);
    flush(pages);
    expect(sent().map((what) => what.pages)).toEqual(parts);
  });

  test('covers the range without a gap', () => {
    const { flush, sent } = loaded(TLBI_RANGE);
    flush(511);
    expect(sent()).toEqual([at(0, 'none', 448), at(448, 'none', 62), at(510, 'none')]);
  });

  test('a page more than 2^21 is the whole ASID', () => {
    const { flush, sent } = loaded(TLBI_RANGE);
    flush(2 ** 21 + 1);
    expect(sent()).toMatchObject([WHOLE_ASID]);
  });
});

describe('a gather', () => {
  test('of cleared entries spares the walk caches', () => {
    const { gathered } = loaded();
    const sent = gathered((tlb) => {
      tlbRemoveTlbEntry(tlb, BASE);
      tlbRemoveTlbEntry(tlb, BASE + 2 * PAGE_SIZE);
    });
    // One range, also over what lies between.
    expect(sent).toEqual([at(0, 'none'), at(1, 'none'), at(2, 'none')]);
  });

  test('of a freed page table does not', () => {
    const { gathered } = loaded();
    const sent = gathered((tlb) => tlbNoteFreedTable(tlb, Level.pte, BASE));
    expect(sent).toEqual([at(0, 'path')]);
  });

  test('takes its stride from the lowest level that was cleared', () => {
    const { gathered } = loaded();
    const sent = gathered((tlb) => tlbFlushLevelRange(tlb, Level.pmd, BASE, 2 * PMD_SIZE));
    expect(sent).toEqual([at(0, 'none'), at(512, 'none')]);
  });

  test('that unshared a PMD table has 512 entries, so its ASID goes', () => {
    const { gathered } = loaded();
    const sent = gathered((tlb) => tlbNoteUnshared(tlb, BASE, false));
    expect(PUD_SIZE / PMD_SIZE).toBe(512);
    expect(sent).toMatchObject([WHOLE_ASID]);
  });

  test('of a whole mm that keeps its tables sends nothing: the ASID retires with it', () => {
    const { gathered } = loaded();
    const entry = (tlb: MmuGather): void => tlbRemoveTlbEntry(tlb, BASE);
    expect(gathered(entry, tlbGatherMmuFullmm)).toEqual([]);
  });

  test('of a whole mm whose tables are freed sends the ASID', () => {
    const { gathered } = loaded();
    const table = (tlb: MmuGather): void => tlbNoteFreedTable(tlb, Level.pte, BASE);
    expect(gathered(table, tlbGatherMmuFullmm)).toMatchObject([WHOLE_ASID]);
  });
});

test('a batch invalidates with every page and waits once, at its end', () => {
  const { k, mm, sent } = loaded();
  const cpumask = mm.cpumask.value;
  const batch = { cpumask, unmappedPages: false };
  const steps = stepsOn(
    k,
    0,
    (function* () {
      for (const page of [0, 7, 3])
        yield* call(archTlbbatchAddPending(k, batch, mm, BASE + page * PAGE_SIZE));
      yield* call(archTlbbatchFlush());
    })(),
  );
  expect(steps.filter((step) => step === 'tlbi' || step === 'dsb')).toEqual([
    'tlbi',
    'tlbi',
    'tlbi',
    'dsb',
  ]);
  expect(sent()).toEqual([at(0, 'none'), at(7, 'none'), at(3, 'none')]);
});

test('a task that is switched out has waited for its TLBIs: the next DSB may be another CPU’s', () => {
  const { k } = loaded();
  const { id } = k.machine.cpu(0);
  /** How many CPUs have not applied a TLBI, before and after CPU 0 goes `away`. */
  const outstanding = (away: Kthread): readonly number[] => {
    const seen: number[] = [];
    const body = function* (): Kthread {
      yield* tlbi(at(0, 'none'));
      seen.push(k.machine.cpu(0).outstanding);
      yield* call(away);
      seen.push(k.machine.cpu(0).outstanding);
    };
    runOn(k, 0, body());
    return seen;
  };
  expect(outstanding(k.backend.enterLazyTlb(k, id))).toEqual([4, 0]);
  expect(outstanding(k.backend.switchMm(k, id, emptyMm(k)))).toEqual([4, 0]);
});

describe('kernel translations', () => {
  test('go by address under every ASID, and their walk caches stay', () => {
    const { k, sent } = loaded();
    const steps = stepsOn(k, 0, k.backend.flushTlbKernelRange(k, BASE, BASE + PAGE_SIZE));
    expect(steps).toEqual(['fence', 'tlbi', 'dsb']);
    expect(sent()).toEqual([{ ...at(0, 'none'), pcid: null }]);
  });

  test('from 512 pages on everything goes', () => {
    const { k, sent } = loaded();
    const everything = [{ pcid: null, from: null, globals: true, upper: 'all' }];
    stepsOn(k, 0, k.backend.flushTlbKernelRange(k, BASE, BASE + 511 * PAGE_SIZE));
    expect(sent()).toHaveLength(511);
    stepsOn(k, 0, k.backend.flushTlbKernelRange(k, BASE, BASE + 512 * PAGE_SIZE));
    expect(sent()).toMatchObject(everything);
    stepsOn(k, 0, k.backend.flushTlbAll(k));
    expect(sent()).toMatchObject(everything);
  });
});

test('what it says about itself', () => {
  const { claims, kconfig, costs } = arm64();
  expect(claims).toEqual({
    flushTlbMultiImpliesIpiBroadcast: false,
    flushImpliesSmpMb: true,
    needsTableInvalidate: true,
  });
  expect(kconfig.MMU_GATHER_RCU_TABLE_FREE).toBe(true);
  expect(kconfig.MMU_GATHER_MERGE_VMAS).toBeUndefined();
  // TLBI and DSB have their costs in sim's table.
  expect(costs).toBeUndefined();
});

test('every changed entry needs a flush', () => {
  expect(arm64().pteNeedsFlush(1, 3)).toBe(true);
});

test('other widths of ASIDs are refused', () => {
  const features = { asidBits: 12 } as unknown as Arm64Features;
  expect(() => arm64({ features })).toThrow(UsageError);
});

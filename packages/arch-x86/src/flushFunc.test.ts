/** flush_tlb_func() with the state set by hand: what it does, and what it says of it. */
import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '@shootdown/machine';
import { type MmStruct, type Release, TLB_FLUSH_ALL } from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import { cache, flushInfo, irqsOff, loadByHand, mapByHand } from './byHand.testlib.ts';
import { BASE, emptyMm, flushesIn, testKernel } from './kernel.testlib.ts';
import { flushTlbFunc } from './tlb.ts';
import { contextOf, type FlushTlbInfo, type TlbContext, tlbstate } from './x86.ts';

const PAGES = 3;

interface Scene {
  readonly k: MmKernel;
  readonly mm: MmStruct;
  readonly frames: readonly number[];
  readonly ctx: () => TlbContext | undefined;
  readonly cached: () => readonly boolean[];
  readonly flush: (info: Partial<FlushTlbInfo>) => readonly string[];
  readonly traced: () => readonly string[];
}

/** CPU 1 has three pages of an mm cached and is at generation 10; the mm is at `mmGen`. */
function scene(mmGen: number, lazy = false, kernel: Release = '7.0'): Scene {
  const { k, records } = testKernel({ cpus: 2, kernel, record: true });
  const mm = emptyMm(k);
  const frames = mapByHand(k, mm, BASE, PAGES);
  loadByHand(k, 1, mm, { tlbGen: 10, lazy });
  contextOf(mm).tlbGen.value = mmGen;
  cache(k, 1, BASE, PAGES);
  const cpu = k.machine.cpu(1);
  return {
    k,
    mm,
    frames,
    ctx: () => tlbstate(k, cpu.id).ctxs[1],
    cached: () => frames.map((frame) => cpu.tlb.translatesTo(frame)),
    flush: (info) =>
      irqsOff(k, 1, () =>
        flushTlbFunc(k, flushInfo({ mm, start: BASE, end: BASE + PAGE_SIZE, ...info })),
      ),
    traced: () => flushesIn(records),
  };
}

const NOTHING = [true, true, true];
const ONE_PAGE = [false, true, true];
const EVERYTHING = [false, false, false];
const ALL = { start: 0, end: TLB_FLUSH_ALL };
const BATCH = { mm: null, ...ALL };

describe('a CPU at generation 10 is asked by another', () => {
  test.each<[string, number, number, Partial<FlushTlbInfo>, boolean[], number, string[]]>([
    ['for 11 with the mm at 11: partial', 11, 11, {}, ONE_PAGE, 11, ['1:1']],
    ['for 11 with the mm at 12: everything, up to 12', 11, 12, {}, EVERYTHING, 12, ['1:-1']],
    [
      'for 12 with the mm at 12: everything, as 11 is missing',
      12,
      12,
      {},
      EVERYTHING,
      12,
      ['1:-1'],
    ],
    ['for 13 with the mm at 14: everything, up to 14', 13, 14, {}, EVERYTHING, 14, ['1:-1']],
    ['for 10: nothing, and it does not say so', 10, 10, {}, NOTHING, 10, []],
    ['for 9 with the mm at 10: nothing, silently', 9, 10, {}, NOTHING, 10, []],
    ['for 10 with the mm at 12: nothing, though 12 is to come', 10, 12, {}, NOTHING, 10, []],
    ['for all of 11: everything', 11, 11, ALL, EVERYTHING, 11, ['1:-1']],
    ['for all of 10: nothing, silently', 10, 11, ALL, NOTHING, 10, []],
    ['for a batch with the mm at 11: everything', 0, 11, BATCH, EVERYTHING, 11, ['1:-1']],
    ['for a batch with the mm at 10: nothing, and it says so', 0, 10, BATCH, NOTHING, 10, ['1:0']],
  ])('%s', (_what, newTlbGen, mmGen, info, left, reached, traced) => {
    const s = scene(mmGen);
    s.flush({ newTlbGen, ...info });
    expect(s.cached()).toEqual(left);
    expect(s.ctx()?.tlbGen).toBe(reached);
    expect(s.traced()).toEqual(traced);
    expect([...s.k.warnings]).toEqual([]);
  });

  test('for 11 at 12: the flush for 12 that follows returns silently', () => {
    const s = scene(12);
    s.flush({ newTlbGen: 11 });
    s.flush({ newTlbGen: 12 });
    expect(s.traced()).toEqual(['1:-1']);
    expect(s.ctx()?.tlbGen).toBe(12);
  });

  test('for 12 before 11: the flush for 11 finds it done', () => {
    const s = scene(12);
    s.flush({ newTlbGen: 12 });
    s.flush({ newTlbGen: 11 });
    expect(s.traced()).toEqual(['1:-1']);
    expect(s.cached()).toEqual(EVERYTHING);
  });
});

describe('what is read, and in which order', () => {
  const LOOKS = ['load cpu_tlbstate.loaded_mm[1]', 'load cpu_tlbstate_shared.is_lazy[1]'];

  test('a flush that was done already does not touch the shared generation', () => {
    expect(scene(12).flush({ newTlbGen: 10 })).toEqual(LOOKS);
  });

  test('the shared generation is read last, just before the invalidation', () => {
    const { flush, mm } = scene(11);
    expect(flush({ newTlbGen: 11 })).toEqual([...LOOKS, `load ${mm.name}.tlb_gen`, 'invlpg']);
  });

  test('a full flush is one write of CR3, with what it holds', () => {
    const { k, flush, mm } = scene(12);
    expect(flush({ newTlbGen: 12 })).toEqual([...LOOKS, `load ${mm.name}.tlb_gen`, 'writeCr3']);
    const { root, pcid } = k.machine.cpu(1);
    expect({ root, pcid }).toEqual({ root: mm.pgd, pcid: 2 });
  });

  test('a partial flush is one INVLPG per stride', () => {
    const s = scene(11);
    const steps = s.flush({ newTlbGen: 11, start: BASE, end: BASE + 2 * PAGE_SIZE });
    expect(steps.filter((step) => step === 'invlpg')).toHaveLength(2);
    expect(s.cached()).toEqual([false, false, true]);
    expect(s.traced()).toEqual(['1:2']);
  });

  test('less than a stride is no stride to count, and one INVLPG all the same', () => {
    const s = scene(11);
    const steps = s.flush({ newTlbGen: 11, strideShift: 21, initiatingCpu: k1 });
    expect(steps.filter((step) => step === 'invlpg')).toHaveLength(1);
    expect(s.traced()).toEqual(['3:0']);
    expect(s.k.stats.vmstat.nr_tlb_local_flush_one).toBe(0);
  });
});

const k1 = testKernel({ cpus: 2 }).k.machine.cpu(1).id;

describe('counters and reasons', () => {
  const counters = ({ k }: Scene): unknown => {
    const { nr_tlb_remote_flush_received: received, ...rest } = k.stats.vmstat;
    const { nr_tlb_local_flush_all: all, nr_tlb_local_flush_one: one } = rest;
    return { received, all, one, remote: rest.nr_tlb_remote_flush, row: [...k.stats.tlbRow] };
  };
  const LOCAL = { received: 0, remote: 0, row: [0, 0] };
  const REMOTE = { received: 1, all: 0, one: 0, remote: 0, row: [0, 1] };

  test('its own partial flush counts pages, with reason 3', () => {
    const s = scene(11);
    const end = BASE + 2 * PAGE_SIZE;
    s.flush({ newTlbGen: 11, end, initiatingCpu: k1 });
    expect(counters(s)).toEqual({ ...LOCAL, all: 0, one: 2 });
    expect(s.traced()).toEqual(['3:2']);
  });

  test('its own full flush counts once, with reason 3', () => {
    const s = scene(12);
    s.flush({ newTlbGen: 12, initiatingCpu: k1 });
    expect(counters(s)).toEqual({ ...LOCAL, all: 1, one: 0 });
    expect(s.traced()).toEqual(['3:-1']);
  });

  test('its own batched flush has reason 2', () => {
    const s = scene(11);
    s.flush({ ...BATCH, newTlbGen: 0, initiatingCpu: k1 });
    expect(counters(s)).toEqual({ ...LOCAL, all: 1, one: 0 });
    expect(s.traced()).toEqual(['2:-1']);
  });

  test('its own flush that finds nothing to do counts nothing and is traced with 0 pages', () => {
    const s = scene(10);
    s.flush({ ...BATCH, newTlbGen: 0, initiatingCpu: k1 });
    expect(counters(s)).toEqual({ ...LOCAL, all: 0, one: 0 });
    expect(s.traced()).toEqual(['2:0']);
  });

  test.each<[string, number, Partial<FlushTlbInfo>]>([
    ['partial', 11, { newTlbGen: 11 }],
    ['full', 12, { newTlbGen: 12 }],
    ['done already', 10, { newTlbGen: 10 }],
    ['batched', 11, { ...BATCH, newTlbGen: 0 }],
  ])('a %s flush for another CPU is in the TLB row and in no local counter', (_, mmGen, info) => {
    const s = scene(mmGen);
    s.flush(info);
    expect(counters(s)).toEqual(REMOTE);
  });

  test.each<[string, number, number, string]>([
    ['a CPU is ahead of the generation of its mm', 9, 0, 'a batch'],
    ['a flush is ahead of the generation of its mm', 11, 12, 'a flush'],
  ])('%s: the kernel warns', (warning, mmGen, newTlbGen) => {
    const s = scene(mmGen);
    s.flush({ ...ALL, newTlbGen });
    expect([...s.k.warnings]).toContain(warning);
  });

  test('an mm under an ASID that is not its own: the kernel warns', () => {
    const s = scene(11);
    Object.assign(s.ctx() ?? {}, { ctxId: 999 });
    s.flush({ newTlbGen: 11 });
    expect([...s.k.warnings]).toEqual(['a CPU runs an mm under an ASID that is not its own']);
  });
});

describe('a CPU that is not in the mm', () => {
  const has = (mm: MmStruct): boolean => mm.cpumask.value.has(1);

  function elsewhere(kernel: Release): Scene & { readonly other: MmStruct } {
    const s = scene(11, false, kernel);
    const other = emptyMm(s.k);
    other.cpumask.value.set(1);
    contextOf(other).tlbGen.value = 50;
    return { ...s, other };
  }

  test.each<Release>(['6.1.192', '6.12.117'])('returns in %s, silently', (kernel) => {
    const s = elsewhere(kernel);
    s.flush({ mm: s.other, newTlbGen: 50 });
    expect(s.traced()).toEqual([]);
    expect(has(s.other)).toBe(true);
    expect(s.cached()).toEqual(NOTHING);
    expect(s.k.stats.tlbRow[1]).toBe(1);
  });

  test.each<Release>(['6.18', '7.0', '7.3'])('leaves its mask in %s, with reason 5', (kernel) => {
    const s = elsewhere(kernel);
    s.flush({ mm: s.other, newTlbGen: 50 });
    expect(s.traced()).toEqual(['5:0']);
    expect(has(s.other)).toBe(false);
    expect(has(s.mm)).toBe(true);
    expect(s.cached()).toEqual(NOTHING);
    expect(s.k.stats.tlbRow[1]).toBe(1);
  });

  test('leaves its mask also where it flushes that mm itself, and counts nothing', () => {
    const s = elsewhere('7.0');
    s.flush({ mm: s.other, newTlbGen: 50, initiatingCpu: k1 });
    expect(s.traced()).toEqual(['5:0']);
    expect(has(s.other)).toBe(false);
    expect(s.cached()).toEqual(NOTHING);
    expect(s.ctx()?.tlbGen).toBe(10);
    expect(s.k.stats.tlbRow[1]).toBe(0);
    expect([...s.k.warnings]).toEqual([]);
  });

  test('has nothing to flush for a batch while init_mm is loaded', () => {
    const s = scene(11);
    loadByHand(s.k, 1, s.k.initMm, { asid: 0, tlbGen: 0 });
    s.flush({ ...BATCH, newTlbGen: 0 });
    expect(s.traced()).toEqual([]);
    expect(s.k.stats.tlbRow[1]).toBe(1);
  });

  test('does not look at the mm of a batch', () => {
    const s = elsewhere('7.0');
    s.flush({ ...BATCH, newTlbGen: 0 });
    expect(s.traced()).toEqual(['1:-1']);
    expect(has(s.other)).toBe(true);
  });
});

describe('a lazy CPU that is interrupted', () => {
  test.each<[Release, boolean]>([
    ['6.1.192', false],
    ['6.12.117', false],
    ['7.0', true],
  ])('goes to init_mm instead; in %s it stays in the mask: %s', (kernel, stays) => {
    const s = scene(11, true, kernel);
    s.flush({ newTlbGen: 11 });
    // No flush: init_mm still has the ASID of boot.
    expect(s.traced()).toEqual(['0:0']);
    expect(s.mm.cpumask.value.has(1)).toBe(stays);
    const state = tlbstate(s.k, k1);
    expect(state.loadedMm.value).toBe(s.k.initMm);
    expect(state.isLazy.value).toBe(false);
    expect(s.k.machine.cpu(1).root).toBe(s.k.initMm.pgd);
    expect(s.ctx()?.tlbGen).toBe(10);
    expect(s.k.stats.tlbRow[1]).toBe(1);
  });

  test('goes there also if what is asked for is done already', () => {
    const s = scene(10, true);
    s.flush({ newTlbGen: 10 });
    expect(s.traced()).toEqual(['0:0']);
    expect(tlbstate(s.k, k1).loadedMm.value).toBe(s.k.initMm);
  });

  test('takes an ASID for init_mm, if it has none, and flushes that', () => {
    const s = scene(11, true);
    Object.assign(tlbstate(s.k, k1).ctxs[0] ?? {}, { ctxId: 0 });
    s.flush({ newTlbGen: 11 });
    expect(s.traced()).toEqual(['0:-1']);
  });
});

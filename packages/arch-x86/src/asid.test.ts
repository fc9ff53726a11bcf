/** Six ASIDs per CPU, round robin: who hits, who flushes, and when all are dropped. */
import { describe, expect, test } from 'vitest';
import { call, type CpuId } from '@shootdown/machine';
import type { MmStruct } from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import { chooseNewAsid, type NewAsid } from './asid.ts';
import { flushTlbOneKernel } from './flushLocal.ts';
import { irqsOff } from './byHand.testlib.ts';
import { byClock, emptyMm, flushesIn, startProcess, testKernel } from './kernel.testlib.ts';
import { switchMmIrqsOff } from './tlb.ts';
import {
  contextOf,
  type CpuTlbState,
  tlbstate,
  TLB_NR_DYN_ASIDS,
  type X86Features,
} from './x86.ts';

interface Scene {
  readonly k: MmKernel;
  readonly state: CpuTlbState;
  readonly mms: readonly MmStruct[];
  /** Switches through mms by number, -1 for init_mm. Gives `hit` or `flush` of each. */
  readonly run: (order: readonly number[]) => readonly string[];
  /** Whose the ASIDs are: numbers of mms, -1 for init_mm, null for nobody. */
  readonly owners: () => readonly (number | null)[];
}

function scene(count: number, features: Partial<X86Features> = {}): Scene {
  const { k, records } = testKernel({ cpus: 1, features, record: true });
  const mms = Array.from({ length: count }, () => emptyMm(k));
  const state = tlbstate(k, 0 as CpuId);
  const mmOf = (number: number): MmStruct => mms[number] ?? k.initMm;
  return {
    k,
    state,
    mms,
    run: (order) => {
      records.length = 0;
      for (const number of order) irqsOff(k, 0, () => switchMmIrqsOff(k, mmOf(number)));
      return flushesIn(records).map((flush) => (flush === '0:0' ? 'hit' : 'flush'));
    },
    owners: () =>
      state.ctxs.map(({ ctxId }) => {
        if (ctxId === contextOf(k.initMm).ctxId) return -1;
        const owner = mms.findIndex((mm) => contextOf(mm).ctxId === ctxId);
        return owner === -1 ? null : owner;
      }),
  };
}

const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, at) => at);
const all = (what: string, times: number): readonly string[] =>
  Array.from({ length: times }, () => what);

describe('choose_new_asid', () => {
  const choose = ({ k, state, mms }: Scene, gen: number): NewAsid =>
    chooseNewAsid(k, state, mms[0] ?? k.initMm, gen);

  test.each([
    [9, false],
    [10, false],
    [11, true],
  ])('an ASID at generation 10 of an mm at %i is flushed: %s', (gen, needFlush) => {
    const s = scene(1);
    Object.assign(s.state.ctxs[3] ?? {}, { ctxId: 2, tlbGen: 10 });
    expect(choose(s, gen)).toEqual({ asid: 3, needFlush });
    expect(s.state.nextAsid).toBe(1);
  });

  test('who owns none takes the next one, which is flushed, whatever its generation', () => {
    const s = scene(1);
    s.state.nextAsid = 4;
    Object.assign(s.state.ctxs[4] ?? {}, { ctxId: 77, tlbGen: 1000 });
    expect(choose(s, 1)).toEqual({ asid: 4, needFlush: true });
    expect(s.state.nextAsid).toBe(5);
  });

  test('after the last one the first is taken', () => {
    const s = scene(1);
    s.state.nextAsid = TLB_NR_DYN_ASIDS;
    expect(choose(s, 1)).toEqual({ asid: 0, needFlush: true });
    expect(s.state.nextAsid).toBe(1);
  });

  test('without PCID there is one, and it is always flushed', () => {
    const s = scene(1, { pcid: false });
    Object.assign(s.state.ctxs[0] ?? {}, { ctxId: 2, tlbGen: 10 });
    expect(choose(s, 10)).toEqual({ asid: 0, needFlush: true });
  });

  test('an mm that was recreated has another id, and hits nothing', () => {
    const { k } = scene(0);
    const ids = [emptyMm(k), emptyMm(k), emptyMm(k)].map((mm) => contextOf(mm).ctxId);
    expect(ids).toEqual([2, 3, 4]);
  });
});

describe('mms in turn on one CPU', () => {
  test('boot leaves init_mm under ASID 0, and the next are 1 to 5', () => {
    const s = scene(5);
    expect(s.owners()).toEqual([-1, null, null, null, null, null]);
    expect(s.run(upTo(5))).toEqual(all('flush', 5));
    expect(s.owners()).toEqual([-1, 0, 1, 2, 3, 4]);
  });

  test('the hardware sees ASID n as PCID n + 1', () => {
    const s = scene(2);
    s.run([0, 1, 0]);
    expect(s.k.machine.cpu(0).pcid).toBe(2);
    expect(s.k.machine.cpu(0).root).toBe(s.mms[0]?.pgd);
  });

  test.each([1, 2, 5, 6])('%i of them flush once each and never again', (count) => {
    const s = scene(count);
    const rounds = [...upTo(count), ...upTo(count), ...upTo(count)];
    const after = count === 1 ? 0 : 2 * count;
    expect(s.run(rounds)).toEqual([...all('flush', count), ...all('hit', after)]);
  });

  test.each([7, 8])('%i of them always flush: each takes the ASID of the next', (count) => {
    const s = scene(count);
    const rounds = [...upTo(count), ...upTo(count), ...upTo(count)];
    expect(s.run(rounds)).toEqual(all('flush', 3 * count));
  });

  test('7 that do not go in a circle hit sometimes', () => {
    const s = scene(7);
    s.run(upTo(7));
    expect(s.owners()).toEqual([5, 6, 1, 2, 3, 4]);
    expect(s.run([5, 4, 0, 5, 1])).toEqual(['hit', 'hit', 'flush', 'hit', 'flush']);
  });

  test('5 and init_mm fit: a lazy CPU that is kicked out costs no flush', () => {
    const s = scene(5);
    s.run(upTo(5));
    expect(s.run([-1, 0, 1, 2, 3, 4])).toEqual(all('hit', 6));
  });

  test('6 and one kick-out to init_mm: everybody flushes once more, and then nobody', () => {
    const s = scene(6);
    s.run([...upTo(6), ...upTo(6)]);
    expect(s.owners()).toEqual([5, 0, 1, 2, 3, 4]);
    expect(s.run([-1, ...upTo(6)])).toEqual(all('flush', 7));
    expect(s.owners()).toEqual([4, 5, 0, 1, 2, 3]);
    expect(s.run(upTo(6))).toEqual(all('hit', 6));
  });

  test('the same where the kick-out comes in the middle of a round', () => {
    const s = scene(6);
    s.run([...upTo(6), 0, 1]);
    const rounds = [-1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5];
    expect(s.run(rounds)).toEqual(['flush', ...all('hit', 4), ...all('flush', 6)]);
    expect(s.run(upTo(6))).toEqual(all('hit', 6));
  });

  test('without PCID every switch flushes', () => {
    const s = scene(2, { pcid: false });
    expect(s.run([0, 1, 0, 1])).toEqual(all('flush', 4));
    expect(s.k.machine.cpu(0).pcid).toBe(0);
  });

  test('a flush of an mm that is not loaded is made up for when it is', () => {
    const s = scene(2);
    s.run([0, 1]);
    const [mm = s.k.initMm] = s.mms;
    contextOf(mm).tlbGen.value += 3;
    expect(s.run([0])).toEqual(['flush']);
    expect(s.state.ctxs[1]?.tlbGen).toBe(3);
    expect(s.run([1, 0])).toEqual(['hit', 'hit']);
  });
});

describe('processes that yield to each other', () => {
  /** Switches of `count` processes on one CPU, without the first round and the exits. */
  function yielding(count: number): readonly string[] {
    const { k, records } = testKernel({ cpus: 1, record: true });
    for (let id = 0; id < count; id++)
      startProcess(k, 0, function* (user) {
        for (let turn = 0; turn < 10; turn++) yield* call(user.schedYield());
      });
    byClock(k);
    expect([...k.warnings]).toEqual([]);
    return flushesIn(records).slice(count, 8 * count);
  }

  test.each([
    [2, '0:0'],
    [5, '0:0'],
    [6, '0:0'],
    [7, '0:-1'],
  ])('%i processes: every switch is %s', (count, flush) => {
    expect(yielding(count)).toEqual(all(flush, 7 * count));
  });
});

describe('invalidate_other', () => {
  test('a kernel page flushed under PTI drops every other ASID at the next switch', () => {
    const s = scene(3, { pti: true });
    s.run([0, 1, 2, 0]);
    irqsOff(s.k, 0, () => flushTlbOneKernel(s.k, 0));
    expect(s.state.invalidateOther).toBe(true);
    expect(s.owners()).toEqual([-1, 0, 1, 2, null, null]);
    expect(s.run([1])).toEqual(['flush']);
    // The one that was loaded was flushed by itself; 1 took the next ASID.
    expect(s.owners()).toEqual([null, 0, null, null, 1, null]);
    expect(s.state.invalidateOther).toBe(false);
    expect(s.run([2, 0, 1, -1])).toEqual(['flush', 'hit', 'hit', 'flush']);
  });

  test('without PTI kernel translations are global and nothing is dropped', () => {
    const s = scene(2);
    s.run([0, 1]);
    irqsOff(s.k, 0, () => flushTlbOneKernel(s.k, 0));
    expect(s.state.invalidateOther).toBe(false);
    expect(s.run([0, 1])).toEqual(['hit', 'hit']);
  });
});

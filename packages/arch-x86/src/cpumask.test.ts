/** Who keeps mm_cpumask: the switch, step by step, and what is left in the mask per release. */
import { describe, expect, test } from 'vitest';
import { call, type CpuId } from '@shootdown/machine';
import { type MmStruct, type Release, RELEASES } from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import { irqsOff, loadByHand } from './byHand.testlib.ts';
import { byClock, emptyMm, flushesIn, startProcess, testKernel } from './kernel.testlib.ts';
import { enterLazyTlb, switchMmIrqsOff } from './tlb.ts';
import { contextOf, type CpuTlbState, tlbstate } from './x86.ts';

/** Releases that clear the bit at the switch, and those that leave it to a later flush. */
const AT_ONCE: readonly Release[] = ['6.1.192', '6.12.117'];
const LATER: readonly Release[] = RELEASES.filter((release) => !AT_ONCE.includes(release));

interface Scene {
  readonly k: MmKernel;
  readonly a: MmStruct;
  readonly b: MmStruct;
  readonly state: CpuTlbState;
  /** Ops of a switch, without the two looks at what is loaded. */
  readonly switchTo: (mm: MmStruct) => readonly string[];
  readonly traced: () => readonly string[];
}

const NAME = { a: 'mm2', b: 'mm3' };

/** CPU 1 has mm `a` loaded. */
function scene(kernel: Release, lazy = false, pcid = true): Scene {
  const { k, records } = testKernel({ cpus: 2, kernel, features: { pcid }, record: true });
  const a = emptyMm(k);
  const b = emptyMm(k);
  loadByHand(k, 1, a, { lazy, asid: pcid ? 1 : 0 });
  return {
    k,
    a,
    b,
    state: tlbstate(k, 1 as CpuId),
    switchTo: (mm) => {
      const steps = irqsOff(k, 1, () => switchMmIrqsOff(k, mm));
      expect(steps.slice(0, 2)).toEqual([
        'load cpu_tlbstate.loaded_mm[1]',
        'load cpu_tlbstate_shared.is_lazy[1]',
      ]);
      return steps.slice(2);
    },
    traced: () => flushesIn(records),
  };
}

const STORE = 'store cpu_tlbstate.loaded_mm[1]';
const inMask = (mm: MmStruct): readonly number[] => mm.cpumask.value.members();

describe('a switch to another mm', () => {
  test.each(AT_ONCE)('in %s: leaves the old mask, enters the new one, reads, loads', (kernel) => {
    const s = scene(kernel);
    expect(s.switchTo(s.b)).toEqual([
      STORE,
      `clearBit ${NAME.a}.cpumask`,
      `setBit ${NAME.b}.cpumask`,
      `load ${NAME.b}.tlb_gen`,
      'writeCr3',
      STORE,
    ]);
    expect([inMask(s.a), inMask(s.b)]).toEqual([[], [1]]);
  });

  test.each(LATER)('in %s: stays in the old mask, enters the new one', (kernel) => {
    const s = scene(kernel);
    expect(s.switchTo(s.b)).toEqual([
      STORE,
      `testBit ${NAME.b}.cpumask`,
      `setBit ${NAME.b}.cpumask`,
      `load ${NAME.b}.tlb_gen`,
      'writeCr3',
      STORE,
    ]);
    expect([inMask(s.a), inMask(s.b)]).toEqual([[1], [1]]);
  });

  test.each(LATER)('in %s: where its bit is set already, a fence stands for it', (kernel) => {
    const s = scene(kernel);
    s.b.cpumask.value.set(1);
    expect(s.switchTo(s.b)).toEqual([
      STORE,
      `testBit ${NAME.b}.cpumask`,
      'fence',
      `load ${NAME.b}.tlb_gen`,
      'writeCr3',
      STORE,
    ]);
  });

  test.each<[Release, readonly string[]]>([
    ['6.12.117', [`clearBit ${NAME.a}.cpumask`]],
    ['7.0', ['fence']],
  ])('in %s: init_mm has no mask to enter', (kernel, steps) => {
    const s = scene(kernel);
    expect(s.switchTo(s.k.initMm)).toEqual([
      STORE,
      ...steps,
      'load init_mm.tlb_gen',
      'writeCr3',
      STORE,
    ]);
    expect(inMask(s.k.initMm)).toEqual([]);
  });

  test.each(RELEASES)('in %s: out of lazy mode, which ends first', (kernel) => {
    const s = scene(kernel, true);
    expect(s.switchTo(s.b).slice(0, 2)).toEqual(['store cpu_tlbstate_shared.is_lazy[1]', STORE]);
    expect(s.state.isLazy.value).toBe(false);
  });

  test.each(RELEASES)('in %s: the ASID is recorded with the generation that was read', (kernel) => {
    const s = scene(kernel);
    contextOf(s.b).tlbGen.value = 7;
    s.switchTo(s.b);
    const { loadedMmAsid: asid, ctxs } = s.state;
    expect(ctxs[asid]).toEqual({ ctxId: contextOf(s.b).ctxId, tlbGen: 7 });
    expect(s.traced()).toEqual(['0:-1']);
    expect([...s.k.warnings]).toEqual([]);
  });

  test('in 6.12.117 the kernel warns if it was not in the old mask', () => {
    const s = scene('6.12.117');
    s.a.cpumask.value.clear(1);
    s.switchTo(s.b);
    expect([...s.k.warnings]).toEqual(['a CPU leaves an mm whose mm_cpumask it is not in']);
  });
});

describe('a switch to the mm that is loaded', () => {
  const IN_MASK = `testBit ${NAME.a}.cpumask`;
  const AWAKE = 'store cpu_tlbstate_shared.is_lazy[1]';

  test.each(RELEASES)('in %s: from one thread to another it is nothing', (kernel) => {
    const s = scene(kernel);
    contextOf(s.a).tlbGen.value = 5;
    expect(s.switchTo(s.a)).toEqual([IN_MASK]);
    expect(s.traced()).toEqual([]);
  });

  test.each(RELEASES)('in %s: back from lazy mode it compares generations', (kernel) => {
    const s = scene(kernel, true);
    expect(s.switchTo(s.a)).toEqual([AWAKE, IN_MASK, 'fence', `load ${NAME.a}.tlb_gen`]);
    expect(s.traced()).toEqual([]);
  });

  test.each(RELEASES)('in %s: and flushes its ASID if it is behind', (kernel) => {
    const s = scene(kernel, true);
    contextOf(s.a).tlbGen.value = 5;
    const steps = s.switchTo(s.a);
    expect(steps).toEqual([AWAKE, IN_MASK, 'fence', `load ${NAME.a}.tlb_gen`, 'writeCr3', STORE]);
    expect(s.traced()).toEqual(['0:-1']);
    expect(s.state.loadedMmAsid).toBe(1);
    expect(s.state.ctxs[1]).toEqual({ ctxId: contextOf(s.a).ctxId, tlbGen: 5 });
  });

  test('the kernel warns if it is not in the mask, and enters it', () => {
    const s = scene('7.0');
    s.a.cpumask.value.clear(1);
    s.switchTo(s.a);
    expect([...s.k.warnings]).toEqual(['a CPU has an mm loaded and is not in its mm_cpumask']);
    expect(inMask(s.a)).toEqual([1]);
  });

  test('the kernel warns if the ASID is another mm’s', () => {
    const s = scene('7.0');
    Object.assign(s.state.ctxs[1] ?? {}, { ctxId: 99 });
    s.switchTo(s.a);
    expect([...s.k.warnings]).toEqual(['a CPU runs an mm under an ASID that is not its own']);
  });
});

describe('lazy mode', () => {
  test('is a note and nothing else: the mm stays loaded and the CPU in its mask', () => {
    const s = scene('7.0');
    expect(irqsOff(s.k, 1, () => enterLazyTlb(s.k))).toEqual([
      'load cpu_tlbstate.loaded_mm[1]',
      'store cpu_tlbstate_shared.is_lazy[1]',
    ]);
    expect(s.state.isLazy.value).toBe(true);
    expect(inMask(s.a)).toEqual([1]);
  });

  test('is not entered with init_mm', () => {
    const s = scene('7.0');
    s.switchTo(s.k.initMm);
    irqsOff(s.k, 1, () => enterLazyTlb(s.k));
    expect(s.state.isLazy.value).toBe(false);
  });
});

describe('two processes in turn on one CPU', () => {
  /** Their masks after process 0 has ended there and while process 1 runs. */
  function masksInTurn(kernel: Release): readonly (readonly number[])[] {
    const { k } = testKernel({ cpus: 2, kernel });
    const seen: (readonly number[])[] = [];
    const looked = k.machine.cell('looked', false);
    const mms = [0, 1].map(() =>
      startProcess(k, 0, function* (user) {
        for (let turn = 0; turn < 3; turn++) yield* call(user.schedYield());
        yield* call(user.spin(looked));
      }),
    );
    startProcess(k, 1, function* (user) {
      yield* call(user.nanosleep(1_000_000));
      seen.push(...mms.map(inMask));
      yield* call(user.set(looked));
    });
    byClock(k);
    expect([...k.warnings]).toEqual([]);
    return seen;
  }

  test.each(AT_ONCE)('in %s only the one that runs has the CPU in its mask', (kernel) => {
    expect(masksInTurn(kernel)).toEqual([[0], []]);
  });

  test.each(LATER)('in %s both have it', (kernel) => {
    expect(masksInTurn(kernel)).toEqual([[0], [0]]);
  });
});

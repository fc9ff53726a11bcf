/** Address space ids: who gets which, and what a roll-over takes from whom. */
import type { MmStruct } from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import { describe, expect, test } from 'vitest';
import { arm64 } from './arm64.ts';
import { arm64Of } from './context.ts';
import { emptyMm, runOn, testKernel } from './kernel.testlib.ts';

/** 8 bits: 255 ASIDs beside the reserved one. */
const smallKernel = (): MmKernel =>
  testKernel({ cpus: 2, backend: arm64({ features: { asidBits: 8 } }) }).k;

/** Switches `cpu` to `mm`; gives the ASID it runs under then. */
function load(k: MmKernel, cpu: number, mm: MmStruct): number {
  const { id } = k.machine.cpu(cpu);
  runOn(k, cpu, k.backend.switchMm(k, id, mm));
  expect(k.machine.cpu(cpu).root).toBe(mm.pgd);
  return k.machine.cpu(cpu).pcid;
}

/** New mms that run on CPU 0 one after another. */
const loadNew = (k: MmKernel, count: number): readonly (readonly [MmStruct, number])[] =>
  Array.from({ length: count }, () => {
    const mm = emptyMm(k);
    return [mm, load(k, 0, mm)] as const;
  });

const asids = (loaded: readonly (readonly [MmStruct, number])[]): readonly number[] =>
  loaded.map(([, asid]) => asid);

function mmAt(loaded: readonly (readonly [MmStruct, number])[], at: number): MmStruct {
  const [mm] = loaded.at(at) ?? [];
  if (mm === undefined) throw new RangeError(`${loaded.length} mms, none at ${at}`);
  return mm;
}

const counting = (from: number, to: number): readonly number[] =>
  Array.from({ length: to - from + 1 }, (_, n) => from + n);

test('before anything ran every CPU is on the reserved page table, under ASID 0', () => {
  const k = smallKernel();
  for (const { root, pcid } of k.machine.cpus) expect([root, pcid]).toEqual([k.initMm.pgd, 0]);
});

test('an mm has one ASID on every CPU, and keeps it', () => {
  const k = smallKernel();
  const [a, b] = [emptyMm(k), emptyMm(k)];
  expect([load(k, 0, a), load(k, 0, b), load(k, 1, a), load(k, 0, a)]).toEqual([1, 2, 1, 1]);
});

test('init_mm needs no ASID', () => {
  const k = smallKernel();
  load(k, 0, emptyMm(k));
  expect(load(k, 0, k.initMm)).toBe(0);
});

test('a switch to what is loaded loads nothing', () => {
  const k = smallKernel();
  const mm = emptyMm(k);
  load(k, 0, mm);
  const { id } = k.machine.cpu(0);
  expect(runOn(k, 0, k.backend.switchMm(k, id, mm))).toEqual(['irqFlag', 'dsb', 'irqFlag']);
});

test('no flush belongs to a switch within a generation', () => {
  const k = smallKernel();
  const { id } = k.machine.cpu(0);
  const steps = runOn(k, 0, k.backend.switchMm(k, id, emptyMm(k)));
  expect(steps).toContain('writeCr3');
  expect(steps).not.toContain('invpcid');
});

describe('a roll-over', () => {
  test('happens with the 256th mm, which gets the first ASID that nobody runs', () => {
    const k = smallKernel();
    const first = loadNew(k, 255);
    expect(asids(first)).toEqual(counting(1, 255));
    expect(arm64Of(k).generation.value).toBe(1);
    // 255 is what CPU 0 ran: reserved. So 1 to 254 are free.
    const second = loadNew(k, 254);
    expect(asids(second)).toEqual(counting(1, 254));
    expect(arm64Of(k).generation.value).toBe(2);
    // Now 254 is reserved, and 255 is free again, behind the others.
    expect(asids(loadNew(k, 254))).toEqual([...counting(1, 253), 255]);
    expect(arm64Of(k).generation.value).toBe(3);
  });

  test('leaves a CPU what it runs, and gives it to nobody else', () => {
    const k = smallKernel();
    const running = emptyMm(k);
    expect(load(k, 1, running)).toBe(1);
    loadNew(k, 254);
    const after = loadNew(k, 253);
    expect(arm64Of(k).generation.value).toBe(2);
    expect(k.machine.cpu(1).pcid).toBe(1);
    // 1 is CPU 1's, 255 was CPU 0's.
    expect(asids(after)).toEqual(counting(2, 254));
    // Another CPU that takes the mm runs it under the same.
    expect(load(k, 0, running)).toBe(1);
  });

  test('keeps it through the next one too, although the CPU has not switched since', () => {
    const k = smallKernel();
    const running = emptyMm(k);
    load(k, 1, running);
    loadNew(k, 254);
    loadNew(k, 253);
    expect(asids(loadNew(k, 2))).toEqual([2, 3]);
    expect(arm64Of(k).generation.value).toBe(3);
    expect([k.machine.cpu(1).pcid, load(k, 0, running)]).toEqual([1, 1]);
  });

  test('an mm from before gets its ASID back if it is free, and another if not', () => {
    const k = smallKernel();
    const first = loadNew(k, 255);
    expect(asids(loadNew(k, 1))).toEqual([1]);
    expect(load(k, 0, mmAt(first, 99))).toBe(100);
    // The first mm's is taken: it gets the next one that is free.
    expect(load(k, 0, mmAt(first, 0))).toBe(2);
  });

  test('has every CPU drop all it has cached when it switches next, once', () => {
    const k = smallKernel();
    load(k, 1, emptyMm(k));
    loadNew(k, 254);
    const flushes = (cpu: number, mm: MmStruct): number => {
      const steps = runOn(k, cpu, k.backend.switchMm(k, k.machine.cpu(cpu).id, mm));
      return steps.filter((step) => step === 'invpcid').length;
    };
    const [a, b] = [emptyMm(k), emptyMm(k)];
    // The first switch brings the new generation about.
    expect([flushes(0, a), flushes(0, b), flushes(1, a), flushes(1, b)]).toEqual([1, 0, 1, 0]);
  });
});

/** Flushes that an unmapper puts off, and does for several mms at once. */
import { describe, expect, test } from 'vitest';
import { call, CpuMask, PAGE_SIZE } from '@shootdown/machine';
import type { Kthread, MmStruct, TlbBatch } from '@shootdown/mmu-gather';
import { cache, irqsOff, loadByHand, mapByHand } from './byHand.testlib.ts';
import { crowd, type Crowd } from './crowd.testlib.ts';
import { BASE, emptyMm, testKernel } from './kernel.testlib.ts';
import { switchMmIrqsOff } from './tlb.ts';
import { contextOf } from './x86.ts';

interface Batching {
  readonly c: Crowd;
  readonly batch: TlbBatch;
  /** Notes entries of mms. */
  readonly add: (...mms: readonly MmStruct[]) => void;
  readonly flush: () => void;
  readonly defers: (mm: MmStruct) => boolean;
}

function batching(options: Parameters<typeof crowd>[0]): Batching {
  const c = crowd(options);
  const { k } = c;
  const batch: TlbBatch = { cpumask: new CpuMask(k.machine.count), unmappedPages: false };
  return {
    c,
    batch,
    add: (...mms) =>
      c.run(function* (): Kthread {
        for (const mm of mms) yield* call(k.backend.batchAddPending(k, batch, mm, BASE));
      }),
    flush: () => c.run(() => k.backend.batchFlush(k, batch)),
    defers: (mm) => {
      let answer = false;
      c.run(function* (): Kthread {
        answer = yield* call(k.backend.batchShouldDefer(k, mm));
      });
      return answer;
    },
  };
}

const withMask = (mm: MmStruct, cpus: readonly number[]): MmStruct => {
  for (const cpu of cpus) mm.cpumask.value.set(cpu);
  return mm;
};

describe('a flush is put off', () => {
  test.each<[string, readonly number[], boolean]>([
    ['nobody is', [], false],
    ['only this CPU is', [0], false],
    ['another CPU is', [2], true],
    ['this CPU and another are', [0, 3], true],
  ])('if %s in the mask: %s -> %s', (_, cpus, defers) => {
    const b = batching({});
    expect(b.defers(withMask(emptyMm(b.c.k), cpus))).toBe(defers);
  });
});

describe('an entry that is put off', () => {
  test('raises the generation of its mm, each for itself', () => {
    const b = batching({ spinning: [1] });
    const mm = b.c.mm();
    const before = contextOf(mm).tlbGen.value;
    b.add(mm, mm, mm);
    expect(contextOf(mm).tlbGen.value).toBe(before + 3);
    expect(b.batch.unmappedPages).toBe(true);
    expect(b.c.targets()).toEqual([]);
  });

  test('adds the CPUs of its mm to those of the others', () => {
    const b = batching({});
    const { k } = b.c;
    b.add(withMask(emptyMm(k), [1, 3]), withMask(emptyMm(k), [1, 2]));
    expect(b.batch.cpumask.members()).toEqual([1, 2, 3]);
  });

  test('adds who is in the mask when it is put off, not when the flush comes', () => {
    const b = batching({});
    const mm = withMask(emptyMm(b.c.k), [1]);
    b.add(mm);
    withMask(mm, [2]);
    expect(b.batch.cpumask.members()).toEqual([1]);
  });

  test('raises the generation before it looks at the mask', () => {
    const b = batching({ spinning: [1] });
    const { name } = b.c.mm();
    b.add(b.c.mm());
    const { steps } = b.c;
    const at = steps.indexOf(`locked ${name}.tlb_gen`);
    expect(steps[at + 1]).toBe(`readMask ${name}.cpumask`);
  });
});

describe('the flush', () => {
  test('is of everything, for no mm: reason 4, 2 here and 1 there', () => {
    const b = batching({ spinning: [1, 2] });
    b.add(b.c.mm());
    b.flush();
    expect(b.c.flushes(0)).toEqual(['4:-1', '2:-1']);
    expect(b.c.flushes(1)).toEqual(['1:-1']);
    expect(b.c.targets()).toEqual(['1,2']);
  });

  test('is one for any number of entries', () => {
    const b = batching({ spinning: [1] });
    b.add(...Array.from({ length: 40 }, () => b.c.mm()));
    b.flush();
    expect(b.c.targets()).toEqual(['1']);
    expect(b.c.flushes(1)).toEqual(['1:-1']);
  });

  test('is of this CPU alone, with reason 2, where nobody else is concerned', () => {
    const b = batching({});
    b.add(b.c.mm());
    b.flush();
    expect(b.c.flushes(0)).toEqual(['2:-1']);
    expect(b.c.targets()).toEqual([]);
    expect(b.c.k.stats.vmstat.nr_tlb_remote_flush).toBe(0);
  });

  test('is nothing without entries', () => {
    const b = batching({ spinning: [1] });
    b.flush();
    expect(b.c.flushes(0)).toEqual([]);
    expect(b.c.targets()).toEqual([]);
  });

  test('leaves the batch empty, so that a second one is nothing', () => {
    const b = batching({ spinning: [1] });
    b.add(b.c.mm());
    b.flush();
    expect(b.batch.cpumask.empty).toBe(true);
    expect(b.batch.unmappedPages).toBe(false);
    b.flush();
    expect(b.c.targets()).toEqual(['1']);
  });

  test('leaves lazy CPUs alone', () => {
    const b = batching({ spinning: [1], sleeping: [2] });
    b.add(b.c.mm());
    b.flush();
    expect(b.c.targets()).toEqual(['1']);
    expect(b.c.flushes(2)).toEqual([]);
  });

  test('interrupts who runs another mm by now, which then has nothing to do', () => {
    const b = batching({ spinning: [1], elsewhere: [2], kernel: '7.0' });
    b.add(b.c.mm());
    b.flush();
    expect(b.c.targets()).toEqual(['1,2']);
    // Reason 1 with 0 pages: the mm that it runs is up to date.
    expect(b.c.flushes(2)).toEqual(['1:0']);
    expect(b.c.mm().cpumask.value.has(2)).toBe(true);
  });

  test('of an mm that this CPU does not run does not flush here for it', () => {
    const b = batching({ spinning: [1] });
    b.add(withMask(emptyMm(b.c.k), [1]));
    b.flush();
    expect(b.c.flushes(0)).toEqual(['4:-1']);
    expect(b.c.flushes(1)).toEqual(['1:0']);
  });
});

test('a CPU that did not run the mm flushes when it comes back to it', () => {
  const { k } = testKernel({ cpus: 2 });
  const [a, b] = [emptyMm(k), emptyMm(k)];
  const [frame = -1] = mapByHand(k, a, BASE, 1);
  loadByHand(k, 1, a, { asid: 1 });
  cache(k, 1, BASE, 1);
  loadByHand(k, 1, b, { asid: 2 });
  a.cpumask.value.clear(1);
  const batch: TlbBatch = { cpumask: new CpuMask(2), unmappedPages: false };
  irqsOff(k, 0, function* () {
    yield* call(k.backend.batchAddPending(k, batch, a, BASE + PAGE_SIZE));
  });
  expect(batch.cpumask.empty).toBe(true);
  irqsOff(k, 1, () => switchMmIrqsOff(k, a));
  const { root, pcid, tlb } = k.machine.cpu(1);
  expect([root, pcid]).toEqual([a.pgd, 2]);
  expect(tlb.translatesTo(frame)).toBe(false);
});

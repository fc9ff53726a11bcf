/** Kernel translations: everybody who is online, without an event, and what counts where. */
import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '@shootdown/machine';
import { TLB_FLUSH_ALL } from '@shootdown/mmu-gather';
import { cache, loadByHand, mapByHand, stepsHere } from './byHand.testlib.ts';
import { crowd, type Crowd } from './crowd.testlib.ts';
import { BASE, emptyMm, testKernel } from './kernel.testlib.ts';

const KERNEL = 2 ** 46;
const EVERYBODY = [1, 2, 3, 4];

/** CPU 1 spins, 2 is lazy, 3 runs another process, 4 has never run anything. */
const mixed = (): Crowd => crowd({ cpus: 5, spinning: [1], sleeping: [2], elsewhere: [3] });

interface Counters {
  readonly remote: number;
  readonly received: number;
  readonly all: number;
  readonly one: number;
}

const countersOf = ({ k }: Crowd): Counters => {
  const { vmstat } = k.stats;
  return {
    remote: vmstat.nr_tlb_remote_flush,
    received: vmstat.nr_tlb_remote_flush_received,
    all: vmstat.nr_tlb_local_flush_all,
    one: vmstat.nr_tlb_local_flush_one,
  };
};

/** What `order` adds to the counters. */
function added(c: Crowd, order: Parameters<Crowd['run']>[0]): Counters {
  const before = countersOf(c);
  c.run(order);
  const after = countersOf(c);
  return {
    remote: after.remote - before.remote,
    received: after.received - before.received,
    all: after.all - before.all,
    one: after.one - before.one,
  };
}

const flushPages =
  ({ k }: Crowd, pages: number): Parameters<Crowd['run']>[0] =>
  () =>
    k.backend.flushTlbKernelRange(k, KERNEL, KERNEL + pages * PAGE_SIZE);

describe('flush_tlb_kernel_range', () => {
  test.each([
    [1, 'do_kernel_range_flush'],
    [33, 'do_kernel_range_flush'],
    [34, 'do_flush_tlb_all'],
  ])('%i pages: every CPU that is online runs %s', (pages, func) => {
    const c = mixed();
    c.run(flushPages(c, pages));
    expect(c.targets()).toEqual([EVERYBODY.join()]);
    expect(c.entered()).toEqual([0, ...EVERYBODY].map((cpu) => `${cpu}: ${func}`));
  });

  test('33 pages are 33 local flushes of one page on each CPU, and nothing else', () => {
    const c = mixed();
    expect(added(c, flushPages(c, 33))).toEqual({ remote: 0, received: 0, all: 0, one: 5 * 33 });
  });

  test('34 pages are received by each CPU, the initiator too, and were sent by nobody', () => {
    const c = mixed();
    expect(added(c, flushPages(c, 34))).toEqual({ remote: 0, received: 5, all: 0, one: 0 });
  });

  test('everything is as 34 pages', () => {
    const c = mixed();
    const { k } = c;
    expect(added(c, () => k.backend.flushTlbKernelRange(k, 0, TLB_FLUSH_ALL)).received).toBe(5);
  });

  test('a flush of one page is an INVLPG on each CPU', () => {
    const c = mixed();
    c.run(flushPages(c, 2));
    expect(c.steps.filter((step) => step === 'invlpg')).toHaveLength(2);
  });

  test.each([33, 34])('%i pages leave no tlb_flush event, are in CAL and not in TLB', (pages) => {
    const c = mixed();
    const cal = [...c.k.stats.calRow];
    const tlb = [...c.k.stats.tlbRow];
    c.run(flushPages(c, pages));
    expect([0, ...EVERYBODY].flatMap((cpu) => c.flushes(cpu))).toEqual([]);
    expect([...c.k.stats.tlbRow]).toEqual(tlb);
    expect([...c.k.stats.calRow].map((count, cpu) => count - (cal[cpu] ?? 0))).toEqual([
      0, 1, 1, 1, 1,
    ]);
  });

  test('nobody leaves the mm for it, lazily or not', () => {
    const c = mixed();
    const { cpumask } = c.mm();
    const before = cpumask.value.members();
    c.run(flushPages(c, 34));
    expect(cpumask.value.members()).toEqual(before);
    expect([...c.k.warnings]).toEqual([]);
  });
});

describe('flush_tlb_all', () => {
  test('is counted as sent once, and as received by each CPU', () => {
    const c = mixed();
    const { k } = c;
    expect(added(c, () => k.backend.flushTlbAll(k))).toEqual({
      remote: 1,
      received: 5,
      all: 0,
      one: 0,
    });
    expect(c.targets()).toEqual([EVERYBODY.join()]);
  });

  test('takes everything, also what is cached under an ASID that is not loaded', () => {
    const { k } = testKernel({ cpus: 1 });
    const [a, b] = [emptyMm(k), emptyMm(k)];
    const [frame = -1] = mapByHand(k, a, BASE, 1);
    loadByHand(k, 0, a, { asid: 1 });
    cache(k, 0, BASE, 1);
    loadByHand(k, 0, b, { asid: 2 });
    stepsHere(k, () => k.backend.flushTlbAll(k));
    loadByHand(k, 0, a, { asid: 1 });
    expect(k.machine.cpu(0).tlb.translatesTo(frame)).toBe(false);
  });
});

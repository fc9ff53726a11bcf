/** Whom a flush interrupts: should_flush_tlb() by hand, and what the initiator does in which order. */
import { describe, expect, test } from 'vitest';
import { call, type CpuId, cpuId, nanoseconds, PAGE_SIZE } from '@shootdown/machine';
import {
  type Kthread,
  type MmStruct,
  PMD_SHIFT,
  PMD_SIZE,
  type Release,
  TLB_FLUSH_ALL,
} from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import { flushInfo, loadByHand, onlyRange } from './byHand.testlib.ts';
import {
  BASE,
  byClock,
  emptyMm,
  flushesIn,
  inKernel,
  startProcess,
  stepsOn,
  testKernel,
} from './kernel.testlib.ts';
import { crowd, type Crowd, HIGH } from './crowd.testlib.ts';
import { shouldFlushTlb } from './tlb.ts';
import { type FlushTlbInfo, LOADED_MM_SWITCHING, tlbstate } from './x86.ts';

describe('should_flush_tlb', () => {
  interface Asked {
    readonly mm: MmStruct;
    readonly ask: (info: Partial<FlushTlbInfo>) => boolean;
    readonly steps: (info: Partial<FlushTlbInfo>) => readonly string[];
    readonly k: MmKernel;
  }

  /** CPU 1 has an mm loaded, and CPU 0 asks about it. */
  function asked(lazy: boolean): Asked {
    const { k } = testKernel({ cpus: 2 });
    const mm = emptyMm(k);
    loadByHand(k, 1, mm, { lazy });
    let answer = false;
    function* body(info: Partial<FlushTlbInfo>): Kthread {
      answer = yield* call(shouldFlushTlb(k, cpuId(1), flushInfo(info)));
    }
    const steps = (info: Partial<FlushTlbInfo>): readonly string[] => stepsOn(k, 0, body(info));
    const ask = (info: Partial<FlushTlbInfo>): boolean => {
      steps(info);
      return answer;
    };
    return { k, mm, ask, steps };
  }

  const other = emptyMm(testKernel().k);

  test('a CPU that runs the mm is interrupted', () => {
    const { mm, ask } = asked(false);
    expect(ask({ mm })).toBe(true);
  });

  test('a CPU that runs another mm is not', () => {
    expect(asked(false).ask({ mm: other })).toBe(false);
  });

  test('a CPU that runs another mm is, once a second', () => {
    expect(asked(false).ask({ mm: other, trimCpumask: true })).toBe(true);
  });

  test('whoever runs anything is interrupted for a batch, which names no mm', () => {
    expect(asked(false).ask({ mm: null })).toBe(true);
  });

  test('a lazy CPU is interrupted for nothing of it', () => {
    const { mm, ask } = asked(true);
    expect(ask({ mm })).toBe(false);
    expect(ask({ mm: null })).toBe(false);
    expect(ask({ mm: other, trimCpumask: true })).toBe(false);
  });

  test('a CPU that is just switching is interrupted: it may be coming or going', () => {
    const { k, mm, ask } = asked(false);
    tlbstate(k, cpuId(1)).loadedMm.value = LOADED_MM_SWITCHING;
    expect(ask({ mm })).toBe(true);
    expect(ask({ mm: other })).toBe(true);
  });

  test('a lazy CPU that is just switching compares generations itself', () => {
    const { k, mm, ask } = asked(true);
    tlbstate(k, cpuId(1)).loadedMm.value = LOADED_MM_SWITCHING;
    expect(ask({ mm })).toBe(false);
  });

  test('loaded_mm is read before is_lazy', () => {
    expect(asked(false).steps({ mm: other })).toEqual([
      'load cpu_tlbstate.loaded_mm[1]',
      'load cpu_tlbstate_shared.is_lazy[1]',
    ]);
  });
});

interface Asking {
  readonly asks: CpuId[];
  readonly shouldFlush: typeof shouldFlushTlb;
}

/** Notes whom a flush asks about. */
function asking(): Asking {
  const asks: CpuId[] = [];
  return {
    asks,
    *shouldFlush(k, cpu, info) {
      asks.push(cpu);
      return yield* call(shouldFlushTlb(k, cpu, info));
    },
  };
}

const ONE = { strideShift: 12, freedTables: false };

describe('the initiator', () => {
  test('traces reason 4, queues a call per CPU, sends once, flushes itself and then waits', () => {
    const { initiator, flush } = crowd({ spinning: [1, 2, 3] });
    flush({ pages: 1 });
    expect(initiator()).toEqual([
      'tlb_flush 4:1',
      'csd_queue_cpu 1',
      'csd_queue_cpu 2',
      'csd_queue_cpu 3',
      'ipi_send_cpumask 1,2,3',
      'csd_function_entry',
      'tlb_flush 3:1',
      'csd_function_exit',
    ]);
  });

  test('raises the generation before it looks at anybody', () => {
    const { k, mm, flush, steps } = crowd({ spinning: [1] });
    flush(ONE);
    const gen = steps.indexOf(`locked ${mm().name}.tlb_gen`);
    const after = (what: string): number => steps.indexOf(what, gen);
    expect(gen).toBeGreaterThan(-1);
    expect(after(`readMask ${mm().name}.cpumask`)).toBe(gen + 1);
    expect(after('load cpu_tlbstate.loaded_mm[1]')).toBeGreaterThan(gen);
    expect([...k.warnings]).toEqual([]);
  });

  test('asks about the CPUs of the mask in order, and about itself last', () => {
    const { asks, shouldFlush } = asking();
    const { flush } = crowd({
      cpus: 6,
      spinning: [1, 3, 4],
      replaces: { shouldFlushTlb: shouldFlush },
    });
    asks.length = 0;
    flush(ONE);
    expect(asks).toEqual([1, 3, 4, 0]);
  });

  test('asks about nobody when tables were freed', () => {
    const { asks, shouldFlush } = asking();
    const { flush, targets } = crowd({
      sleeping: [2],
      spinning: [1, 3],
      replaces: { shouldFlushTlb: shouldFlush },
    });
    asks.length = 0;
    flush({ ...ONE, freedTables: true });
    expect(asks).toEqual([]);
    expect(targets()).toEqual(['1,2,3']);
  });

  test('one target gets vector 251, several get 252', () => {
    const one = crowd({ spinning: [2] });
    one.flush(ONE);
    expect(one.vectors()).toEqual(['2: 251']);
    const two = crowd({ spinning: [2, 3] });
    two.flush(ONE);
    expect(two.vectors()).toEqual(['2: 252', '3: 252']);
  });

  test('one target among lazy CPUs gets vector 251', () => {
    const { flush, vectors, initiator } = crowd({ spinning: [3], sleeping: [1, 2] });
    flush(ONE);
    expect(vectors()).toEqual(['3: 251']);
    expect(initiator()).toContain('ipi_send_cpu 3');
  });

  test('traces reason 4 though everybody else is lazy, and sends nothing', () => {
    const { flush, initiator, k } = crowd({ sleeping: [1, 2] });
    const { nr_tlb_remote_flush: before } = k.stats.vmstat;
    flush(ONE);
    expect(initiator()).toEqual([
      'tlb_flush 4:1',
      'csd_function_entry',
      'tlb_flush 3:1',
      'csd_function_exit',
    ]);
    expect(k.stats.vmstat.nr_tlb_remote_flush).toBe(before + 1);
  });

  test('is whoever flushes: its own part is local there and remote for the rest', () => {
    const { k, records } = testKernel({ cpus: 2, record: true });
    const forever = k.machine.cell('forever', false);
    startProcess(k, 1, function* (user) {
      yield* call(user.thread(0, (thread) => thread.spin(forever)));
      yield* call(user.compute(100_000));
      yield* call(inKernel(k, () => k.backend.flushTlbMmRange(k, onlyRange(user.mm, BASE, 1))));
      yield* call(user.set(forever));
    });
    byClock(k);
    expect(flushesIn(records, 1).slice(0, 3)).toEqual(['0:-1', '4:1', '3:1']);
    expect(flushesIn(records, 0).slice(0, 2)).toEqual(['0:-1', '1:1']);
    expect([...k.stats.tlbRow]).toEqual([1, 0]);
  });

  test('says nothing of others where the mask has nobody else', () => {
    const { flush, initiator, k } = crowd({});
    flush(ONE);
    expect(initiator()).toEqual(['tlb_flush 3:1']);
    expect(k.stats.vmstat.nr_tlb_remote_flush).toBe(0);
  });

  test('a flush of an mm that nobody has loaded raises its generation and does no more', () => {
    const { k, flush, initiator } = crowd({});
    const stranger = emptyMm(k);
    flush({ ...ONE, mm: stranger });
    expect(initiator()).toEqual([]);
  });

  test('sends lazy CPUs home when tables were freed, and they do not count as flushed', () => {
    const { flush, flushes, k } = crowd({ spinning: [1], sleeping: [2] });
    const before = [...k.stats.tlbRow];
    flush({ ...ONE, freedTables: true });
    expect(flushes(1)).toEqual(['1:1']);
    expect(flushes(2)).toEqual(['0:0']);
    expect(Array.from(k.stats.tlbRow, (count, cpu) => count - (before[cpu] ?? 0))).toEqual([
      0, 1, 1, 0,
    ]);
  });

  test('after they have gone home the next flush of tables leaves them alone', () => {
    const { flush, targets } = crowd({ kernel: '6.12.117', spinning: [1], sleeping: [2] });
    flush({ ...ONE, freedTables: true });
    flush({ ...ONE, freedTables: true });
    expect(targets()).toEqual(['1,2', '1']);
  });
});

describe('how much', () => {
  test.each([
    [1, '1'],
    [33, '33'],
    [34, '-1'],
    [512, '-1'],
  ])('%i pages are traced as %s everywhere', (pages, shown) => {
    const { flush, flushes } = crowd({ spinning: [1, 2] });
    flush({ pages });
    expect(flushes(0)).toEqual([`4:${shown}`, `3:${shown}`]);
    expect(flushes(1)).toEqual([`1:${shown}`]);
    expect(flushes(2)).toEqual([`1:${shown}`]);
  });

  test.each([
    [1, '512', '1'],
    [33, `${33 * 512}`, '33'],
    [34, '-1', '-1'],
  ])('%i huge pages are sent as %s small ones and flushed as %s', (huge, sent, flushed) => {
    const { flush, flushes } = crowd({ spinning: [1] });
    flush({ length: huge * PMD_SIZE, strideShift: PMD_SHIFT });
    expect(flushes(0)).toEqual([`4:${sent}`, `3:${flushed}`]);
    expect(flushes(1)).toEqual([`1:${flushed}`]);
  });

  test('strides that are not whole are counted down: 33 and a half are flushed as 33', () => {
    const { flush, flushes } = crowd({ spinning: [1] });
    flush({ length: 33.5 * PMD_SIZE, strideShift: PMD_SHIFT });
    expect(flushes(0)).toEqual([`4:${33.5 * 512}`, '3:33']);
    expect(flushes(1)).toEqual(['1:33']);
  });

  test('one page by strides of 2 MiB is sent as 1 and flushed as 0: one INVLPG each', () => {
    const { flush, flushes } = crowd({ spinning: [1] });
    flush({ length: PAGE_SIZE, strideShift: PMD_SHIFT, freedTables: true });
    expect(flushes(0)).toEqual(['4:1', '3:0']);
    expect(flushes(1)).toEqual(['1:0']);
  });

  test('a whole mm is sent as -1', () => {
    const { flush, flushes } = crowd({ spinning: [1] });
    flush({ start: 0, end: TLB_FLUSH_ALL, strideShift: 0 });
    expect(flushes(0)).toEqual(['4:-1', '3:-1']);
    expect(flushes(1)).toEqual(['1:-1']);
  });

  test('one page at the end of user memory is one page', () => {
    const { flush, flushes } = crowd({ spinning: [1] });
    flush({ start: HIGH, end: HIGH + PAGE_SIZE });
    expect(flushes(1)).toEqual(['1:1']);
  });
});

describe('trim', () => {
  const SECOND = 1_000_000_000;

  /** CPU 1 was left in the mask of the mm that CPU 0 flushes, and runs another one. */
  function stale(kernel: Release): Crowd {
    return crowd({ kernel, cpus: 3, spinning: [2], elsewhere: [1] });
  }

  test('within the first second nobody is asked to leave', () => {
    const { flush, targets, flushes } = stale('7.0');
    flush(ONE);
    flush({ ...ONE, atNs: 0.9 * SECOND });
    expect(targets()).toEqual(['2', '2']);
    expect(flushes(1)).toEqual([]);
  });

  test('after a second one flush does, with reason 5, and the CPU is out of the mask', () => {
    const { flush, targets, flushes, mm } = stale('7.0');
    flush({ ...ONE, atNs: 1.2 * SECOND });
    expect(targets()).toEqual(['1,2']);
    expect(flushes(1)).toEqual(['5:0']);
    expect(mm().cpumask.value.members()).toEqual([0, 2]);
    flush({ ...ONE, atNs: 1.3 * SECOND });
    expect(targets()).toEqual(['1,2', '2']);
  });

  test('the next one is a second later', () => {
    const { k, flush, targets, mm } = stale('7.0');
    flush({ ...ONE, atNs: 1.2 * SECOND });
    mm().cpumask.value.set(1);
    flush({ ...ONE, atNs: 2.1 * SECOND });
    flush({ ...ONE, atNs: 2.3 * SECOND });
    expect(targets()).toEqual(['1,2', '2', '1,2']);
    expect([...k.warnings]).toEqual([]);
  });

  test('a flush that frees tables reaches them without waiting for the second', () => {
    const { flush, targets, flushes } = stale('7.0');
    flush({ ...ONE, freedTables: true });
    expect(targets()).toEqual(['1,2']);
    expect(flushes(1)).toEqual(['5:0']);
  });

  test('where the mask is cleared at the switch there is nobody to trim', () => {
    const { flush, targets } = stale('6.12.117');
    flush({ ...ONE, atNs: 1.2 * SECOND });
    expect(targets()).toEqual(['2']);
  });

  test('time passes in jiffies of 4 ms', () => {
    const { k, flush, targets } = stale('7.0');
    flush({ ...ONE, atNs: SECOND + 3_999_999 });
    flush({ ...ONE, atNs: SECOND + 4_000_000 });
    expect(targets()).toEqual(['2', '1,2']);
    expect(k.machine.time).toBe(nanoseconds(SECOND + 4_000_000));
  });
});

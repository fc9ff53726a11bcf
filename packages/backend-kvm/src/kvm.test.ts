/** Who is interrupted and who is asked, step by step: CPU 0 flushes, vCPU 1 has a page cached. */
import { describe, expect, test } from 'vitest';
import {
  assert,
  call,
  CpuMask,
  localIrqDisable,
  localIrqEnable,
  nop,
  PAGE_FAULT,
  PAGE_SIZE,
  userTouch,
  virtAddr,
  writeWord,
} from '@shootdown/machine';
import { tlbstate, x86 } from '@shootdown/arch-x86';
import { type Kthread, TLB_FLUSH_ALL } from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import {
  advance,
  BASE,
  emptyMm,
  eventsIn,
  type Guest,
  guest,
  isAt,
  loadByHand,
  mapByHand,
  mayBePreempted,
  preempt,
  preemptedWord,
  reenter,
} from './kernel.testlib.ts';
import type { KvmOptions } from './kvm.ts';

const NATIVE: KvmOptions = { pvTlbFlush: false };
const PAGES = 3;

interface Scene extends Guest {
  /** CPU 0 unmaps page `index` and flushes it; goes on when `advance` says so. */
  readonly unmap: (index: number, freedTables?: boolean) => void;
  readonly flushes: () => number;
  /** vCPU 1 uses pages from now on, 0 first; gives which were still mapped. */
  readonly used: readonly boolean[];
  readonly cached: () => readonly boolean[];
  readonly tlbGen: () => number;
}

/** Both CPUs have the mm loaded, and vCPU 1 has its pages cached. `then` is what it does next. */
function scene(options: KvmOptions = {}, then?: (k: MmKernel) => Kthread): Scene {
  const { k, records } = guest({ kvm: options });
  const mm = emptyMm(k);
  const pageAt = (index: number): number => BASE + index * PAGE_SIZE;
  const pages = Array.from({ length: PAGES }, (_, page) => mapByHand(k, mm, pageAt(page)));
  for (const cpu of [0, 1]) loadByHand(k, cpu, mm);
  const used: boolean[] = [];
  function* uses(): Kthread {
    for (let page = 0; page < PAGES; page++) {
      const at = yield* userTouch(virtAddr(pageAt(page)), false);
      used.push(at !== PAGE_FAULT);
    }
  }
  function* runs(): Kthread {
    yield* call(uses());
    used.length = 0;
    yield* nop();
    yield* call(then === undefined ? uses() : then(k));
  }
  k.machine.run(1, runs());
  const { tlb, id } = k.machine.cpu(1);
  advance(k, 1, () => isAt(k, 1, 'nop'));
  let flushes = 0;
  function* unmap(index: number, freedTables: boolean): Kthread {
    const start = pageAt(index);
    const page = pages[index];
    assert(page !== undefined, 'a page of the scene');
    yield* writeWord(page.pte, 0);
    const range = { mm, start, end: start + PAGE_SIZE, strideShift: 12, freedTables };
    yield* call(k.backend.flushTlbMmRange(k, range));
    flushes++;
  }
  return {
    k,
    records,
    used,
    unmap: (index, freedTables = false) => k.machine.run(0, unmap(index, freedTables)),
    flushes: () => flushes,
    cached: () => pages.map(({ frame }) => tlb.translatesTo(frame)),
    tlbGen: () => tlbstate(k, id).ctxs[1]?.tlbGen ?? -1,
  };
}

/** CPU 0 on its own: it announces an interrupt of one page, and flushes that page itself. */
const ALONE = ['tlb_flush 4:1', 'csd_function_entry', 'tlb_flush 3:1', 'csd_function_exit'];
const AT_CMPXCHG = ['locked', 'steal_time.preempted[1]'] as const;

describe('a vCPU that is preempted', () => {
  test('is not interrupted, and the flush does not wait for it', () => {
    const s = scene();
    preempt(s.k, 1);
    s.unmap(0);
    advance(s.k, 0);
    expect(s.flushes()).toBe(1);
    expect(eventsIn(s.records)).toEqual(ALONE);
    expect(s.k.machine.cpu(1).pending).toEqual([]);
    expect(preemptedWord(s.k, 1)).toBe(1 + 2);
  });

  test('keeps its translations while it is away, and has none when it is entered', () => {
    const s = scene();
    preempt(s.k, 1);
    s.unmap(0);
    advance(s.k, 0);
    expect(s.cached()).toEqual([true, true, true]);
    reenter(s.k, 1);
    expect(s.cached()).toEqual([false, false, false]);
    expect(preemptedWord(s.k, 1)).toBe(0);
    advance(s.k, 1);
    expect(s.used).toEqual([false, true, true]);
    expect(eventsIn(s.records, 1)).toEqual([]);
  });

  test('flushes nothing when it is entered if nobody asked', () => {
    const s = scene();
    preempt(s.k, 1);
    expect(preemptedWord(s.k, 1)).toBe(1);
    reenter(s.k, 1);
    expect(s.cached()).toEqual([true, true, true]);
    expect(preemptedWord(s.k, 1)).toBe(0);
  });

  test('is not interrupted where tables were freed either', () => {
    const s = scene();
    preempt(s.k, 1);
    s.unmap(0, true);
    advance(s.k, 0);
    expect(s.flushes()).toBe(1);
    expect(eventsIn(s.records)).toEqual(ALONE);
  });

  test('is asked once by two flushes, and flushes once', () => {
    const s = scene();
    preempt(s.k, 1);
    for (const page of [0, 1]) {
      s.unmap(page);
      advance(s.k, 0);
    }
    expect(s.flushes()).toBe(2);
    expect(preemptedWord(s.k, 1)).toBe(1 + 2);
    advance(s.k, 1);
    expect(s.used).toEqual([false, false, true]);
  });

  test('stays in mm_cpumask', () => {
    const s = scene();
    preempt(s.k, 1);
    s.unmap(0);
    advance(s.k, 0);
    const { loadedMm } = tlbstate(s.k, s.k.machine.cpu(1).id);
    expect(loadedMm.value).toMatchObject({ cpumask: { value: { weight: 2 } } });
  });

  test('is asked by a batched flush too, which keeps the mask it was given', () => {
    const s = scene();
    const mask = new CpuMask(2, [0, 1]);
    const { id } = s.k.machine.cpu(0);
    const everything = { mm: null, start: 0, end: TLB_FLUSH_ALL, strideShift: 12 };
    const batch = { freedTables: false, newTlbGen: 0, initiatingCpu: id, trimCpumask: false };
    preempt(s.k, 1);
    s.k.machine.run(0, x86(s.k).pv.flushTlbMulti(s.k, mask, { ...everything, ...batch }));
    advance(s.k, 0);
    expect(preemptedWord(s.k, 1)).toBe(1 + 2);
    expect([...mask]).toEqual([0, 1]);
    // Nothing was asked of the mm, so CPU 0 finds itself up to date.
    expect(eventsIn(s.records).filter((name) => name.startsWith('tlb_flush'))).toEqual([
      'tlb_flush 4:-1',
      'tlb_flush 2:0',
    ]);
    reenter(s.k, 1);
    expect(s.cached()).toEqual([false, false, false]);
  });

  test('is interrupted natively, and holds up the flush until it is back', () => {
    const s = scene(NATIVE);
    preempt(s.k, 1);
    s.unmap(0);
    advance(s.k, 0);
    expect(s.flushes()).toBe(0);
    advance(s.k, 1);
    advance(s.k, 0);
    expect(s.flushes()).toBe(1);
    expect(eventsIn(s.records, 1)).toContain('tlb_flush 1:1');
    expect(s.used).toEqual([false, true, true]);
  });
});

describe('a vCPU that comes back while it is looked at', () => {
  test('between the read and the cmpxchg is interrupted', () => {
    const s = scene();
    preempt(s.k, 1);
    s.unmap(0);
    advance(s.k, 0, () => isAt(s.k, 0, ...AT_CMPXCHG));
    reenter(s.k, 1);
    advance(s.k, 0);
    expect(s.flushes()).toBe(0);
    expect(preemptedWord(s.k, 1)).toBe(0);
    advance(s.k, 1);
    advance(s.k, 0);
    expect(s.flushes()).toBe(1);
    expect(s.records.filter(({ event }) => event.kind === 'csd_queue_cpu')).toHaveLength(1);
    // Generation 1 is the one it lacks: one page, not everything.
    expect(eventsIn(s.records, 1)).toContain('tlb_flush 1:1');
    expect(s.used).toEqual([false, true, true]);
  });

  test('and is away again by then, is asked like any other that is away', () => {
    const s = scene();
    preempt(s.k, 1);
    s.unmap(0);
    advance(s.k, 0, () => isAt(s.k, 0, ...AT_CMPXCHG));
    advance(s.k, 1, () => !s.k.machine.cpu(1).frozen);
    preempt(s.k, 1);
    advance(s.k, 0);
    expect(s.flushes()).toBe(1);
    expect(eventsIn(s.records)).toEqual(ALONE);
    advance(s.k, 1);
    expect(s.used).toEqual([false, true, true]);
  });

  test('after it was asked flushes everything, and needs no interrupt', () => {
    const s = scene();
    preempt(s.k, 1);
    s.unmap(0);
    advance(s.k, 0, () => preemptedWord(s.k, 1) === 1 + 2);
    advance(s.k, 1);
    advance(s.k, 0);
    expect(s.flushes()).toBe(1);
    expect(eventsIn(s.records)).toEqual(ALONE);
    expect(s.used).toEqual([false, true, true]);
  });
});

describe('the flush of the host does not raise the generation of the vCPU', () => {
  /** Page 0 is flushed while vCPU 1 is away, page 1 when it is back: what vCPU 1 says of the latter. */
  function secondFlush(options: KvmOptions): { s: Scene; before: number } {
    const s = scene(options);
    preempt(s.k, 1);
    s.unmap(0);
    advance(s.k, 0);
    advance(s.k, 1, () => isAt(s.k, 1, 'access'));
    advance(s.k, 0);
    const before = s.tlbGen();
    s.unmap(1);
    advance(s.k, 0);
    advance(s.k, 1);
    advance(s.k, 0);
    expect(s.flushes()).toBe(2);
    return { s, before };
  }

  const shootdowns = ({ records }: Scene): readonly string[] =>
    eventsIn(records, 1).filter((name) => name.startsWith('tlb_flush 1:'));

  test('so the next flush of one page finds a gap and is one of everything', () => {
    const { s, before } = secondFlush({});
    // The mm went 0, 1, 2; vCPU 1 is at 0: 2 is not 0 + 1, so everything goes, up to 2.
    expect(before).toBe(0);
    expect(shootdowns(s)).toEqual(['tlb_flush 1:-1']);
    expect(s.tlbGen()).toBe(2);
  });

  test('where natively both are of one page', () => {
    const { s, before } = secondFlush(NATIVE);
    expect(before).toBe(1);
    expect(shootdowns(s)).toEqual(['tlb_flush 1:1', 'tlb_flush 1:1']);
    expect(s.tlbGen()).toBe(2);
  });
});

describe('a section with interrupts off on vCPU 1', () => {
  const STEPS = 4;
  function* section(): Kthread {
    yield* localIrqDisable();
    for (let step = 0; step < STEPS; step++) yield* nop();
    yield* localIrqEnable();
  }

  /** vCPU 1 is preempted in it, and CPU 0 flushes with freed tables as far as it can. */
  function preemptedWithin(options: KvmOptions): Scene {
    const s = scene(options, section);
    advance(s.k, 1, () => !s.k.machine.cpu(1).irqsOn);
    expect(mayBePreempted(s.k, 1)).toBe(true);
    preempt(s.k, 1);
    s.unmap(0, true);
    advance(s.k, 0);
    return s;
  }

  test('may be preempted, and a flush that frees tables ends before it: no claim of a broadcast', () => {
    const s = preemptedWithin({});
    expect(s.flushes()).toBe(1);
    expect(s.k.machine.cpu(1).irqsOn).toBe(false);
    expect(s.k.claims.flushTlbMultiImpliesIpiBroadcast).toBe(false);
  });

  test('holds up the flush natively, preempted or not', () => {
    const s = preemptedWithin(NATIVE);
    expect(s.flushes()).toBe(0);
    advance(s.k, 1, () => s.k.machine.cpu(1).irqsOn);
    advance(s.k, 0);
    expect(s.flushes()).toBe(0);
    advance(s.k, 1);
    advance(s.k, 0);
    expect(s.flushes()).toBe(1);
    expect(s.k.claims.flushTlbMultiImpliesIpiBroadcast).toBe(true);
  });
});

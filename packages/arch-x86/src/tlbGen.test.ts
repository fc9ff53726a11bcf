/** Flushes that overlap, and a switch in the middle of one: by hand, in every order. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  call,
  entryAt,
  localIrqDisable,
  localIrqEnable,
  PAGE_FAULT,
  PAGE_SIZE,
  physAddr,
  ptePfn,
  readWord,
  userTouch,
  virtAddr,
  writeWord,
} from '@shootdown/machine';
import {
  completion,
  type Kthread,
  type MmStruct,
  type Release,
  startCpus,
} from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import { randomScheduler } from '@shootdown/sim';
import {
  advance,
  cache,
  flushInfo,
  irqsOff,
  loadByHand,
  mapByHand,
  onlyRange,
} from './byHand.testlib.ts';
import { BASE, emptyMm, flushesIn, inKernel, startProcess, testKernel } from './kernel.testlib.ts';
import {
  gapsAreIgnored,
  generationAskedFor,
  noFenceAtSwitch,
  switchComparesNothing,
  switchersAreSpared,
} from './mutants.testlib.ts';
import { contextOf, tlbstate, x86, type X86Functions } from './x86.ts';

const FIRST_GEN = 10;

/** What a bystander does with flushes of one page each, whose generations are 11, 12, ... */
interface Bystander {
  /** The next flush begins: the generation is raised. */
  readonly begin: () => void;
  /** Flush number `index` arrives. */
  readonly arrive: (index: number) => void;
  /** Whether the page of flush number `index` is cached. */
  readonly has: (index: number) => boolean;
  readonly traced: () => readonly string[];
  readonly gen: () => number;
}

function bystander(pages: number, replaces: Partial<X86Functions> = {}): Bystander {
  const { k, records } = testKernel({ cpus: 2, replaces, record: true });
  const mm = emptyMm(k);
  const frames = mapByHand(k, mm, BASE, pages);
  const { tlbGen } = contextOf(mm);
  tlbGen.value = FIRST_GEN;
  loadByHand(k, 1, mm);
  cache(k, 1, BASE, pages);
  const { tlb, id } = k.machine.cpu(1);
  return {
    begin: () => tlbGen.value++,
    arrive: (index) => {
      const start = BASE + index * PAGE_SIZE;
      const range = { mm, start, end: start + PAGE_SIZE };
      const info = flushInfo({ ...range, newTlbGen: FIRST_GEN + 1 + index });
      irqsOff(k, 1, () => x86(k).fn.flushTlbFunc(k, info));
    },
    has: (index) => tlb.translatesTo(frames[index] ?? -1),
    traced: () => flushesIn(records),
    gen: () => tlbstate(k, id).ctxs[1]?.tlbGen ?? 0,
  };
}

describe('a bystander of two partial flushes', () => {
  test('that do not overlap there does two partial ones', () => {
    const it = bystander(2);
    it.begin();
    it.arrive(0);
    it.begin();
    it.arrive(1);
    expect(it.traced()).toEqual(['1:1', '1:1']);
  });

  test('that overlap does one of everything, and nothing for the second', () => {
    const it = bystander(2);
    it.begin();
    it.begin();
    it.arrive(0);
    expect([it.has(0), it.has(1)]).toEqual([false, false]);
    it.arrive(1);
    expect(it.traced()).toEqual(['1:-1']);
    expect(it.gen()).toBe(FIRST_GEN + 2);
  });

  test('that arrive in the other order does one of everything as well', () => {
    const it = bystander(2);
    it.begin();
    it.begin();
    it.arrive(1);
    expect([it.has(0), it.has(1)]).toEqual([false, false]);
    it.arrive(0);
    expect(it.traced()).toEqual(['1:-1']);
  });

  test('would keep the first page if it ignored that a flush is missing', () => {
    const it = bystander(2, gapsAreIgnored);
    it.begin();
    it.begin();
    it.arrive(1);
    it.arrive(0);
    expect([it.has(0), it.has(1)]).toEqual([true, false]);
  });

  test('would flush once more if it noted the generation asked for, not the one it read', () => {
    const it = bystander(2, generationAskedFor);
    it.begin();
    it.begin();
    it.arrive(0);
    it.arrive(1);
    expect(it.traced()).toEqual(['1:-1', '1:1']);
    expect(it.gen()).toBe(FIRST_GEN + 2);
  });
});

describe('a bystander of many', () => {
  const MOST = 6;
  /** Each flush begins before it arrives; otherwise in any order. */
  const orders = fc.integer({ min: 2, max: MOST }).chain((count) =>
    fc.record({
      count: fc.constant(count),
      picks: fc.array(fc.nat(99), { minLength: 40, maxLength: 40 }),
    }),
  );

  test('is clean of a flush once that has arrived, and flushes no more often than asked', () => {
    fc.assert(
      fc.property(orders, ({ count, picks }) => {
        const it = bystander(count);
        const waiting: number[] = [];
        let begun = 0;
        for (const pick of picks) {
          const choices = waiting.length + (begun < count ? 1 : 0);
          if (choices === 0) break;
          const index = waiting[pick % choices];
          if (index === undefined) {
            it.begin();
            waiting.push(begun++);
            continue;
          }
          waiting.splice(waiting.indexOf(index), 1);
          it.arrive(index);
          expect(it.has(index)).toBe(false);
          expect(it.gen()).toBeGreaterThan(FIRST_GEN + index);
        }
        expect(it.traced().length).toBeLessThanOrEqual(count);
        expect(it.gen()).toBe(FIRST_GEN + count);
      }),
      { numRuns: 300 },
    );
  });

  test('does one of everything if all begin before the first arrives, in any order', () => {
    const arrivals = fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: 2 });
    fc.assert(
      fc.property(arrivals, (order) => {
        const it = bystander(MOST);
        for (let begun = 0; begun < MOST; begun++) it.begin();
        for (const index of order) it.arrive(index);
        expect(it.traced()).toEqual(['1:-1']);
      }),
      { numRuns: 100 },
    );
  });

  test('that is interrupted by two CPUs at once does two partial ones or one of everything', () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 60; seed++) {
      const { k, records } = testKernel({ cpus: 3, record: true });
      const flushed = completion(k.machine, 'flushed');
      const flushOf = (mm: MmStruct, page: number) => (): Kthread =>
        k.backend.flushTlbMmRange(k, onlyRange(mm, BASE + page * PAGE_SIZE, 1));
      startProcess(k, 2, function* (user) {
        for (const cpu of [0, 1])
          yield* call(
            user.thread(cpu, function* () {
              yield* call(inKernel(k, flushOf(user.mm, cpu)));
              yield* call(user.signal(flushed));
            }),
          );
        yield* call(user.spin(k.machine.cell('forever', false)));
      });
      startCpus(k);
      runUntil(k, seed, () => flushed.done.value === 2);
      const asked = flushesIn(records, 2).filter((flush) => !flush.startsWith('0:'));
      seen.add(asked.join(' '));
    }
    expect([...seen].toSorted()).toEqual(['1:-1', '1:1 1:1']);
  });
});

/** Runs under a random schedule until `stop`. */
function runUntil(k: MmKernel, seed: number, stop: () => boolean): void {
  const scheduler = randomScheduler(seed);
  while (!stop()) {
    const enabled = k.machine.enabled([]);
    const next = enabled[scheduler.pick(enabled, k.machine)];
    if (next === undefined) return;
    k.machine.execute(next);
  }
}

describe('a CPU comes back to an mm while another flushes it', () => {
  interface Outcome {
    /** The page was used although the flush had returned. */
    readonly breach: boolean;
    readonly warnings: readonly string[];
  }

  /**
   * CPU 1 has a page of mm `a` cached under an ASID that is not loaded, and switches to it; CPU 0
   * unmaps the page. CPU 1 goes `first` steps, CPU 0 `second`, CPU 1 as far as it can, CPU 0 as well.
   */
  function race(
    first: number,
    second: number,
    kernel: Release,
    replaces: Partial<X86Functions>,
  ): Outcome {
    const { k } = testKernel({ cpus: 2, kernel, replaces });
    const [a, b] = [emptyMm(k), emptyMm(k)];
    const [frame = -1] = mapByHand(k, a, BASE, 1);
    const lazily = kernel !== '6.12.117';
    loadByHand(k, 0, a);
    loadByHand(k, 1, a, { asid: 1 });
    cache(k, 1, BASE, 1);
    loadByHand(k, 1, b, { asid: 2 });
    if (!lazily) a.cpumask.value.clear(1);
    let flushed = false;
    let breach = false;
    k.machine.run(0, unmap());
    k.machine.run(1, comeBack());
    function* unmap(): Kthread {
      const table = ptePfn(yield* readWord(entryAddress(k, a, 2)));
      yield* writeWord(physAddr(entryAt(table, BASE, 1)), 0);
      yield* call(k.backend.flushTlbMmRange(k, onlyRange(a, BASE, 1)));
      flushed = true;
    }
    function* comeBack(): Kthread {
      yield* localIrqDisable();
      yield* call(x86(k).fn.switchMmIrqsOff(k, a));
      yield* localIrqEnable();
      const at = yield* userTouch(virtAddr(BASE), true);
      breach = flushed && at !== PAGE_FAULT && Math.floor(at / PAGE_SIZE) === frame;
    }
    advance(k, 1, first);
    advance(k, 0, second);
    for (let round = 0; round < 3; round++) for (const cpu of [1, 0]) advance(k, cpu);
    expect(flushed).toBe(true);
    return { breach, warnings: [...k.warnings] };
  }

  /** In how many of the ways to interleave them with two preemptions something goes wrong. */
  function breaches(kernel: Release, replaces: Partial<X86Functions> = {}): number {
    let count = 0;
    for (let first = 0; first <= 14; first++)
      for (let second = 0; second <= 24; second++) {
        const { breach, warnings } = race(first, second, kernel, replaces);
        if (breach || warnings.length > 0) count++;
      }
    return count;
  }

  test.each<Release>(['6.12.117', '7.0'])('in %s it never uses what was flushed', (kernel) => {
    expect(breaches(kernel)).toBe(0);
  });

  test.each<[string, Partial<X86Functions>]>([
    ['its generation is not compared', switchComparesNothing],
    ['it is not interrupted while it switches', switchersAreSpared],
  ])('it does if %s', (_, mutant) => {
    expect(breaches('6.12.117', mutant)).toBeGreaterThan(0);
    expect(breaches('7.0', mutant)).toBeGreaterThan(0);
  });

  test('in 7.0 it does without the fence, where its bit was in the mask all the time', () => {
    expect(breaches('7.0', noFenceAtSwitch)).toBeGreaterThan(0);
    // Where the bit is cleared at the switch there is a locked instruction in every switch.
    expect(breaches('6.12.117', noFenceAtSwitch)).toBe(0);
  });
});

/** Where the entry of `level` for `BASE` is. */
function entryAddress(k: MmKernel, mm: MmStruct, level: number): ReturnType<typeof physAddr> {
  let table: number = mm.pgd;
  for (let at = k.machine.levels as number; at > level; at--)
    table = ptePfn(k.machine.physical.read(entryAt(table, BASE, at)));
  return physAddr(entryAt(table, BASE, level));
}

describe('a CPU leaves an mm while another frees tables of it', () => {
  /** CPU 1 goes `first` steps of the switch, then CPU 0 flushes: may CPU 1 walk the table after it? */
  function mayWalkAfter(first: number, kernel: Release): boolean {
    const { k } = testKernel({ cpus: 2, kernel });
    const [a, b] = [emptyMm(k), emptyMm(k)];
    mapByHand(k, a, BASE, 1);
    loadByHand(k, 0, a);
    loadByHand(k, 1, a);
    cache(k, 1, BASE, 1);
    const table = ptePfn(k.machine.physical.read(entryAddress(k, a, 2)));
    let mayWalk = false;
    k.machine.run(0, free());
    k.machine.run(1, leave());
    function* free(): Kthread {
      yield* writeWord(entryAddress(k, a, 2), 0);
      const range = onlyRange(a, BASE, 1);
      yield* call(k.backend.flushTlbMmRange(k, { ...range, freedTables: true }));
      mayWalk = k.machine.cpu(1).tlb.walksThrough(table);
    }
    function* leave(): Kthread {
      yield* localIrqDisable();
      yield* call(x86(k).fn.switchMmIrqsOff(k, b));
      yield* localIrqEnable();
    }
    advance(k, 1, first);
    for (let round = 0; round < 3; round++) for (const cpu of [0, 1]) advance(k, cpu);
    return mayWalk;
  }

  const stops = Array.from({ length: 16 }, (_, first) => first);

  test('in 7.0 the flush waits for it, wherever it is', () => {
    expect(stops.filter((first) => mayWalkAfter(first, '7.0'))).toEqual([]);
  });

  test('in 6.12.117 nobody waits from where it has left the mask to where it loads CR3', () => {
    // Disable, two loads, store, its drain: then the bit goes. Set, read, CR3 are the next three.
    expect(stops.filter((first) => mayWalkAfter(first, '6.12.117'))).toEqual([6, 7, 8]);
  });
});

/** A flush that has returned leaves nobody with what it was for; mistakes do. */
import fc from 'fast-check';
import {
  call,
  dsb,
  entryAt,
  makePte,
  PAGE_SIZE,
  physAddr,
  Pte,
  smpMb,
  tlbi,
  wholePcid,
  writeWord,
} from '@shootdown/machine';
import type { Kthread, MmStruct, TlbBackend } from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import { randomScheduler, schedule } from '@shootdown/sim';
import { describe, expect, test } from 'vitest';
import { arm64 } from './arm64.ts';
import { asidOf } from './context.ts';
import { BASE, emptyMm, runOn, stepsOn, testKernel } from './kernel.testlib.ts';
import { anyPrograms, complaints, runAtRandom, runTimed } from './programs.testlib.ts';
import { flushTlbMm } from './tlbflush.ts';

const seeds = fc.nat(1_000_000);

const BACKENDS: readonly (readonly [string, TlbBackend])[] = [
  ['as usual', arm64()],
  ['with range TLBI and 8-bit ASIDs', arm64({ features: { tlbRange: true, asidBits: 8 } })],
];

describe('no CPU translates to a page that is freed, or walks a table that is', () => {
  test.each(BACKENDS)('%s, under random schedules', (_, backend) => {
    const sums = { accesses: 0, pages: 0, tables: 0 };
    fc.assert(
      fc.property(anyPrograms, seeds, (what, seed) => {
        const ran = runAtRandom(what, seed, { backend });
        sums.accesses += ran.seen.accesses;
        sums.pages += ran.seen.pagesFreed;
        sums.tables += ran.seen.tablesFreed;
        expect(complaints(ran)).toEqual([]);
      }),
      { numRuns: 300 },
    );
    expect(Math.min(sums.accesses, sums.pages, sums.tables)).toBeGreaterThan(300);
  });

  test.each(BACKENDS)('%s, by the clock', (_, backend) => {
    fc.assert(
      fc.property(anyPrograms, (what) => {
        expect(complaints(runTimed(what, { backend }))).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  test('without what x86 promises of faults and of its own invalidations', () => {
    const axioms = { faultDrops: false, invlpgDropsUpper: false, invalidationDrains: false };
    fc.assert(
      fc.property(anyPrograms, seeds, (what, seed) => {
        expect(complaints(runAtRandom(what, seed, { machine: { axioms } }))).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });

  test('also in older kernels, whose tables leave the same way', () => {
    fc.assert(
      fc.property(anyPrograms, seeds, (what, seed) => {
        expect(complaints(runAtRandom(what, seed, { kernel: '6.1.192' }))).toEqual([]);
      }),
      { numRuns: 150 },
    );
  });
});

describe('a mistake is found', () => {
  function isSaid(what: string, mutant: Partial<TlbBackend>, runs: number): boolean {
    const backend: TlbBackend = { ...arm64(), ...mutant };
    const samples = fc.sample(fc.tuple(anyPrograms, seeds), { numRuns: runs, seed: 5 });
    return samples.some(([programs, seed]) =>
      complaints(runAtRandom(programs, seed, { backend })).some((said) => said.includes(what)),
    );
  }

  const wholeMm = (flush: (asid: number) => readonly ReturnType<typeof dsb>[]) =>
    ({
      *tlbFlush(k, { mm }) {
        for (const op of flush(yield* call(asidOf(k, mm)))) yield* op;
      },
    }) satisfies Partial<TlbBackend>;

  const TRANSLATES = 'still translates to a page that is freed';
  const WALKS = 'may still walk a table that is freed';

  const MISTAKES: readonly (readonly [string, Partial<TlbBackend>, string])[] = [
    ['nobody waits', wholeMm((asid) => [smpMb(), tlbi(wholePcid(asid))]), TRANSLATES],
    [
      'walk caches keep freed tables',
      wholeMm((asid) => [smpMb(), tlbi({ ...wholePcid(asid), upper: 'none' }), dsb()]),
      WALKS,
    ],
    ['a batch is not waited for', { *batchFlush() {} }, TRANSLATES],
  ];

  test.each(MISTAKES)('%s', (_, mutant, what) => {
    expect(isSaid(what, mutant, 2000)).toBe(true);
  });

  test('a flush of more than was asked for is none', () => {
    const more = { tlbFlush: (k, { mm }) => flushTlbMm(k, mm) } satisfies Partial<TlbBackend>;
    expect(isSaid('', more, 200)).toBe(false);
  });
});

describe('DSB ISHST', () => {
  const [PTE_TABLE, PMD_TABLE, PUD_TABLE, PAGE] = [1000, 1001, 1002, 2000];
  const FLAGS = Pte.present | Pte.write | Pte.user | Pte.accessed | Pte.dirty;

  /** Under how many of 100 schedules CPU 1 may still translate after CPU 0 cleared and flushed. */
  function stale(flush: (k: MmKernel, mm: MmStruct) => Kthread): number {
    let count = 0;
    for (let seed = 0; seed < 100; seed++) {
      const { k } = testKernel({ cpus: 2, machine: { tlb: 'mayCached' } });
      const mm = emptyMm(k);
      const entry = physAddr(entryAt(PTE_TABLE, BASE, 1));
      const map = function* (): Kthread {
        yield* writeWord(entry, makePte(PAGE, FLAGS));
        yield* writeWord(physAddr(entryAt(PMD_TABLE, BASE, 2)), makePte(PTE_TABLE, FLAGS));
        yield* writeWord(physAddr(entryAt(PUD_TABLE, BASE, 3)), makePte(PMD_TABLE, FLAGS));
        yield* writeWord(physAddr(entryAt(mm.pgd, BASE, 4)), makePte(PUD_TABLE, FLAGS));
      };
      stepsOn(k, 0, map());
      runOn(k, 1, k.backend.switchMm(k, k.machine.cpu(1).id, mm));
      expect(k.machine.cpu(1).tlb.translatesTo(PAGE)).toBe(true);
      const clear = function* (): Kthread {
        yield* writeWord(entry, 0);
        yield* call(flush(k, mm));
      };
      k.machine.run(0, clear());
      schedule(k.machine, randomScheduler(seed));
      if (k.machine.cpu(1).tlb.translatesTo(PAGE)) count++;
    }
    return count;
  }

  const info = { start: BASE, end: BASE + PAGE_SIZE, strideShift: 12, freedTables: false };

  test('has the cleared entry in memory before the TLBI', () => {
    expect(stale((k, mm) => k.backend.flushTlbMmRange(k, { ...info, mm }))).toBe(0);
    expect(stale((k) => k.backend.flushTlbAll(k))).toBe(0);
    expect(stale((k) => k.backend.flushTlbKernelRange(k, BASE, BASE + PAGE_SIZE))).toBe(0);
  });

  test('else a walk in between caches it again', () => {
    const without = stale(function* (k, mm) {
      yield* tlbi(wholePcid(yield* call(asidOf(k, mm))));
      yield* dsb();
    });
    expect(without).toBeGreaterThan(0);
  });
});

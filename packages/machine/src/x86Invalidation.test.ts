/**
 * What each way to invalidate takes out of translation caches, and what it leaves: entries of upper
 * levels (IntermediateTLB), huge pages, PCIDs and global pages, and what is broadcast to all CPUs.
 * From the Intel SDM vol. 3A, 5.10, for INVLPGB and TLBSYNC the AMD APM vol. 3, for TLBI and DSB the
 * Arm Architecture Reference Manual, D8. RBS: Simner et al., "Relaxed virtual memory in Armv8-A",
 * ESOP 2022.
 */
import { describe, expect, test } from 'vitest';
import type { Axioms } from './axioms.ts';
import { type Pfn, pfn } from './ids.ts';
import { PAGE_SIZE } from './memory.ts';
import type { Coroutine, Op } from './op.ts';
import { waitUntil } from './ops/control.ts';
import { smpMb, writeOnce, writeWord, xchgWord } from './ops/memory.ts';
import {
  dsb,
  frameUsers,
  invlpg,
  invlpgb,
  invpcidAll,
  invpcidAllNonGlobals,
  invpcidOne,
  invpcidSingle,
  tlbi,
  tlbsync,
  userLoad,
  userStore,
  writeCr3,
} from './ops/translation.ts';
import { makePte, Pte } from './pageTable.ts';
import {
  alone,
  FAR,
  HUGE,
  NEW,
  OLD,
  PAGE,
  paged,
  PageTables,
  plus,
  said,
  wordOf,
  X,
} from './tables.testlib.ts';
import type { Invalidation } from './tlb.ts';

const TO_NEW = makePte(NEW, PAGE);

/** What is tried, on the CPU whose root table is `root`, and what it is called. */
type Attempt = readonly [name: string, ops: (root: Pfn) => readonly Op[]];

const oneOfX: Invalidation = {
  pcid: 0,
  from: X,
  pages: 1,
  stride: PAGE_SIZE,
  globals: false,
  upper: 'path',
};

describe('IntermediateTLB', () => {
  /** The table of X is unlinked, an attempt made, the table written; then X is loaded. */
  const reused = (attempt: Attempt[1], axioms: Partial<Axioms> = {}) =>
    alone(
      function* (tables) {
        tables.set(X, 0).map(FAR, OLD).load();
        const entry = tables.entry(X);
        yield* xchgWord(tables.entry(X, 2), 0);
        for (const op of attempt(tables.root)) yield* op;
        yield* xchgWord(entry, TO_NEW);
        return said(yield* userLoad(X));
      },
      { axioms },
    );

  /** The same, asking instead who may still walk through the table: may it be freed? */
  const users = (attempt: Attempt[1]) =>
    alone(function* (tables) {
      const table = tables.map(X, OLD).table(X, 1);
      tables.load();
      yield* xchgWord(tables.entry(X, 2), 0);
      for (const op of attempt(tables.root)) yield* op;
      return (yield* frameUsers(table)).join() || 'nobody';
    });

  const keeping: readonly Attempt[] = [
    ['nothing', () => []],
    ['a fence', () => [smpMb()]],
    ['a write of CR3 that keeps the PCID', (root) => [writeCr3(root, 0, false)]],
    ['INVPCID of another PCID', () => [invpcidSingle(1)]],
    ['INVPCID of an address of another table', () => [invpcidOne(0, FAR)]],
    ['TLBI of the last level only', () => [tlbi({ ...oneOfX, upper: 'none' }), dsb()]],
  ];

  test.each(keeping)('after %s a walk still goes through the cached upper entry', (_name, ops) => {
    expect(reused(ops)).toEqual(['fault', 'new']);
    expect(users(ops)).toEqual(['0']);
  });

  const ending: readonly Attempt[] = [
    ['INVLPG of the address', () => [invlpg(X)]],
    ['a write of CR3', (root) => [writeCr3(root, 0, true)]],
    ['INVPCID of the address', () => [invpcidOne(0, X)]],
    ['INVPCID of the PCID', () => [invpcidSingle(0)]],
    ['INVPCID of all but global pages', () => [invpcidAllNonGlobals()]],
    ['INVPCID of everything', () => [invpcidAll()]],
    ['INVLPGB and TLBSYNC', () => [invlpgb(oneOfX), tlbsync()]],
    ['TLBI and DSB', () => [tlbi(oneOfX), dsb()]],
  ];

  test.each(ending)('after %s no walk goes there', (_name, ops) => {
    expect(reused(ops)).toEqual(['fault']);
    expect(users(ops)).toEqual(['nobody']);
  });

  test('INVLPG of any address drops the upper entries of all, by axiom', () => {
    expect(reused(() => [invlpg(FAR)])).toEqual(['fault']);
    const byAddress = { invlpgDropsUpper: false };
    expect(reused(() => [invlpg(FAR)], byAddress)).toEqual(['fault', 'new']);
    expect(reused(() => [invlpg(X)], byAddress)).toEqual(['fault']);
  });

  test('INVLPG on one CPU leaves the upper entries of the others', () => {
    const all = paged((machine, tables) => {
      const table = tables.set(X, 0).table(X, 1);
      tables.load();
      const entry = tables.entry(X);
      const done = machine.cell('done', false);
      const end = { users: '', load: '' };
      function* cpu0(): Coroutine {
        yield* xchgWord(tables.entry(X, 2), 0);
        yield* invlpg(X);
        end.users = (yield* frameUsers(table)).join();
        yield* writeWord(entry, TO_NEW);
        yield* writeOnce(done, true);
      }
      function* cpu1(): Coroutine {
        yield* waitUntil(done, (is) => is);
        end.load = said(yield* userLoad(X));
      }
      const outcome = () => `users ${end.users}, load ${end.load}`;
      return { cpus: [cpu0(), cpu1()], outcome };
    });
    expect(all).toEqual(['users 1, load fault', 'users 1, load new']);
  });
});

describe('huge pages', () => {
  const load = (va: typeof X, ops: readonly (() => Op)[]) =>
    alone(function* (tables, machine) {
      tables.map(X, OLD, PAGE, 2).load();
      machine.physical.write((OLD + 5) * PAGE_SIZE + 8, 58);
      yield* xchgWord(tables.entry(X, 2), 0);
      for (const op of ops) yield* op();
      return said(yield* userLoad(va));
    });

  test('every address of a 2 MiB page is translated by its one entry', () => {
    expect(load(plus(X, 5 * PAGE_SIZE + 8), [])).toEqual(['58', 'fault']);
  });

  test.each([0, PAGE_SIZE, HUGE - PAGE_SIZE, HUGE - 1])(
    'a 2 MiB page falls to an INVLPG of its byte %i',
    (offset) => {
      expect(load(X, [() => invlpg(plus(X, offset))])).toEqual(['fault']);
      expect(load(X, [() => invpcidOne(0, plus(X, offset))])).toEqual(['fault']);
    },
  );

  test.each([-PAGE_SIZE, HUGE])('a 2 MiB page stays at an INVLPG of byte %i from it', (offset) => {
    expect(load(X, [() => invlpg(plus(X, offset))])).toEqual(['fault', 'old']);
  });

  test('a broadcast that steps by 2 MiB takes the pages it steps on', () => {
    const range = { ...oneOfX, from: X - HUGE, stride: HUGE };
    expect(load(X, [() => invlpgb({ ...range, pages: 1 }), tlbsync])).toEqual(['fault', 'old']);
    expect(load(X, [() => invlpgb({ ...range, pages: 2 }), tlbsync])).toEqual(['fault']);
    const before = { ...range, from: X - PAGE_SIZE, pages: 1 };
    expect(load(X, [() => invlpgb(before), tlbsync])).toEqual(['fault', 'old']);
  });
});

describe('PCIDs', () => {
  const OTHER = pfn(0x20);

  test('what is cached under another PCID is not used', () => {
    const switched = (pcid: number) =>
      alone(function* (tables, machine) {
        tables.map(X, OLD).load(1);
        new PageTables(machine, OTHER).map(X, NEW);
        yield* writeCr3(OTHER, pcid, false);
        return said(yield* userLoad(X));
      });
    expect(switched(2)).toEqual(['new']);
    expect(switched(1)).toEqual(['new', 'old']);
  });

  /** The page of X is unmapped while the CPU is away under PCID 2; it comes back and loads. */
  const away = (ops: Attempt[1], flush: boolean) =>
    alone(function* (tables) {
      tables.map(X, OLD).load(1);
      yield* writeCr3(OTHER, 2, false);
      yield* xchgWord(tables.entry(X), 0);
      for (const op of ops(OTHER)) yield* op;
      const users = (yield* frameUsers(OLD)).join() || 'nobody';
      yield* writeCr3(tables.root, 1, flush);
      const back = (yield* frameUsers(OLD)).join() || 'nobody';
      return `users ${users}, then ${back}; load ${said(yield* userLoad(X))}`;
    });

  const kept: readonly Attempt[] = [
    ['nothing', () => []],
    ['INVLPG', () => [invlpg(X)]],
    ['INVPCID of the address under the other PCID', () => [invpcidOne(2, X)]],
    ['INVPCID of the other PCID', () => [invpcidSingle(2)]],
    ['a write of CR3 that flushes the other PCID', () => [writeCr3(OTHER, 2, true)]],
  ];

  test.each(kept)('under another PCID %s keeps a translation for its return', (_name, ops) => {
    expect(away(ops, false)).toEqual([
      'users nobody, then 0; load fault',
      'users nobody, then 0; load old',
    ]);
  });

  const dropped: readonly Attempt[] = [
    ['INVPCID of the address under it', () => [invpcidOne(1, X)]],
    ['INVPCID of it', () => [invpcidSingle(1)]],
    ['INVPCID of all but global pages', () => [invpcidAllNonGlobals()]],
    ['INVPCID of everything', () => [invpcidAll()]],
  ];

  test.each(dropped)('under another PCID %s drops what a PCID holds', (_name, ops) => {
    expect(away(ops, false)).toEqual(['users nobody, then nobody; load fault']);
  });

  test('a write of CR3 that flushes ends what its PCID held', () => {
    expect(away(() => [], true)).toEqual(['users nobody, then nobody; load fault']);
  });

  test('a cached upper entry finds what was written below it while its PCID was away', () => {
    const all = alone(function* (tables) {
      tables.set(X, 0).load(1);
      const entry = tables.entry(X);
      yield* writeCr3(OTHER, 2, false);
      yield* xchgWord(tables.entry(X, 3), 0);
      yield* xchgWord(entry, TO_NEW);
      yield* writeCr3(tables.root, 1, false);
      return said(yield* userLoad(X));
    });
    expect(all).toEqual(['fault', 'new']);
  });
});

describe('global pages', () => {
  /** The global page of X is unmapped, an attempt made; then X is loaded. */
  const unmapped = (ops: Attempt[1]) =>
    alone(function* (tables) {
      tables.map(X, OLD, PAGE | Pte.global).load(1);
      yield* xchgWord(tables.entry(X), 0);
      for (const op of ops(tables.root)) yield* op;
      return said(yield* userLoad(X));
    });

  const surviving: readonly Attempt[] = [
    ['a write of CR3', (root) => [writeCr3(root, 1, true)]],
    ['another page table under another PCID', () => [writeCr3(pfn(0x20), 2, true)]],
    ['INVPCID of the address', () => [invpcidOne(1, X)]],
    ['INVPCID of the PCID', () => [invpcidSingle(1)]],
    ['INVPCID of all but global pages', () => [invpcidAllNonGlobals()]],
    ['INVLPGB without the global pages', () => [invlpgb({ ...oneOfX, pcid: 1 }), tlbsync()]],
  ];

  test.each(surviving)('a global translation survives %s', (_name, ops) => {
    expect(unmapped(ops)).toEqual(['fault', 'old']);
  });

  const fatal: readonly Attempt[] = [
    ['INVLPG', () => [invlpg(X)]],
    ['INVLPG under another PCID', (root) => [writeCr3(root, 2, false), invlpg(X)]],
    ['INVPCID of everything', () => [invpcidAll()]],
    ['INVLPGB with the global pages', () => [invlpgb({ ...oneOfX, globals: true }), tlbsync()]],
  ];

  test.each(fatal)('a global translation does not survive %s', (_name, ops) => {
    expect(unmapped(ops)).toEqual(['fault']);
  });
});

describe('broadcasts', () => {
  /** CPU 0 remaps X and does `ops`; CPU 1, told so, does `first` and loads from X. */
  const remapped = (ops: () => readonly Op[], first: () => readonly Op[] = () => []) =>
    paged((machine, tables) => {
      tables.map(X, OLD).load();
      const done = machine.cell('done', false);
      let got = '';
      function* cpu0(): Coroutine {
        yield* writeWord(tables.entry(X), TO_NEW);
        for (const op of ops()) yield* op;
        yield* writeOnce(done, true);
      }
      function* cpu1(): Coroutine {
        yield* waitUntil(done, (is) => is);
        for (const op of first()) yield* op;
        got = said(yield* userLoad(X));
      }
      return { cpus: [cpu0(), cpu1()], outcome: () => got };
    });

  test('INVLPGB: without TLBSYNC another CPU may still use the old translation', () => {
    expect(remapped(() => [smpMb(), invlpgb(oneOfX)])).toEqual(['new', 'old']);
  });

  test('INVLPGB: after TLBSYNC no CPU does', () => {
    expect(remapped(() => [smpMb(), invlpgb(oneOfX), tlbsync()])).toEqual(['new']);
  });

  test('INVLPGB orders no store: one that is on its way leaves the old translation', () => {
    expect(remapped(() => [invlpgb(oneOfX), tlbsync()])).toEqual(['new', 'old']);
  });

  test('TLBSYNC waits for the INVLPGBs of its own CPU only', () => {
    const sent = () => [smpMb(), invlpgb(oneOfX)];
    expect(remapped(sent, () => [tlbsync()])).toEqual(['new', 'old']);
  });

  test.each([
    ['another page', { ...oneOfX, from: FAR }],
    ['another PCID', { ...oneOfX, pcid: 1 }],
  ])('INVLPGB of %s leaves the translation', (_what, what) => {
    expect(remapped(() => [smpMb(), invlpgb(what), tlbsync()])).toEqual(['new', 'old']);
  });

  /** CPU 0 unmaps the page of X and keeps a secret there; CPU 1 loads from X all the time. */
  const secret = (ops: readonly (() => Op)[]) =>
    paged((_machine, tables) => {
      tables.map(X, OLD).load();
      let got = '';
      function* cpu0(): Coroutine {
        yield* writeWord(tables.entry(X), 0);
        for (const op of ops) yield* op();
        yield* writeWord(wordOf(OLD), 2);
      }
      function* cpu1(): Coroutine {
        got = said(yield* userLoad(X));
      }
      return { cpus: [cpu0(), cpu1()], outcome: () => got };
    });

  test('RBS+dsb-tlbiis-dsb: no secret is read through what was flushed', () => {
    expect(secret([dsb, () => tlbi(oneOfX), dsb])).toEqual(['fault', 'old']);
    expect(secret([smpMb, () => invlpgb(oneOfX), tlbsync])).toEqual(['fault', 'old']);
    expect(secret([dsb, () => tlbi(oneOfX)])).toContain('2');
  });

  /** CPU 1 stores to X through its old translation; CPU 0 unmaps the page and then uses it itself. */
  const landing = (ops: readonly (() => Op)[], axioms: Partial<Axioms> = {}) =>
    paged(
      (machine, tables) => {
        tables.map(X, OLD, PAGE | Pte.dirty).load();
        function* cpu0(): Coroutine {
          yield* xchgWord(tables.entry(X), 0);
          for (const op of ops) yield* op();
          yield* xchgWord(wordOf(OLD), 9);
        }
        function* cpu1(): Coroutine {
          yield* userStore(X, 7);
        }
        const outcome = (): string => `${machine.physical.read(wordOf(OLD))}`;
        return { cpus: [cpu0(), cpu1()], outcome };
      },
      { axioms },
    );

  test.each([
    ['INVLPGB and TLBSYNC', [() => invlpgb(oneOfX), tlbsync]],
    ['TLBI and DSB', [() => tlbi(oneOfX), dsb]],
  ])('after %s no store lands any more that went through the old translation', (_name, ops) => {
    expect(landing(ops)).toEqual(['9']);
    expect(landing(ops, { applyDrains: false })).toEqual(['7', '9']);
  });

  test('TLBI: without DSB another CPU may still use the old translation', () => {
    expect(remapped(() => [dsb(), tlbi(oneOfX)])).toEqual(['new', 'old']);
  });

  test('TLBI: after DSB no CPU does, if another DSB ordered the store to the entry', () => {
    expect(remapped(() => [dsb(), tlbi(oneOfX), dsb()])).toEqual(['new']);
    expect(remapped(() => [tlbi(oneOfX), dsb()])).toEqual(['new', 'old']);
  });
});

/**
 * What x86 answers when page tables change under running code: the published litmus tests of virtual
 * memory. Names are those of Hossain, Trippel and Martonosi, "TransForm: formally specifying
 * transistency models and synthesizing enhanced litmus tests", ISCA 2020 (ptwalk2, mrf1, dirtybit4
 * and the synonyms), and of Simner et al., "Relaxed virtual memory in Armv8-A", ESOP 2022 (CoWinvT,
 * CoWTf.inv, ROT.inv). Verdicts for x86 are argued from the Intel SDM vol. 3A, 5.8 and 5.10.
 */
import { describe, expect, test } from 'vitest';
import type { Axioms } from './axioms.ts';
import { type PhysAddr, virtAddr } from './ids.ts';
import type { Machine } from './machine.ts';
import { PAGE_SIZE } from './memory.ts';
import type { Coroutine, Op } from './op.ts';
import { serialize } from './ops/interrupts.ts';
import { readWord, smpMb, updateWord, writeWord, xchgWord } from './ops/memory.ts';
import { frameUsers, invlpg, PAGE_FAULT, userLoad, userStore } from './ops/translation.ts';
import { levelSize, makePte, Pte, pteHas } from './pageTable.ts';
import {
  alone,
  CLEAN,
  NEW,
  OLD,
  PAGE,
  paged,
  plus,
  said,
  TABLE,
  wordOf,
  X,
  Y,
} from './tables.testlib.ts';

const TO_OLD = makePte(OLD, PAGE);
const TO_NEW = makePte(NEW, PAGE);
/** The first address of root entry 3. */
const SELF = virtAddr(3 * levelSize(4));
const NOTHING_BETWEEN = (): readonly Op[] => [];

const stored = (machine: Machine, frame: number): boolean =>
  machine.physical.read(wordOf(frame)) === 7;

describe('an entry that changes', () => {
  /** Sets the entry of X, which mapped the old page, and loads from X. */
  const load = (pte: number, between: () => readonly Op[], axioms: Partial<Axioms> = {}) =>
    alone(
      function* (tables) {
        tables.map(X, OLD).load();
        yield* writeWord(tables.entry(X), pte);
        for (const op of between()) yield* op;
        return said(yield* userLoad(X));
      },
      { axioms },
    );

  test('ptwalk2: after INVLPG no walk reads the entry that was there before', () => {
    expect(load(TO_NEW, () => [invlpg(X)])).toEqual(['new']);
  });

  test('ptwalk2 rests on INVLPG waiting for the store to the entry', () => {
    const lazy = { invalidationDrains: false };
    expect(load(TO_NEW, () => [invlpg(X)], lazy)).toEqual(['new', 'old']);
    expect(load(TO_NEW, () => [smpMb(), invlpg(X)], lazy)).toEqual(['new']);
  });

  test('mrf1: without INVLPG the old page may be read', () => {
    expect(load(TO_NEW, NOTHING_BETWEEN)).toEqual(['new', 'old']);
    expect(load(TO_NEW, () => [smpMb()])).toEqual(['new', 'old']);
    expect(load(TO_NEW, () => [invlpg(Y)])).toEqual(['new', 'old']);
  });

  test.each([
    ['names the CPU that forgot INVLPG', NOTHING_BETWEEN, 'CPU 0'],
    ['names the CPU that did INVLPG of another page', () => [invlpg(Y)], 'CPU 0'],
    ['names nobody after INVLPG', () => [invlpg(X)], 'nobody'],
  ])('mrf1: who asks for the users of the old page %s', (_what, between, users) => {
    const all = alone(function* (tables) {
      tables.map(X, OLD).load();
      yield* writeWord(tables.entry(X), TO_NEW);
      for (const op of between()) yield* op;
      const using = yield* frameUsers(OLD);
      return using.map((id) => `CPU ${id}`).join() || 'nobody';
    });
    expect(all).toEqual([users]);
  });

  test('CoWinvT+fence: a fence after the entry was cleared flushes no TLB', () => {
    expect(load(0, () => [smpMb()])).toEqual(['fault', 'old']);
    expect(load(0, () => [serialize()])).toEqual(['fault', 'old']);
  });

  test('CoWinvT: after INVLPG the access faults', () => {
    expect(load(0, () => [invlpg(X)])).toEqual(['fault']);
  });

  test('an access sets the accessed bit of the entry it goes through and of no other', () => {
    const marked = (pte: number) =>
      alone(function* (tables) {
        tables.map(X, OLD).load();
        yield* xchgWord(tables.entry(X), pte);
        const got = said(yield* userLoad(X));
        return `${got}, ${(yield* readWord(tables.entry(X))) - pte} added`;
      });
    const unused = makePte(NEW, PAGE - Pte.accessed);
    expect(marked(unused)).toEqual([`new, ${Pte.accessed} added`, 'old, 0 added']);
    expect(marked(0)).toEqual(['fault, 0 added', 'old, 0 added']);
  });

  test('the page size changes: either translation may be used until INVLPG', () => {
    const split = (between: () => readonly Op[]) =>
      alone(function* (tables) {
        const table = tables.map(Y, NEW).table(Y, 1);
        tables.map(X, OLD, PAGE, 2).load();
        yield* xchgWord(tables.entry(Y, 2), makePte(table, TABLE));
        for (const op of between()) yield* op;
        return said(yield* userLoad(Y));
      });
    expect(split(NOTHING_BETWEEN)).toEqual(['0', 'new']);
    expect(split(() => [invlpg(Y)])).toEqual(['new']);
  });

  test('a page table that is an entry of its own: what is mapped there are its tables', () => {
    const through = (va: typeof X) =>
      alone(function* (tables) {
        tables.map(X, OLD).set(SELF, makePte(tables.root, TABLE), 4).load();
        return said(yield* userLoad(va));
      });
    expect(through(X)).toEqual(['old']);
    // Once around: the PTE of X is the word of the page that its table is.
    expect(through(plus(SELF, (X / PAGE_SIZE) * 8))).toEqual([String(TO_OLD)]);
  });
});

describe('spurious faults', () => {
  /** Makes an invalid entry valid and loads until that works, three times at most. */
  const validated = (axioms: Partial<Axioms>, between = NOTHING_BETWEEN) =>
    alone(
      function* (tables) {
        tables.set(X, 0).load();
        const got: string[] = [];
        yield* writeWord(tables.entry(X), TO_NEW);
        for (const op of between()) yield* op;
        while (got.length < 3 && got.at(-1) !== 'new') got.push(said(yield* userLoad(X)));
        return got.join(', then ');
      },
      { axioms },
    );

  test('CoWTf.inv+po: a load that follows the store to its entry may fault, once', () => {
    expect(validated({})).toEqual(['fault, then new', 'new']);
    expect(validated({}, () => [smpMb()])).toEqual(['new']);
  });

  test('CoWTf.inv+po: no fault if a walk waits for the stores of its own CPU', () => {
    expect(validated({ walkWaitsForStores: true })).toEqual(['new']);
  });

  test('CoWTf.inv+po faults but once because an exception drains the store buffer', () => {
    expect(validated({ deliveryDrains: false })).toContain('fault, then fault, then new');
  });

  /** An entry of `level` becomes writable, nothing is invalidated; stores until that works. */
  const madeWritable = (axioms: Partial<Axioms>, level = 1, va = X, flags = PAGE) =>
    alone(
      function* (tables, machine) {
        const entry = tables.map(va, OLD, flags).entry(va, level);
        const writable = machine.physical.read(entry);
        tables.set(va, writable - Pte.write, level).load();
        const got: string[] = [];
        yield* xchgWord(entry, writable);
        while (got.length < 3 && got.at(-1) !== 'stored')
          got.push((yield* userStore(va, 7)) === PAGE_FAULT ? 'fault' : 'stored');
        return got.join(', then ');
      },
      { axioms },
    );

  test.each([
    ['a page', 1, X, PAGE],
    ['a page of the upper half of the addresses', 1, virtAddr(-2 * PAGE_SIZE + 8), PAGE],
    ['a global page', 1, X, PAGE | Pte.global],
    ['a table', 2, X, PAGE],
    ['a table of tables', 4, X, PAGE],
  ])('a store through %s that has become writable may fault, once', (_what, level, va, flags) => {
    expect(madeWritable({}, level, va, flags)).toEqual(['fault, then stored', 'stored']);
  });

  test('it faults but once because a fault drops what was cached for its address', () => {
    expect(madeWritable({ faultDrops: false })).toContain('fault, then fault, then fault');
  });
});

describe('permissions', () => {
  /** An entry of `level` loses a permission; then X is used. */
  const restricted = (level: number, flag: number, access: () => Op, between = NOTHING_BETWEEN) =>
    alone(function* (tables) {
      const entry = tables.map(X, OLD).entry(X, level);
      tables.load();
      yield* updateWord(entry, (pte) => pte - flag);
      for (const op of between()) yield* op;
      return (yield* access()) === PAGE_FAULT ? 'fault' : 'done';
    });

  test.each([1, 2, 3, 4])('a permission must be in the entry of level %i too', (level) => {
    const flushed = () => [invlpg(X)];
    expect(restricted(level, Pte.write, () => userStore(X, 7), flushed)).toEqual(['fault']);
    expect(restricted(level, Pte.write, () => userLoad(X), flushed)).toEqual(['done']);
    expect(restricted(level, Pte.user, () => userLoad(X), flushed)).toEqual(['fault']);
  });

  test.each([1, 2, 3, 4])('a permission taken from level %i stays cached until INVLPG', (level) => {
    expect(restricted(level, Pte.write, () => userStore(X, 7))).toEqual(['done', 'fault']);
    expect(restricted(level, Pte.user, () => userLoad(X))).toEqual(['done', 'fault']);
  });
});

describe('two addresses of one frame', () => {
  /** Each CPU stores through one address and loads through the other. */
  const synonyms = (frameOfY: number, second: number) =>
    paged((_machine, tables) => {
      tables.map(X, OLD).map(Y, frameOfY).load();
      const got: string[] = [];
      function* cpu0(): Coroutine {
        yield* userStore(X, 1);
        got[0] = `r0=${said(yield* userLoad(Y))}`;
      }
      function* cpu1(): Coroutine {
        yield* userStore(Y, second);
        got[1] = `r1=${said(yield* userLoad(X))}`;
      }
      return { cpus: [cpu0(), cpu1()], outcome: () => got.join(' ') };
    });

  test('n5_synonym: no CPU sees the store of the other instead of its own', () => {
    expect(synonyms(OLD, 2)).toEqual(['r0=1 r1=1', 'r0=1 r1=2', 'r0=2 r1=2']);
  });

  test('sb_synonym: they are one location, which shows no store buffering', () => {
    expect(synonyms(OLD, 1)).toEqual(['r0=1 r1=1']);
  });

  test('sb: two addresses of two frames show it', () => {
    expect(synonyms(NEW, 1)).toEqual(['r0=1 r1=1', 'r0=1 r1=old', 'r0=new r1=1', 'r0=new r1=old']);
  });
});

describe('dirty bits', () => {
  /** CPU 1 writes to a page while CPU 0 takes away the permission; what is left of both. */
  const writeProtected = (change: (entry: PhysAddr) => Coroutine, flags: number) =>
    paged((machine, tables) => {
      tables.map(X, OLD, flags).load();
      function* cpu1(): Coroutine {
        yield* userStore(X, 7);
      }
      const outcome = (): string => {
        const pte = machine.physical.read(tables.entry(X));
        const page = stored(machine, OLD) ? 'written' : 'not written';
        return `${page}, ${pteHas(pte, Pte.dirty) ? 'dirty' : 'clean'}`;
      };
      return { cpus: [change(tables.entry(X)), cpu1()], outcome };
    });

  function* plainly(entry: PhysAddr): Coroutine {
    const pte = yield* readWord(entry);
    yield* writeWord(entry, pte - Pte.write);
  }

  function* locked(entry: PhysAddr): Coroutine {
    yield* updateWord(entry, (pte) => pte - Pte.write);
  }

  test('dirtybit4: a plain store to an entry can lose the dirty bit that a walker sets', () => {
    expect(writeProtected(plainly, CLEAN)).toEqual([
      'not written, clean',
      'written, clean',
      'written, dirty',
    ]);
  });

  test('dirtybit4: a locked update of the entry loses no dirty bit', () => {
    expect(writeProtected(locked, CLEAN)).toEqual(['not written, clean', 'written, dirty']);
  });

  const markedAgain = (between: () => readonly Op[]) =>
    alone(function* (tables) {
      tables.map(X, OLD).load();
      yield* updateWord(tables.entry(X), (pte) => pte - Pte.dirty);
      for (const op of between()) yield* op;
      yield* userStore(X, 7);
      return pteHas(yield* readWord(tables.entry(X)), Pte.dirty) ? 'dirty' : 'clean';
    });

  test('a dirty bit that was cleared without INVLPG may stay clear through a later store', () => {
    expect(markedAgain(NOTHING_BETWEEN)).toEqual(['clean', 'dirty']);
    expect(markedAgain(() => [invlpg(X)])).toEqual(['dirty']);
  });

  /** Changes the entry of a page, cached as clean or dirty, and stores to it without INVLPG. */
  const storedThrough = (flags: number, pte: number) =>
    alone(function* (tables, machine) {
      tables.map(X, OLD, flags).load();
      yield* xchgWord(tables.entry(X), pte);
      if ((yield* userStore(X, 7)) === PAGE_FAULT) return 'fault';
      yield* smpMb();
      return stored(machine, OLD) ? 'old' : 'new';
    });

  // What try_to_unmap_one() of mm/rmap.c relies on when it defers a flush: a store to a page whose
  // entry was clean traps once the entry is gone.
  test('a store through a clean translation looks at the entry again', () => {
    expect(storedThrough(CLEAN, 0)).toEqual(['fault']);
    expect(storedThrough(CLEAN, makePte(NEW, CLEAN))).toEqual(['new']);
    expect(storedThrough(CLEAN, makePte(OLD, CLEAN - Pte.write))).toEqual(['fault']);
  });

  test('a store through a dirty translation does not', () => {
    expect(storedThrough(PAGE, 0)).toEqual(['fault', 'old']);
    expect(storedThrough(PAGE, TO_NEW)).toEqual(['new', 'old']);
  });
});

describe('a table that is filled and then linked', () => {
  /**
   * CPU 0 has a second table ready for X and links it instead of the first, which maps the old page;
   * CPU 1 loads from X in the meantime.
   */
  const linked = (
    stale: number,
    program: (entry: PhysAddr, link: PhysAddr, pte: number) => Coroutine,
  ) =>
    paged((machine, tables) => {
      const spare = 0x80;
      tables.map(X, OLD).load();
      const entry = (spare * PAGE_SIZE + (tables.entry(X) % PAGE_SIZE)) as PhysAddr;
      machine.physical.write(entry, stale);
      let got = '';
      function* cpu1(): Coroutine {
        got = said(yield* userLoad(X));
      }
      const link = tables.entry(X, 2);
      return { cpus: [program(entry, link, makePte(spare, TABLE)), cpu1()], outcome: () => got };
    });

  function* fillThenLink(entry: PhysAddr, link: PhysAddr, table: number): Coroutine {
    yield* writeWord(entry, TO_NEW);
    yield* writeWord(link, table);
  }

  function* linkThenFill(entry: PhysAddr, link: PhysAddr, table: number): Coroutine {
    yield* writeWord(link, table);
    yield* writeWord(entry, TO_NEW);
  }

  test('ROT.inv: no other CPU finds what the table held before', () => {
    expect(linked(0, fillThenLink)).toEqual(['new', 'old']);
    expect(linked(makePte(0x90, PAGE), fillThenLink)).toEqual(['new', 'old']);
  });

  test('a table that is linked before it is filled shows what it held', () => {
    expect(linked(0, linkThenFill)).toEqual(['fault', 'new', 'old']);
    expect(linked(makePte(0x90, PAGE), linkThenFill)).toEqual(['0', 'new', 'old']);
  });
});

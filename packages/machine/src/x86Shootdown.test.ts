/**
 * Shootdowns and waiting for software walkers, both by interrupt: what another CPU may still do
 * before it has answered, and no longer afterwards. ipi4, ipi5, ipi8 and the synonyms: Hossain,
 * Trippel and Martonosi, "TransForm", ISCA 2020. RCU-deferred-free: Alglave et al., "Frightening
 * small children and disconcerting grown-ups", ASPLOS 2018, here with an interrupt as the grace
 * period and interrupts off as the reader.
 */
import { describe, expect, test } from 'vitest';
import type { Axioms } from './axioms.ts';
import { CpuMask } from './cpuMask.ts';
import { type CallFunction, CallQueues } from './csd.ts';
import { physAddr } from './ids.ts';
import type { Machine } from './machine.ts';
import type { Coroutine, Op } from './op.ts';
import { waitUntil } from './ops/control.ts';
import { localIrqDisable, localIrqEnable, sendIpi } from './ops/interrupts.ts';
import { readWord, writeOnce, writeWord, xchgWord } from './ops/memory.ts';
import { frameUsers, invlpg, userLoad, userStore } from './ops/translation.ts';
import { entryAt, makePte, Pte, pteHas, ptePfn } from './pageTable.ts';
import { call } from './stack.ts';
import { NEW, OLD, PAGE, paged, type PageTables, said, wordOf, X, Y } from './tables.testlib.ts';

const VECTOR = 0xfb;
const NMI = 2;
const TO_NEW = makePte(NEW, PAGE);

const toCpu1 = (machine: Machine): CpuMask => new CpuMask(machine.count, [1]);

describe('a shootdown by interrupt', () => {
  /** CPU 0 remaps X, and has CPU 1 run `flush`, while CPU 1 loads from X twice. */
  const remapped = (flush: () => readonly Op[]) =>
    paged((machine, tables) => {
      tables.map(X, OLD).load();
      let when = 'before';
      const got: string[] = [];
      machine.onInterrupt(VECTOR, function* () {
        for (const op of flush()) yield* op;
        when = 'after';
      });
      function* cpu0(): Coroutine {
        yield* writeWord(tables.entry(X), TO_NEW);
        yield* invlpg(X);
        yield* sendIpi(toCpu1(machine), VECTOR);
      }
      function* cpu1(): Coroutine {
        const first = said(yield* userLoad(X));
        got.push(`${first} ${when}`);
        const second = said(yield* userLoad(X));
        got.push(`${second} ${when}`);
      }
      return { cpus: [cpu0(), cpu1()], outcome: () => got.join(', ') };
    });

  test('ipi4: no CPU uses the old page after its own INVLPG', () => {
    for (const outcome of remapped(() => [invlpg(X)])) expect(outcome).not.toContain('old after');
  });

  test('ipi5: a CPU may use it before', () => {
    const all = remapped(() => [invlpg(X)]);
    expect(all).toEqual([
      'new after, new after',
      'new before, new after',
      'new before, new before',
      'new before, old before',
      'old before, new after',
      'old before, new before',
      'old before, old before',
    ]);
  });

  test('ipi4 rests on the INVLPG: an interrupt alone flushes nothing', () => {
    expect(remapped(() => [])).toContain('old after, old after');
  });

  /** Both CPUs flush X and load from it, CPU 1 when it is told to. */
  const reloaded = (axioms: Partial<Axioms>) =>
    paged(
      (machine, tables) => {
        tables.map(X, OLD).load();
        const got: string[] = [];
        machine.onInterrupt(VECTOR, function* () {
          yield* invlpg(X);
          got[1] = said(yield* userLoad(X));
        });
        function* cpu0(): Coroutine {
          yield* writeWord(tables.entry(X), TO_NEW);
          yield* invlpg(X);
          yield* sendIpi(toCpu1(machine), VECTOR);
          got[0] = said(yield* userLoad(X));
        }
        return { cpus: [cpu0()], outcome: () => got.join(', ') };
      },
      { axioms },
    );

  test('ipi8: after both INVLPGs both CPUs find the same page', () => {
    expect(reloaded({})).toEqual(['new, new']);
  });

  test('ipi8 rests on INVLPG and posting, one of which waits for the store to the entry', () => {
    expect(reloaded({ postingDrains: false })).toEqual(['new, new']);
    expect(reloaded({ invalidationDrains: false, postingDrains: false })).toContain('new, old');
  });

  /** CPU 0 makes Y a second address of the page of X; each CPU stores by one, loads by the other. */
  const synonyms = (second: number) =>
    paged((machine, tables) => {
      tables.map(X, OLD).map(Y, NEW).load();
      const got: string[] = [];
      machine.onInterrupt(VECTOR, function* () {
        yield* invlpg(Y);
        yield* userStore(Y, second);
        got[1] = `r1=${said(yield* userLoad(X))}`;
      });
      function* cpu0(): Coroutine {
        yield* writeWord(tables.entry(Y), makePte(OLD, PAGE));
        yield* invlpg(Y);
        yield* sendIpi(toCpu1(machine), VECTOR);
        yield* userStore(X, 1);
        got[0] = `r0=${said(yield* userLoad(Y))}`;
      }
      return { cpus: [cpu0()], outcome: () => got.join(' ') };
    });

  test('n5_synonym and sb_synonym: one location as soon as both CPUs have flushed', () => {
    expect(synonyms(2)).toEqual(['r0=1 r1=1', 'r0=1 r1=2', 'r0=2 r1=2']);
    expect(synonyms(1)).toEqual(['r0=1 r1=1']);
  });

  /** CPU 0 unmaps X, flushes on CPU 1, waits, and gives the page to somebody else, who writes 9. */
  const given = (flush: () => readonly Op[]) =>
    paged((machine, tables) => {
      tables.map(X, OLD).load();
      let users = '';
      const flushed = machine.cell('flushed', false);
      machine.onInterrupt(VECTOR, function* () {
        for (const op of flush()) yield* op;
        yield* writeOnce(flushed, true);
      });
      function* cpu0(): Coroutine {
        yield* xchgWord(tables.entry(X), 0);
        yield* invlpg(X);
        yield* sendIpi(toCpu1(machine), VECTOR);
        yield* waitUntil(flushed, (is) => is);
        users = (yield* frameUsers(OLD)).join() || 'nobody';
        yield* writeWord(wordOf(OLD), 9);
      }
      function* cpu1(): Coroutine {
        yield* userStore(X, 7);
      }
      const outcome = () => `users ${users}, word ${machine.physical.read(wordOf(OLD))}`;
      return { cpus: [cpu0(), cpu1()], outcome };
    });

  test('a page is free once every CPU has answered: no store through X comes later', () => {
    expect(given(() => [invlpg(X)])).toEqual(['users nobody, word 9']);
  });

  test('a page is not free if a CPU has answered and not flushed', () => {
    // Where nobody uses it, a fault of CPU 1 has dropped the translation.
    expect(given(() => [])).toEqual(['users 1, word 7', 'users 1, word 9', 'users nobody, word 9']);
  });
});

describe('RCU-deferred-free: a table is unlinked, its walkers are waited for, then it is freed', () => {
  const POISON = 0xdead000;

  /** A walk in software: what the lower entry held, if the upper one still led to it. */
  function* walk(tables: PageTables): Coroutine<string> {
    const upper = yield* readWord(tables.entry(X, 2));
    if (!pteHas(upper, Pte.present)) return 'unlinked';
    return said(yield* readWord(physAddr(entryAt(ptePfn(upper), X, 1))));
  }

  function* masked(tables: PageTables): Coroutine<string> {
    yield* localIrqDisable();
    const found = yield* call(walk(tables));
    yield* localIrqEnable();
    return found;
  }

  interface Freeing {
    readonly unlink: (tables: PageTables) => Op;
    /** Waits for CPU 1. */
    readonly wait: (machine: Machine) => Coroutine;
    readonly walker: (tables: PageTables) => Coroutine<string>;
  }

  const unlinked = (tables: PageTables): Op => xchgWord(tables.entry(X, 2), 0);
  const storedPlainly = (tables: PageTables): Op => writeWord(tables.entry(X, 2), 0);

  /** Interrupts CPU 1 and waits for the answer. */
  const by = (vector: number) =>
    function* (machine: Machine): Coroutine {
      const answered = machine.cell('answered', false);
      machine.onInterrupt(vector, function* () {
        yield* writeOnce(answered, true);
      });
      yield* sendIpi(toCpu1(machine), vector);
      yield* waitUntil(answered, (is) => is);
    };

  function* byCall(machine: Machine): Coroutine {
    const nothing: CallFunction<null> = { name: 'nothing', *run() {} };
    yield* call(new CallQueues(machine, VECTOR).callAndWait(toCpu1(machine), nothing, null));
  }

  function* notAtAll(): Coroutine {}

  const freed = ({ unlink, wait, walker }: Freeing, axioms: Partial<Axioms> = {}) =>
    paged(
      (machine, tables) => {
        const lower = tables.set(X, 0o11).entry(X);
        let got = '';
        function* cpu0(): Coroutine {
          yield* unlink(tables);
          yield* call(wait(machine));
          yield* writeWord(lower, POISON);
        }
        function* cpu1(): Coroutine {
          got = yield* call(walker(tables));
        }
        return { cpus: [cpu0(), cpu1()], outcome: () => (got === `${POISON}` ? 'freed' : got) };
      },
      { axioms },
    );

  const correct: Freeing = { unlink: unlinked, wait: by(VECTOR), walker: masked };
  const bare = { postingDrains: false };

  test('a walker with interrupts off never finds the table freed', () => {
    expect(freed(correct)).toEqual(['old', 'unlinked']);
    expect(freed({ ...correct, wait: byCall })).toEqual(['old', 'unlinked']);
  });

  test('posting orders the unlinking, even if that is a plain store', () => {
    expect(freed({ ...correct, unlink: storedPlainly })).toEqual(['old', 'unlinked']);
    expect(freed({ ...correct, unlink: storedPlainly, wait: byCall }, bare)).toEqual([
      'old',
      'unlinked',
    ]);
  });

  test('a plain store and a bare x2APIC WRMSR: the walker finds the table freed', () => {
    expect(freed({ ...correct, unlink: storedPlainly }, bare)).toEqual([
      'freed',
      'old',
      'unlinked',
    ]);
    expect(freed(correct, bare)).toEqual(['old', 'unlinked']);
  });

  test.each([
    ['nobody waits for it', { ...correct, wait: notAtAll }],
    ['it walks with interrupts on', { ...correct, walker: walk }],
    ['it is waited for by NMI, which it does not hold off', { ...correct, wait: by(NMI) }],
  ])('a walker finds the table freed if %s', (_why, freeing) => {
    expect(freed(freeing)).toEqual(['freed', 'old', 'unlinked']);
  });
});

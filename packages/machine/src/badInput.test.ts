/**
 * The caller's mistakes: each is refused by a code, with a message that says on which CPU, at which
 * Op, and through which coroutines, innermost first.
 */
import { describe, expect, test } from 'vitest';
import { CpuMask } from './cpuMask.ts';
import type { UsageError } from './errors.ts';
import { physAddr, virtAddr } from './ids.ts';
import { Machine } from './machine.ts';
import { Op, type Coroutine } from './op.ts';
import { codeOf, expectPlace, failing } from './failing.testlib.ts';
import { iret, sendIpi } from './ops/interrupts.ts';
import { readWord, setBit, writeWord, xchgWord } from './ops/memory.ts';
import { userLoad, userStore, userTouch, writeCr3 } from './ops/translation.ts';
import { makePte, Pte } from './pageTable.ts';

describe('an address that is none', () => {
  test.each([
    [4, 'is not aligned to 8 bytes'],
    [-8, 'is outside'],
    [16 * 4096, 'is outside'],
    [Number.NaN, 'is outside'],
    [Number.POSITIVE_INFINITY, 'is outside'],
    [0.5, 'is outside'],
  ])('physical address %d is refused by every Op that takes one', (at, why) => {
    const where = at >= 0 ? ` of 0x${at.toString(16)}` : '';
    for (const model of ['tso', 'sc'] as const)
      for (const [name, op] of [
        ['load', () => readWord(physAddr(at))],
        ['store', () => writeWord(physAddr(at), 1)],
        ['locked', () => xchgWord(physAddr(at), 1)],
      ] as const) {
        const error = failing(
          function* innermost() {
            yield* op();
          },
          { model },
        );
        expect(codeOf(error)).toBe('ERR_ADDRESS');
        expect(error.message).toContain(why);
        expectPlace(error, `Op ${name}${where}`, ['innermost', 'middle']);
      }
  });

  test.each([1, 4, 0.5, Number.NaN, Number.POSITIVE_INFINITY])(
    'user address %d is refused by a load and by a store',
    (va) => {
      for (const op of [() => userLoad(virtAddr(va)), () => userStore(virtAddr(va), 1)]) {
        const error = failing(function* innermost() {
          yield* op();
        });
        expect(codeOf(error)).toBe('ERR_ADDRESS');
        expectPlace(error, 'after Op nop', ['innermost', 'middle']);
      }
    },
  );

  test('a page may be touched at any byte, but at no half of one', () => {
    expect(userTouch(virtAddr(3), false)).toBeInstanceOf(Op);
    expect(() => userTouch(virtAddr(0.5), false)).toThrowError(
      expect.objectContaining({ code: 'ERR_ADDRESS' }) as UsageError,
    );
  });

  test.each(['finite', 'mayCached'] as const)(
    'an entry that leads out of memory is found by the access (%s)',
    (tlb) => {
      for (const target of [16, 2 ** 30]) {
        const error = failing(
          function* innermost(machine) {
            for (let level = 0; level < 3; level++)
              machine.physical.write(level * 4096, makePte(level + 1, Pte.present | Pte.user));
            machine.physical.write(3 * 4096, makePte(target, Pte.present | Pte.user));
            yield* writeCr3(0 as never, 0, true);
            yield* userLoad(virtAddr(0));
          },
          { tlb },
        );
        expect(codeOf(error)).toBe('ERR_ADDRESS');
        expectPlace(error, 'Op access', ['innermost', 'middle']);
      }
      const error = failing(
        function* innermost(machine) {
          machine.physical.write(0, makePte(99, Pte.present | Pte.user));
          yield* writeCr3(0 as never, 0, true);
          yield* userLoad(virtAddr(0));
        },
        { tlb },
      );
      expect(codeOf(error)).toBe('ERR_ADDRESS');
      expectPlace(error, 'Op access', ['innermost', 'middle']);
    },
  );
});

describe('an interrupt that is none', () => {
  test('iret where no interrupt was taken', () => {
    const error = failing(function* innermost() {
      yield* iret();
    });
    expect(codeOf(error)).toBe('ERR_INTERRUPT');
    expectPlace(error, 'Op iret', ['innermost', 'middle']);
  });

  test('a vector that nothing answers', () => {
    const error = failing(function* innermost() {
      yield* sendIpi(new CpuMask(2, [0]), 0x30);
    });
    expect(codeOf(error)).toBe('ERR_INTERRUPT');
    expect(error.message).toContain('nothing answers vector 48');
    expectPlace(error, 'Op sendIpi', ['innermost', 'middle']);
  });

  test.each([256, -1, 1.5, Number.NaN])('vector %d', (vector) => {
    const error = failing(function* innermost() {
      yield* sendIpi(new CpuMask(2, [0]), vector);
    });
    expect(codeOf(error)).toBe('ERR_INTERRUPT');
    expectPlace(error, 'after Op nop', ['innermost', 'middle']);
    const machine = new Machine({ cpus: 1 });
    expect(() => machine.onInterrupt(vector, function* () {})).toThrowError(
      expect.objectContaining({ code: 'ERR_INTERRUPT' }) as UsageError,
    );
  });

  test('an interrupt for a CPU that is not there', () => {
    const error = failing(function* innermost(machine) {
      machine.onInterrupt(0x30, function* () {});
      yield* sendIpi(new CpuMask(32, [7]), 0x30);
    });
    expect(codeOf(error)).toBe('ERR_CPU_RANGE');
    expectPlace(error, 'Op sendIpi', ['innermost', 'middle']);
  });

  test('a bit of a CPU that is not there', () => {
    const error = failing(function* innermost(machine) {
      yield* setBit(machine.maskCell('m'), 2);
    });
    expect(codeOf(error)).toBe('ERR_CPU_RANGE');
    expectPlace(error, 'after Op nop', ['innermost', 'middle']);
  });
});

describe('options that make no machine', () => {
  const move = { name: 'it', cpu: 0, kind: 'nmi', times: 1 } as const;
  const bad: readonly (readonly [string, object])[] = [
    ['1 to 8192 CPUs, not 0', { cpus: 0 }],
    ['1 to 8192 CPUs, not 8193', { cpus: 8193 }],
    ['1 to 8192 CPUs, not 1.5', { cpus: 1.5 }],
    ['1 to 8192 CPUs, not NaN', { cpus: Number.NaN }],
    ['page frames, not 0', { frames: 0 }],
    ['page frames, not 137438953472', { frames: 2 ** 37 }],
    ["no memory model 'pso'", { model: 'pso' }],
    ["no number of page-table levels '3'", { levels: 3 }],
    ["no form of TLB 'none'", { tlb: 'none' }],
    ['entries in a translation cache, not 0', { tlbSizes: { leaf: 0 } }],
    ['entries in a translation cache, not -1', { tlbSizes: { upper: [1, 1, 1, -1] } }],
    ["no axiom 'storesDrain'; the axioms are deliveryDrains", { axioms: { storesDrain: true } }],
    ["'it' is for CPU 2, the CPUs are 0-1", { environment: [{ ...move, cpu: 2 }] }],
    ["'it' is for CPU 0.5", { environment: [{ ...move, cpu: 0.5 }] }],
    ["'it' happens -1 times", { environment: [{ ...move, times: -1 }] }],
    [
      "'it' happens Infinity times",
      { environment: [{ ...move, times: Number.POSITIVE_INFINITY }] },
    ],
    ["'it' is an irq without a vector", { environment: [{ ...move, kind: 'irq' }] }],
    ['of vector 256', { environment: [{ ...move, kind: 'irq', vector: 256 }] }],
    ['2 is the NMI', { environment: [{ ...move, kind: 'irq', vector: 2 }] }],
  ];

  test.each(bad)('%s', (message, options) => {
    expect(() => new Machine({ cpus: 2, ...options })).toThrowError(
      expect.objectContaining({
        code: 'ERR_MACHINE',
        message: expect.stringContaining(message) as string,
      }) as UsageError,
    );
  });

  test('a CPU that is not there, or that has nothing to do, is not run', () => {
    const machine = new Machine({ cpus: 2 });
    expect(() => machine.run(2, nothing())).toThrowError(
      expect.objectContaining({ code: 'ERR_CPU_RANGE' }) as UsageError,
    );
    expect(() => machine.step(machine.cpu(1))).toThrowError(
      expect.objectContaining({ code: 'ERR_MACHINE' }) as UsageError,
    );
  });
  function* nothing(): Coroutine {}
});

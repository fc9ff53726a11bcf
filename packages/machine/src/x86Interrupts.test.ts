/**
 * What an interrupt orders: the sender's stores before it (MPviaIPI), the receiver's stores around it
 * (SB), and other interrupts. Either of the first two rests on an axiom and fails without it. MPviaIPI is
 * MPviaSGI of Simner et al., "Relaxed exception semantics for Arm-A", 2024, for x86; why the bare
 * x2APIC WRMSR does not do: weak_wrmsr_fence() of arch/x86/include/asm/barrier.h.
 */
import { describe, expect, test } from 'vitest';
import type { Axioms } from './axioms.ts';
import type { Cell } from './cell.ts';
import { CpuMask } from './cpuMask.ts';
import { type CallFunction, CallQueues } from './csd.ts';
import type { EnvironmentMove } from './environment.ts';
import type { Machine } from './machine.ts';
import type { Coroutine } from './op.ts';
import { sendIpi } from './ops/interrupts.ts';
import { nop, readOnce, smpMb, writeOnce } from './ops/memory.ts';
import { call } from './stack.ts';
import { outcomes } from './story.testlib.ts';

const VECTOR = 0xfb;
const NMI = 2;

const toCpu1 = (machine: Machine): CpuMask => new CpuMask(machine.count, [1]);

describe('MPviaIPI: a message, and an interrupt to say so', () => {
  /** CPU 0 stores 1 to x and interrupts CPU 1 by `post`; what does the handler find? */
  const found = (
    axioms: Partial<Axioms>,
    post: (machine: Machine, read: () => Coroutine, x: Cell<number>) => Coroutine,
  ) =>
    outcomes(
      (machine) => {
        const x = machine.cell('x', 0);
        let got = 'nothing';
        function* read(): Coroutine {
          got = `x=${yield* readOnce(x)}`;
        }
        machine.onInterrupt(VECTOR, read);
        function* cpu0(): Coroutine {
          yield* writeOnce(x, 1);
          yield* call(post(machine, read, x));
        }
        return { cpus: [cpu0()], outcome: () => got };
      },
      { axioms },
    );

  function* bare(machine: Machine): Coroutine {
    yield* sendIpi(toCpu1(machine), VECTOR);
  }

  function* fenced(machine: Machine): Coroutine {
    yield* smpMb();
    yield* sendIpi(toCpu1(machine), VECTOR);
  }

  /** And takes the message back, once the call has been waited for. */
  function* queued(machine: Machine, read: () => Coroutine, x: Cell<number>): Coroutine {
    const run: CallFunction<null> = { name: 'read', run: read };
    yield* call(new CallQueues(machine, VECTOR).callAndWait(toCpu1(machine), run, null));
    yield* writeOnce(x, 2);
  }

  test('the handler finds the message', () => {
    expect(found({}, bare)).toEqual(['x=1']);
  });

  test('a bare x2APIC WRMSR posts without the message; with a fence before it, it does not', () => {
    expect(found({ postingDrains: false }, bare)).toEqual(['x=0', 'x=1']);
    expect(found({ postingDrains: false }, fenced)).toEqual(['x=1']);
  });

  test('a queued call brings the message, as it is queued by a locked instruction', () => {
    expect(found({}, queued)).toEqual(['x=1']);
    expect(found({ postingDrains: false }, queued)).toEqual(['x=1']);
  });
});

describe('interrupts and the store buffer', () => {
  const device: EnvironmentMove = { name: 'device', cpu: 1, kind: 'irq', vector: VECTOR, times: 1 };

  /** Store buffering with an interrupt between store and load of CPU 1, where a fence would be. */
  const interrupted = (axioms: Partial<Axioms>, storesInHandler: boolean, byIpi = false) =>
    outcomes(
      (machine) => {
        const x = machine.cell('x', 0);
        const y = machine.cell('y', 0);
        let r0 = -1;
        let r1 = 'not in that order';
        let stored = false;
        function* store(): Coroutine {
          yield* writeOnce(x, 1);
          stored = true;
        }
        function* load(): Coroutine {
          const got = yield* readOnce(y);
          if (stored) r1 = `r1=${got}`;
        }
        machine.onInterrupt(VECTOR, storesInHandler ? store : load);
        function* cpu0(): Coroutine {
          yield* writeOnce(y, 1);
          yield* smpMb();
          r0 = yield* readOnce(x);
        }
        const cpu1 = storesInHandler ? load : store;
        function* cpu2(): Coroutine {
          yield* sendIpi(toCpu1(machine), VECTOR);
        }
        const cpus = byIpi ? [cpu0(), cpu1(), cpu2()] : [cpu0(), cpu1()];
        return { cpus, outcome: () => `r0=${r0} ${r1}` };
      },
      { cpus: 3, axioms, environment: byIpi ? [] : [device] },
    );

  test.each([
    ['from a device', false],
    ['from another CPU', true],
  ])('SB: an interrupt %s is a fence, since its delivery drains the store buffer', (_who, ipi) => {
    expect(interrupted({}, false, ipi)).not.toContain('r0=0 r1=0');
    expect(interrupted({}, false, ipi)).toContain('r0=1 r1=0');
    expect(interrupted({ deliveryDrains: false }, false, ipi)).toContain('r0=0 r1=0');
  });

  test('SB: returning from an interrupt is a fence, since IRET is serializing', () => {
    expect(interrupted({}, true)).not.toContain('r0=0 r1=0');
    expect(interrupted({}, true)).toContain('r0=1 r1=0');
    expect(interrupted({ returnDrains: false }, true)).toContain('r0=0 r1=0');
  });
});

describe('interrupts among each other', () => {
  /** CPU 0 sends two vectors to CPU 1; in which order do their handlers begin (A, B) and end (a, b)? */
  const nested = (first: number, second: number) =>
    outcomes((machine) => {
      const order: string[] = [];
      const logs = (begins: string, ends: string) =>
        function* (): Coroutine {
          order.push(begins);
          yield* nop();
          order.push(ends);
        };
      machine.onInterrupt(first, logs('A', 'a'));
      machine.onInterrupt(second, logs('B', 'b'));
      function* cpu0(): Coroutine {
        yield* sendIpi(toCpu1(machine), first);
        yield* sendIpi(toCpu1(machine), second);
      }
      return { cpus: [cpu0()], outcome: () => order.join('') };
    });

  test('an interrupt waits for the end of another, and is then taken', () => {
    expect(nested(0x40, 0x80)).toEqual(['AaBb', 'BbAa']);
  });

  test('a vector that is pending already is not pending twice', () => {
    const taken = outcomes((machine) => {
      let count = 0;
      machine.onInterrupt(VECTOR, function* () {
        yield* nop();
        count++;
      });
      function* cpu0(): Coroutine {
        yield* sendIpi(toCpu1(machine), VECTOR);
        yield* sendIpi(toCpu1(machine), VECTOR);
      }
      return { cpus: [cpu0()], outcome: () => `${count}` };
    });
    expect(taken).toEqual(['1', '2']);
  });

  test('an NMI waits for no interrupt', () => {
    expect(nested(0x40, NMI)).toEqual(['ABba', 'AaBb', 'BbAa']);
  });
});

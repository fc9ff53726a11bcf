import { expect, test } from 'vitest';
import type { UsageError } from './errors.ts';
import { Machine } from './machine.ts';
import type { Coroutine } from './op.ts';
import { waitsFor } from './ops/control.ts';
import { armTimer } from './ops/interrupts.ts';
import { atomicWhen, nop, writeOnce } from './ops/memory.ts';

const take = (lock: { value: boolean }): boolean => lock.value;

test('a lock that is held is not taken, and its waiter is not enabled until it is free', () => {
  const machine = new Machine({ cpus: 2 });
  const lock = machine.cell('lock', false);
  const order: string[] = [];
  function* critical(name: string): Coroutine {
    yield* atomicWhen(
      lock,
      (held) => !held,
      () => true,
    );
    order.push(`${name} in`);
    yield* nop();
    order.push(`${name} out`);
    yield* writeOnce(lock, false);
  }
  machine.run(0, critical('a'));
  machine.run(1, critical('b'));
  const [a, b] = [machine.cpu(0), machine.cpu(1)];
  machine.step(a);
  expect(take(lock)).toBe(true);
  expect(machine.ways(b)).toBe(0);
  expect(b.op === null ? [] : waitsFor(b.op)).toEqual([lock]);
  machine.step(a);
  machine.step(a);
  // Released, but still in the store buffer of the other CPU.
  expect(machine.ways(b)).toBe(0);
  machine.drain(a);
  expect(machine.ways(b)).toBe(1);
  while (machine.ways(b) > 0) machine.step(b);
  expect(order).toEqual(['a in', 'a out', 'b in', 'b out']);
});

test('taking a lock waits until the stores before it are visible', () => {
  const machine = new Machine({ cpus: 1 });
  const lock = machine.cell('lock', 0);
  const x = machine.cell('x', 0);
  function* body(): Coroutine {
    yield* writeOnce(x, 1);
    yield* atomicWhen(
      lock,
      () => true,
      (held) => held + 1,
    );
  }
  machine.run(0, body());
  machine.step(machine.cpu(0));
  expect(machine.ways(machine.cpu(0))).toBe(0);
  machine.drain(machine.cpu(0));
  expect(machine.ways(machine.cpu(0))).toBe(1);
});

test('a timer raises its vector on its own CPU, once however often it was armed', () => {
  const machine = new Machine({ cpus: 2 });
  const took: number[] = [];
  machine.onInterrupt(0x30, function* (): Coroutine {
    took.push(machine.current?.id ?? -1);
    yield* nop();
  });
  machine.run(
    1,
    (function* (): Coroutine {
      yield* armTimer(0x30, 1000);
      yield* armTimer(0x30, 10);
    })(),
  );
  const cpu = machine.cpu(1);
  while (machine.ways(cpu) > 0) machine.step(cpu);
  machine.deliver(cpu);
  while (machine.ways(cpu) > 0) machine.step(cpu);
  expect(took).toEqual([1]);
  expect(machine.deliverable(cpu)).toBeNull();
});

test.each([-1, 0.5, Number.NaN])('a timer of %s ns is refused', (ns) => {
  expect(() => armTimer(0x30, ns)).toThrowError(
    expect.objectContaining({ code: 'ERR_COROUTINE' }) as UsageError,
  );
});

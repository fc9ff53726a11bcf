import {
  type Cell,
  type Coroutine,
  CpuMask,
  Machine,
  nop,
  readOnce,
  sendIpi,
  writeOnce,
} from '@shootdown/machine';
import { expect, test } from 'vitest';
import { schedule } from '../scheduler.ts';
import { roundRobin } from './roundRobin.ts';

test('a CPU that loads again and again gets its store to memory all the same', () => {
  const machine = new Machine({ cpus: 2 });
  const [x, y] = [machine.cell('x', 0), machine.cell('y', 0)];
  function* polls(mine: Cell<number>, other: Cell<number>, first: boolean): Coroutine {
    if (first) yield* writeOnce(mine, 1);
    while ((yield* readOnce(other)) === 0) yield* nop();
    if (!first) yield* writeOnce(mine, 1);
  }
  machine.run(0, polls(x, y, true));
  machine.run(1, polls(y, x, false));
  expect(schedule(machine, roundRobin(), { maxSteps: 1000 }).ended).toBe(true);
});

test('a CPU whose code never ends takes its interrupts all the same', () => {
  const machine = new Machine({ cpus: 2 });
  const done = { interrupted: false };
  machine.onInterrupt(0x30, function* () {
    done.interrupted = true;
    yield* nop();
  });
  function* forever(): Coroutine {
    while (!done.interrupted) yield* nop();
  }
  function* sender(): Coroutine {
    yield* sendIpi(new CpuMask(2, [0]), 0x30);
  }
  machine.run(0, forever());
  machine.run(1, sender());
  expect(schedule(machine, roundRobin(), { maxSteps: 1000 }).ended).toBe(true);
});

import {
  call,
  CallQueues,
  type Coroutine,
  CpuMask,
  halt,
  localIrqDisable,
  Machine,
  UsageError,
  waitUntil,
} from '@shootdown/machine';
import { expect, test } from 'vitest';
import { runByClock } from './clock.ts';
import { schedule } from './scheduler.ts';
import { roundRobin } from './schedulers/roundRobin.ts';

const drivers: readonly (readonly [string, (machine: Machine) => unknown])[] = [
  ['the clock', (machine) => runByClock(machine)],
  ['a scheduler', (machine) => schedule(machine, roundRobin())],
];

function* nothing(): Coroutine {}

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof UsageError && error.code === 'ERR_STUCK') return error.message;
    throw error;
  }
  throw new Error('it ended');
}

test.each(drivers)(
  '%s: two CPUs that call each other with interrupts off are stuck',
  (_n, drive) => {
    const machine = new Machine({ cpus: 2 });
    const calls = new CallQueues(machine, 252);
    function* callsTheOther(id: number): Coroutine {
      yield* localIrqDisable();
      yield* call(calls.callAndWait(new CpuMask(2, [1 - id]), { name: 'f', run: nothing }, null));
    }
    machine.run(0, callsTheOther(0));
    machine.run(1, callsTheOther(1));
    const message = messageOf(() => drive(machine));
    expect(message).toMatch(/^CPU 0 \(cpu0\), Op csdWait: waits with interrupts off/);
    expect(message).toContain('csd[0,1].lock = true');
    expect(message).toContain('vectors 252 pending; CPU 1 waits with interrupts off');
    // Innermost first.
    expect(message).toMatch(/awaitCalls[^]*callAndWait[^]*callsTheOther/);
  },
);

test.each(drivers)('%s: a wait that nobody ends is stuck, and names the cell', (_name, drive) => {
  const machine = new Machine({ cpus: 1 });
  const lock = machine.cell('mmap_lock', 1);
  function* takesLock(): Coroutine {
    yield* waitUntil(lock, (held) => held === 0);
  }
  machine.run(0, takesLock());
  expect(messageOf(() => drive(machine))).toContain('(mmap_lock = 1)');
});

test.each(drivers)('%s: an idle CPU that halts is not stuck', (_name, drive) => {
  const machine = new Machine({ cpus: 1 });
  function* idleLoop(): Coroutine {
    for (;;) yield* halt();
  }
  machine.run(0, idleLoop());
  expect(() => drive(machine)).not.toThrow();
});

test.each(drivers)('%s: code that rolls dice is refused by name', (_name, drive) => {
  const machine = new Machine({ cpus: 1 });
  function* gambler(): Coroutine {
    yield* waitUntil(machine.cell('x', 0), () => true);
    if (Math.random() < 2) yield* halt();
  }
  machine.run(0, gambler());
  expect(() => drive(machine)).toThrowError(
    expect.objectContaining({
      code: 'ERR_NONDETERMINISM',
      message: expect.stringMatching(/Math\.random[^]*gambler/) as string,
    }) as UsageError,
  );
  expect(Math.random()).toBeLessThan(1);
});

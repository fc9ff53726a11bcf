import { expect, test } from 'vitest';
import { CpuMask } from './cpuMask.ts';
import { CallQueues } from './csd.ts';
import type { UsageError } from './errors.ts';
import { Machine } from './machine.ts';
import type { Coroutine } from './op.ts';
import { sendIpi } from './ops/interrupts.ts';
import { nop } from './ops/memory.ts';
import { call } from './stack.ts';

test('a handler that calls whom its own code is just calling is refused, and does not hang', () => {
  const machine = new Machine({ cpus: 2 });
  const calls = new CallQueues(machine, 252);
  const other = new CpuMask(2, [1]);
  const nothing = {
    name: 'nothing',
    *run(): Coroutine {
      yield* nop();
    },
  };
  machine.onInterrupt(32, () => calls.post(other, nothing, null, false));
  function* caller(): Coroutine {
    yield* sendIpi(new CpuMask(2, [0]), 32);
    yield* call(calls.post(other, nothing, null, false));
  }
  machine.run(0, caller());
  const [cpu] = machine.cpus;
  const steps = (until: string): void => {
    while (cpu?.op?.kind.name !== until)
      if (machine.ways(machine.cpu(0)) > 0) machine.step(machine.cpu(0));
      else machine.drain(machine.cpu(0));
  };
  // The interrupt comes when the lock has been found free and before the CSD is filled.
  steps('csdFill');
  machine.deliver(machine.cpu(0));
  steps('iret');
  machine.step(machine.cpu(0));
  expect(() => steps('iret')).toThrowError(
    expect.objectContaining({
      code: 'ERR_COROUTINE',
      message: expect.stringContaining('queued already') as string,
    }) as UsageError,
  );
});

const nothing = { name: 'nothing', *run(): Coroutine {} };

/** What CPU 0 sends when it posts to `targets`, and what it says of it. */
function posted(
  targets: readonly number[],
  condition: ((target: number) => boolean) | null = null,
): { readonly pending: readonly (readonly number[])[]; readonly called: readonly number[] } {
  const machine = new Machine({ cpus: 4, model: 'sc' });
  const calls = new CallQueues(machine, { single: 251, many: 252 });
  let called: readonly number[] = [];
  const asked =
    condition === null
      ? null
      : function* (target: number): Coroutine<boolean> {
          yield* nop();
          return condition(target);
        };
  machine.run(
    0,
    (function* (): Coroutine {
      called = (yield* call(
        calls.post(new CpuMask(4, targets), nothing, null, true, asked),
      )).members();
    })(),
  );
  while (machine.ways(machine.cpu(0)) > 0) machine.step(machine.cpu(0));
  return { pending: machine.cpus.map(({ pending }) => [...pending]), called };
}

test('one target is interrupted by the vector for one, several by that for several', () => {
  expect(posted([0, 2]).pending).toEqual([[], [], [251], []]);
  expect(posted([1, 2, 3]).pending).toEqual([[], [252], [252], [252]]);
});

test('of whom the condition does not hold is neither called nor waited for', () => {
  const { pending, called } = posted([1, 2, 3], (target) => target === 2);
  expect(called).toEqual([2]);
  expect(pending).toEqual([[], [], [251], []]);
});

test('who shares an interrupt that is on its way does not count for the vector', () => {
  const machine = new Machine({ cpus: 4, model: 'sc' });
  const calls = new CallQueues(machine, { single: 251, many: 252 });
  const to = (targets: readonly number[]): Coroutine<CpuMask> =>
    calls.post(new CpuMask(4, targets), nothing, null, true);
  machine.run(3, to([1]));
  while (machine.ways(machine.cpu(3)) > 0) machine.step(machine.cpu(3));
  machine.run(0, to([1, 2]));
  while (machine.ways(machine.cpu(0)) > 0) machine.step(machine.cpu(0));
  expect(machine.cpus.map(({ pending }) => [...pending])).toEqual([[], [251], [251], []]);
});

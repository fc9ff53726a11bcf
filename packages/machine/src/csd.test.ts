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

/**
 * Kernel code that fails, three calls deep, and what the message of its error must say.
 */
import { expect } from 'vitest';
import { guardDeterminism } from './determinism.ts';
import { UsageError } from './errors.ts';
import { Machine, type MachineOptions } from './machine.ts';
import type { Coroutine } from './op.ts';
import { nop } from './ops/memory.ts';
import { call } from './stack.ts';

/** The error of a machine that takes whatever is enabled first. */
export function errorOf(machine: Machine): Error {
  try {
    guardDeterminism(machine, () => {
      for (let step = 0; step < 100; step++) {
        const [next] = machine.enabled([]);
        if (next === undefined) break;
        machine.execute(next);
      }
    });
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('nothing failed');
}

/** The error of `body`, which CPU 1 runs three calls deep. */
export function failing(
  body: (machine: Machine) => Coroutine<unknown>,
  options: Partial<MachineOptions> = {},
): Error {
  const machine = new Machine({ cpus: 2, frames: 16, model: 'sc', ...options });
  function* outermost(): Coroutine {
    yield* nop();
    yield* call(middle());
  }
  function* middle(): Coroutine {
    yield* call(body(machine));
  }
  machine.run(1, outermost(), 'worker');
  return errorOf(machine);
}

/** What the message has to say: the Op, and the names on the stack besides `outermost`. */
export function expectPlace(error: Error, op: string, names: readonly string[]): void {
  const [first = '', title, ...stack] = error.message.split('\n');
  expect(first).toContain(`CPU 1 (worker), ${op}: `);
  expect(title).toBe('  coroutine stack, innermost first:');
  expect(stack.map((line) => line.trim().split(' ')[0])).toEqual([...names, 'outermost']);
  for (const line of stack) if (!line.includes('(at ')) expect(line).toMatch(/:\d+:\d+\)$/);
}

/** The code of a mistake; any other error as it is. */
export const codeOf = (error: unknown): unknown =>
  error instanceof UsageError ? error.code : error;

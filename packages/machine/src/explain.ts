/**
 * An error in kernel code says where: which CPU, at which Op, and through which coroutines. A
 * generator does not know its caller here, since the driver keeps the stack, so the stack is asked
 * coroutine by coroutine, innermost first: each is failed where it waits, and notes its own place
 * (`Op.throw`). They end by that, which does no harm: the run is over.
 */
import type { Cpu } from './cpu.ts';
import { ModelBugError, UsageError } from './errors.ts';
import { type Op, type Places, placesIn } from './op.ts';

const explained = new WeakSet<Error>();

/** What `op` is, for people. */
export function describeOp(op: Op | null): string {
  if (op === null) return 'no Op (idle)';
  if (op.cell !== null) return `Op ${op.kind.name} of ${op.cell.name}`;
  return op.at >= 0 ? `Op ${op.kind.name} of 0x${op.at.toString(16)}` : `Op ${op.kind.name}`;
}

/** Where the coroutines of `cpu` are, innermost first. Ends them. */
export function unwind(cpu: Cpu): readonly string[] {
  const failure: Places = { places: [] };
  for (const coroutine of cpu.task.stack.toReversed()) {
    try {
      coroutine.throw(failure);
    } catch {
      // Thrown through, as expected; one that catches everything has noted its place all the same.
    }
  }
  cpu.task.stack.length = 0;
  cpu.op = null;
  return failure.places;
}

/**
 * `error`, which came up on `cpu` at `op`, with CPU, Op and coroutine stack in its message. With
 * `op` null it came up between two Ops: in the coroutine that threw it, or in none, which is `[]`.
 */
export function explain(
  cpu: Cpu,
  error: unknown,
  op: Op | null,
  thrower: readonly string[] = op === null && error instanceof Error ? throwerOf(error) : [],
): Error {
  if (error instanceof Error && explained.has(error)) return error;
  const what = error instanceof Error ? error.message : String(error);
  const last = op ?? cpu.op;
  const places = [...thrower, ...unwind(cpu)];
  const stack = places.length === 0 ? ['(no coroutine)'] : places;
  const at = `${op === null ? 'after ' : ''}${describeOp(last)}`;
  const lines = ['  coroutine stack, innermost first:', ...stack.map((place) => `    ${place}`)];
  const message = [`CPU ${cpu.id} (${cpu.task.name}), ${at}: ${what}`, ...lines].join('\n');
  const result =
    error instanceof UsageError
      ? new UsageError(error.code, message, { cause: error })
      : new ModelBugError(message, { cause: error });
  explained.add(result);
  return result;
}

/**
 * The places in the coroutine that threw `error`, and in those it is nested in by plain `yield*`.
 */
function throwerOf(error: Error): readonly string[] {
  const places = placesIn(error.stack, 'next');
  if (places.length > 0) return places;
  // So deep in ordinary functions that no coroutine is in the stack any more: where it happened.
  const first = error.stack?.split('\n').find((line) => line.trim().startsWith('at '));
  return first === undefined ? [] : [first.trim().replace(/^at /, '')];
}

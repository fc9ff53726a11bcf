/**
 * An error in kernel code says where: which CPU, at which Op, and through which coroutines. A
 * generator does not know its caller here, since the driver keeps the stack, so the stack is asked
 * coroutine by coroutine, innermost first: each is failed where it waits, and notes its own place
 * (`Op.throw`). They end by that, which does no harm: the run is over.
 */
import type { Cpu } from './cpu.ts';
import { ModelBugError, UsageError } from './errors.ts';
import type { Op, Places } from './op.ts';

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

/** `error`, which came up on `cpu` at `op`, with CPU, Op and coroutine stack in its message. */
export function explain(cpu: Cpu, error: unknown, op: Op | null): Error {
  if (error instanceof Error && explained.has(error)) return error;
  const what = error instanceof Error ? error.message : String(error);
  const thrower = op === null && error instanceof Error ? firstPlace(error) : [];
  const last = op ?? cpu.op;
  const places = [...thrower, ...unwind(cpu)];
  const stack = places.length === 0 ? '    (no coroutine)' : places.map((p) => `    ${p}`).join('\n');
  const message = `CPU ${cpu.id} (${cpu.task.name}), ${op === null ? 'after ' : ''}${describeOp(last)}: ${what}\n  coroutine stack, innermost first:\n${stack}`;
  const result =
    error instanceof UsageError
      ? new UsageError(error.code, message)
      : new ModelBugError(message, { cause: error });
  explained.add(result);
  return result;
}

/** The place in a coroutine that threw `error` itself: the first that is not one of ours. */
function firstPlace(error: Error): readonly string[] {
  const lines = (error.stack ?? '').split('\n').map((line) => line.trim());
  const end = lines.findIndex((line) => /\bresumeTop\b/.test(line));
  const above = lines.slice(0, end === -1 ? 0 : end).filter((line) => line.startsWith('at '));
  // `next` of the generator object stands between its function and us.
  const place = above.findLast((line) => !/\bnext\b/.test(line));
  return place === undefined ? [] : [place.replace(/^at /, '')];
}

/**
 * One explicit stack of coroutines per CPU. `yield* call(fn())` pushes, the end of a coroutine pops,
 * an interrupt or NMI pushes a handler on whatever runs, a task switch swaps the whole stack.
 *
 * The driver resumes only the top generator. Nesting by plain `yield*` would walk down the whole
 * chain of generators for every Op: four times as slow at depth 8 (tools/bench).
 */
import type { Cpu } from './cpu.ts';
import { ModelBugError, UsageError } from './errors.ts';
import { explain } from './explain.ts';
import type { CpuId } from './ids.ts';
import { always, type Coroutine, Op, type OpKind, opKind, touchesNothing } from './op.ts';

/** Why code runs on top of other code of the same CPU. */
export type ContextKind = 'irq' | 'nmi' | 'host';

/** What was interrupted, and how to go back to it. */
export interface Context {
  readonly kind: ContextKind;
  /** The interrupt's vector; null for the host. */
  readonly vector: number | null;
  /** How many coroutines are below. */
  readonly base: number;
  /** The Op that was about to be executed; null if the CPU idled. */
  readonly op: Op | null;
  /** The interrupt flag to go back to. */
  readonly irqsOn: boolean;
}

/** A stack of coroutines that some CPU can run: a thread, or a CPU's idle loop. */
export interface Task<Who = unknown> {
  readonly name: string;
  /** Whom records name as the task. */
  readonly who: Who;
  readonly stack: Coroutine<unknown>[];
  readonly contexts: Context[];
  /** While it is switched out: the Op it waits at. */
  op: Op | null;
}

/** A task that will run `body` when a CPU switches to it. */
export const newTask = <Who>(name: string, who: Who, body: Coroutine<unknown>): Task<Who> => ({
  name,
  who,
  stack: [body],
  contexts: [],
  op: null,
});

/** The task of a CPU that has nothing to run. */
export const idleTask = (cpu: CpuId): Task => ({
  name: `idle/${cpu}`,
  who: null,
  stack: [],
  contexts: [],
  op: null,
});

const CALL: OpKind = opKind({
  name: 'call',
  ready: always,
  touch: touchesNothing,
  execute: () => {
    throw new ModelBugError('a call is entered by the stack and never executed');
  },
});

/**
 * Enters another coroutine: `const pages = yield* call(unmap(k, vma))`. Costs no step of the CPU.
 */
export const call = <T>(body: Coroutine<T>): Op<T> => new Op<T>(CALL, null, -1, body);

/** What the machine does when the coroutine under an interrupt, NMI or the host has ended. */
export type HandlerEnd = (cpu: Cpu) => Op;

/** Gives the Op that `cpu` has just executed its `result`, and goes on to the next Op. */
export function advance(cpu: Cpu, result: unknown, handlerEnd: HandlerEnd): void {
  if (cpu.op !== null) cpu.op.done = true;
  resumeTop(cpu, result, handlerEnd);
}

/** Starts the task that `cpu` has switched to for the first time. */
export function begin(cpu: Cpu, handlerEnd: HandlerEnd): void {
  resumeTop(cpu, undefined, handlerEnd);
}

/** Starts `body` on top of whatever `cpu` runs, and runs it to its first Op. */
export function enter(cpu: Cpu, body: Coroutine<unknown>, handlerEnd: HandlerEnd): void {
  cpu.task.stack.push(body);
  resumeTop(cpu, undefined, handlerEnd);
}

// Every generator function has a prototype of its own, so `top.next` is looked up anew for each of
// them; what they inherit is one function.
const resume: (this: Coroutine<unknown>, given: unknown) => IteratorResult<Op, unknown> =
  Object.getPrototypeOf(Object.getPrototypeOf((function* () {})())).next;

/** Runs the top coroutine of `cpu` to its next Op, through any calls and returns. */
function resumeTop(cpu: Cpu, result: unknown, handlerEnd: HandlerEnd): void {
  const { stack, contexts } = cpu.task;
  let top = stack[stack.length - 1];
  let given = result;
  while (top !== undefined) {
    let step: IteratorResult<Op, unknown>;
    try {
      step = resume.call(top, given);
    } catch (error) {
      stack.pop();
      if (isCoroutine(top)) throw explain(cpu, error, null);
      throw explain(cpu, calledSomethingElse(top), null, []);
    }
    if (step.done === true) {
      stack.pop();
      given = step.value;
      if (stack.length === (contexts.length === 0 ? 0 : contexts.at(-1)?.base)) {
        cpu.op = contexts.length === 0 ? null : handlerEnd(cpu);
        return;
      }
      top = stack[stack.length - 1];
      continue;
    }
    // An Op that was handed out by yield* is its own iterator result.
    const op: unknown = step;
    if (!(op instanceof Op)) throw explain(cpu, yieldedSomethingElse(step.value), null, UNKNOWN);
    if (op.kind !== CALL) {
      cpu.op = op;
      return;
    }
    op.done = true;
    top = op.operand as Coroutine<unknown>;
    stack.push(top);
    given = undefined;
  }
  cpu.op = null;
}

/** A coroutine at a plain yield cannot be asked where it is. */
const UNKNOWN = ['(at a plain yield, in what the next line calls)'];

const INSTEAD = 'write yield* op, or yield* call(coroutine)';

function yieldedSomethingElse(what: unknown): UsageError {
  return new UsageError(
    'ERR_COROUTINE',
    what instanceof Op
      ? `a coroutine yielded the Op ${what.kind.name} by plain yield: write yield* op`
      : `a coroutine yielded ${whatIs(what)}, which is not an Op: ${INSTEAD}`,
  );
}

const calledSomethingElse = (what: unknown): UsageError =>
  new UsageError(
    'ERR_COROUTINE',
    `${whatIs(what)} was to run, which is not a coroutine: write call(fn(...)), not call(fn)`,
  );

const isCoroutine = (what: unknown): boolean =>
  typeof what === 'object' && what !== null && 'next' in what && typeof what.next === 'function';

/** What a thing is, in messages. */
function whatIs(what: unknown): string {
  if (typeof what === 'function') return `the function ${what.name}`;
  if (typeof what !== 'object' || what === null) return `the ${typeof what} ${String(what)}`;
  return Object.prototype.toString.call(what);
}

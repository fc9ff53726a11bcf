/**
 * An Op is one step of a CPU that another CPU could notice. Kernel code is a generator that yields
 * Ops; everything between two of them is ordinary code and belongs to the Op before it.
 *
 * An Op is its own iterator and its own iterator result: `yield* op` hands the Op out once, and the
 * second `next(result)` ends with what the machine says the Op gave. So `const v = yield* load(x)`
 * has the type of the cell, costs one object, and costs the same at any call depth, because the
 * driver keeps the generators of a CPU in one stack (stack.ts) instead of nesting them.
 */
import type { Cell } from './cell.ts';
import type { Cpu } from './cpu.ts';
import { UsageError } from './errors.ts';
import type { Footprint } from './footprint.ts';
import type { Machine } from './machine.ts';

/**
 * What an Op does, in one place: when it may run, what it touches, what it does. Kinds are data, so
 * a package may bring its own; `name` keys the cost table of sim.
 */
export interface OpKind {
  /** Unique; the key of its cost. */
  readonly name: string;
  /** False while the Op has to wait: it is then simply not enabled. */
  readonly ready: (machine: Machine, cpu: Cpu, op: Op) => boolean;
  /** The cells whose change may end its waiting, if it waits for cells and for nothing else. */
  readonly awaits?: ((op: Op) => readonly Cell[]) | undefined;
  /** Whether it is user code that waits, so that an interrupt finds the CPU in user mode. */
  readonly userMode?: boolean | undefined;
  /** How many ways it can go, when that is not one: nondeterminism is an Op too. */
  readonly ways?: ((machine: Machine, cpu: Cpu, op: Op) => number) | undefined;
  /** Every cell that `ready` and `execute` read or write, going `way`. */
  readonly touch: (machine: Machine, cpu: Cpu, op: Op, into: Footprint, way: number) => void;
  /** Does it. What it returns is the value of `yield*`, unless it is `MOVED`. */
  readonly execute: (machine: Machine, cpu: Cpu, op: Op, way: number) => unknown;
}

/**
 * A kind of Op. Kinds made by this have one shape, so that the driver, which meets them all, finds
 * their parts without looking them up.
 */
export const opKind = (parts: OpKind): OpKind => ({
  name: parts.name,
  ready: parts.ready,
  awaits: parts.awaits,
  userMode: parts.userMode,
  ways: parts.ways,
  touch: parts.touch,
  execute: parts.execute,
});

/** Returned by `execute` of an Op after which the CPU is somewhere else (a switch, a return). */
export const MOVED: unique symbol = Symbol('moved');

const FRESH = 0;
const PENDING = 1;
const DONE = 2;

/** The iterator that `yield*` sees. */
interface OpIterator<T> extends Iterator<Op, T, unknown> {
  [Symbol.iterator](): OpIterator<T>;
}

/** One step, to be taken by `yield*`, once. */
export class Op<out T = unknown> implements Iterable<Op, T, unknown> {
  readonly kind: OpKind;
  /** The location, when it is a named cell. */
  readonly cell: Cell | null;
  /** The location otherwise: a physical address, or -1 when the Op has no location. */
  readonly at: number;
  /** What `kind` needs besides. */
  readonly operand: unknown;
  /** The iterator result: the Op itself while it is pending, then what it gave. */
  value: unknown;
  /** Set by the driver just before it resumes the generator that waits for this Op. */
  done = false;
  private state = FRESH;

  constructor(kind: OpKind, cell: Cell | null, at: number, operand: unknown) {
    this.kind = kind;
    this.cell = cell;
    this.at = at;
    this.operand = operand;
    this.value = this;
  }

  [Symbol.iterator](): OpIterator<T> {
    return this as unknown as OpIterator<T>;
  }

  next(result: unknown): this {
    if (this.state === FRESH) {
      this.state = PENDING;
      return this;
    }
    // The driver has set `done`, or this is somebody else's Op: two CPUs that share one would
    // resume each other.
    if (this.state !== PENDING || !this.done) throw usedTwice(this.kind.name);
    this.state = DONE;
    this.value = result;
    return this;
  }

  /**
   * Called inside the generator that waits for this Op, when the driver fails it: the JavaScript
   * stack of this moment names that generator's function, file and line.
   */
  throw(failure: unknown): never {
    notePlace(failure);
    throw failure;
  }
}

function usedTwice(name: string): UsageError {
  return new UsageError(
    'ERR_COROUTINE',
    `the Op ${name} was yielded twice: make a new one for every yield*, also for fences`,
  );
}

/** Anything that can collect where it passed; see stack.ts. */
export interface Places {
  readonly places: string[];
}

const isPlaces = (value: unknown): value is Places =>
  typeof value === 'object' && value !== null && 'places' in value && Array.isArray(value.places);

function notePlace(failure: unknown): void {
  if (!isPlaces(failure)) return;
  const places = placesIn(new Error('place').stack, 'throw');
  failure.places.push(...(places.length === 0 ? ['(unknown place)'] : places));
}

/**
 * The generators in a JavaScript stack, innermost first, down to where the driver came in: under
 * the function of each stands the `method` of the generator object by which it was entered.
 */
export function placesIn(stack: string | undefined, method: 'next' | 'throw'): readonly string[] {
  const lines = (stack ?? '').split('\n').map((line) => line.trim());
  const end = lines.findIndex((line) => /^at (?:resumeTop|unwind) /.test(line));
  const entered = new RegExp(`^at \\S*\\b${method} \\(<anonymous>\\)$`);
  return lines
    .filter((_line, index) => entered.test(lines[index + 1] ?? '') && (end === -1 || index < end))
    .map((line) => line.replace(/^at /, ''));
}

/**
 * Code that runs on a CPU. `Kthread` in kernel packages. Entered from other such code by
 * `yield* call(fn(...))`.
 */
export type Coroutine<T = void> = Generator<Op, T, unknown>;

const ended: OpIterator<void> = {
  next: () => ({ value: undefined, done: true }),
  [Symbol.iterator]: () => ended,
};

/** What `yield*` takes for something that is no Op at all on this hardware. */
export const NOTHING: Iterable<Op, void, unknown> = ended;

/** Always enabled. */
export const always = (): boolean => true;
/** Touches nothing that another CPU could notice. */
export const touchesNothing = (): void => undefined;

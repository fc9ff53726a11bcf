/**
 * Waiting, choosing, switching tasks, and passing time.
 */
import { load, touchLoad } from '../access.ts';
import type { Cell } from '../cell.ts';
import type { Cpu } from '../cpu.ts';
import { UsageError } from '../errors.ts';
import { Hardware } from '../footprint.ts';
import { HANDLER_END } from '../interrupt.ts';
import type { Machine } from '../machine.ts';
import { always, MOVED, Op, type OpKind, opKind, touchesNothing } from '../op.ts';
import { advance, begin, type Task } from '../stack.ts';

/** A wait: the cells it looks at, and when it ends. */
export interface Wait {
  readonly cells: readonly Cell[];
  readonly until: (value: unknown, index: number) => boolean;
}

const NO_CELLS: readonly Cell[] = [];

/** The cells that `op` waits for, for a driver that wants to know what may end it. */
export const waitsFor = (op: Op): readonly Cell[] => op.kind.awaits?.(op) ?? NO_CELLS;

/** The kind of a wait. */
export const WAIT: OpKind = opKind({
  name: 'wait',
  awaits: ({ operand }) => (operand as Wait).cells,
  ready: (machine, cpu, { operand }) => {
    const { cells, until } = operand as Wait;
    for (let index = 0; index < cells.length; index++) {
      const cell = cells[index];
      if (cell !== undefined && !until(load(machine, cpu, cell, -1), index)) return false;
    }
    return true;
  },
  touch: (_machine, cpu, { operand }, into) => {
    for (const cell of (operand as Wait).cells) touchLoad(cpu, into, cell, -1);
  },
  execute: (machine, cpu, { operand }) => {
    const { cells } = operand as Wait;
    const [cell] = cells;
    return cells.length === 1 && cell !== undefined ? load(machine, cpu, cell, -1) : undefined;
  },
});

/**
 * smp_cond_load_acquire: waits until `until` holds of the cell, and gives its value then. A guard:
 * the Op is not enabled before, so that no schedule contains the spinning.
 */
export const waitUntil = <T>(cell: Cell<T>, until: (value: T) => boolean): Op<T> =>
  new Op<T>(WAIT, null, -1, { cells: [cell], until: until as Wait['until'] } satisfies Wait);

const SPIN: OpKind = opKind({ ...WAIT, name: 'userSpin', userMode: true });

/** User code that does nothing but look at a variable until `until` holds of it. */
export const userSpin = <T>(cell: Cell<T>, until: (value: T) => boolean): Op<T> =>
  new Op<T>(SPIN, null, -1, { cells: [cell], until: until as Wait['until'] } satisfies Wait);

/** Waits until `until` holds of all `cells` at one moment: a grace period, for example. */
export const waitForAll = <T>(
  cells: readonly Cell<T>[],
  until: (value: T, index: number) => boolean,
): Op<void> =>
  new Op<void>(WAIT, null, -1, { cells, until: until as Wait['until'] } satisfies Wait);

/** A choice among `ways`; a driver may know it by `name`. */
export interface Choice {
  readonly name: string;
  readonly ways: number;
}

const CHOOSE: OpKind = opKind({
  name: 'choose',
  ready: always,
  ways: (_machine, _cpu, { operand }) => (operand as Choice).ways,
  touch: touchesNothing,
  execute: (_machine, _cpu, _op, way) => way,
});

/**
 * One of `ways` alternatives, 0 to `ways - 1`: an explorer tries all. `name` lets a driver decide.
 *
 * @throws UsageError ERR_COROUTINE when there is nothing to choose from.
 */
export function oneOf(name: string, ways: number): Op<number> {
  if (!Number.isInteger(ways) || ways < 1)
    throw new UsageError('ERR_COROUTINE', `'${name}' has ${ways} ways; a choice has at least one`);
  return new Op<number>(CHOOSE, null, -1, { name, ways } satisfies Choice);
}

const MAY_FAIL: OpKind = opKind({
  ...CHOOSE,
  name: 'mayFail',
  execute: (_m, _c, _o, way) => way === 0,
});

/** An allocation that may fail: true if it went well. An explorer tries both. */
export const mayFail = (name: string): Op<boolean> =>
  new Op<boolean>(MAY_FAIL, null, -1, { name, ways: 2 } satisfies Choice);

/** The choice that `op` is, if it is one. */
export const choiceOf = (op: Op): Choice | null =>
  op.kind === CHOOSE || op.kind === MAY_FAIL ? (op.operand as Choice) : null;

/** Leaves the running task where it is and goes on with `next`. */
function switchCpu(machine: Machine, cpu: Cpu, next: Task): void {
  const previous = cpu.task;
  if (next === previous) return advance(cpu, previous, HANDLER_END);
  for (const other of machine.cpus) {
    if (machine.audit !== null) machine.audit.read(other.cell(Hardware.task));
    if (other.task === next)
      throw new UsageError('ERR_COROUTINE', `task ${next.name} already runs on CPU ${other.id}`);
  }
  if (machine.audit !== null) machine.audit.write(cpu.cell(Hardware.task));
  previous.op = cpu.op;
  cpu.task = next;
  cpu.op = next.op;
  next.op = null;
  // Whoever was switched out waits in its own switchTo, which now gives the task it comes from.
  if (cpu.op !== null) advance(cpu, previous, HANDLER_END);
  else begin(cpu, HANDLER_END);
}

const SWITCH: OpKind = opKind({
  name: 'switchTo',
  ready: always,
  touch: (machine, cpu, _op, into) => {
    into.write(cpu.cell(Hardware.stack));
    into.write(cpu.cell(Hardware.task));
    for (const other of machine.cpus) into.read(other.cell(Hardware.task));
  },
  execute: (machine, cpu, { operand }) => {
    const next = operand as Task;
    if (cpu.task.contexts.some(({ kind }) => kind !== 'irq'))
      throw new UsageError('ERR_COROUTINE', 'switches tasks inside an NMI or the host');
    switchCpu(machine, cpu, next);
    return MOVED;
  },
});

/**
 * switch_to: swaps the whole stack for that of `next`. Ends when somebody switches back, and gives
 * the task that did. The interrupt flag is the CPU's and does not change.
 */
export const switchTo = (next: Task): Op<Task> => new Op<Task>(SWITCH, null, -1, next);

const COMPUTE: OpKind = opKind({
  name: 'compute',
  ready: always,
  touch: touchesNothing,
  execute: () => undefined,
});

const PARK: OpKind = opKind({ ...COMPUTE, name: 'vcpuPark' });

const lasting = (kind: OpKind, ns: number): Op<void> => {
  if (Number.isSafeInteger(ns) && ns >= 0) return new Op<void>(kind, null, -1, ns);
  throw new UsageError('ERR_COROUTINE', `${kind.name} lasts ${ns} ns; expected an integer from 0`);
};

/** Works for `ns` nanoseconds without touching anything others can see. Interruptible. */
export const compute = (ns: number): Op<void> => lasting(COMPUTE, ns);

/** How long `op` computes or parks, ns; null if it does something else. */
export const computesFor = (op: Op): number | null =>
  op.kind === COMPUTE || op.kind === PARK ? (op.operand as number) : null;

/** In the host's code: the time during which the vCPU does not run, between taking and giving. */
export const vcpuPark = (ns = 0): Op<void> => lasting(PARK, ns);

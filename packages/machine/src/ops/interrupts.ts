/**
 * The interrupt flag, sending interrupts, waiting for one, and returning from one.
 */
import { drained, touchDrained } from '../access.ts';
import type { CpuMask } from '../cpuMask.ts';
import { UsageError } from '../errors.ts';
import { Hardware } from '../footprint.ts';
import { checkVector, INTERRUPT_RETURN, type Wakeable } from '../interrupt.ts';
import { always, Op, type OpKind, opKind } from '../op.ts';

/** Writes the interrupt flag; gives what it was. */
const IRQ_FLAG: OpKind = opKind({
  name: 'irqFlag',
  ready: always,
  touch: (_machine, cpu, _op, into) => into.write(cpu.cell(Hardware.irqFlag)),
  execute: (_machine, cpu, { operand }) => {
    const was = cpu.irqsOn;
    cpu.irqsOn = operand as boolean;
    return was;
  },
});

const irqFlag = <T>(on: boolean): Op<T> => new Op<T>(IRQ_FLAG, null, -1, on);

/** local_irq_disable. */
export const localIrqDisable = (): Op => irqFlag(false);

/** local_irq_enable. What is pending is taken at the next boundary between instructions. */
export const localIrqEnable = (): Op => irqFlag(true);

/** local_irq_save: gives the flag to hand to `localIrqRestore`. */
export const localIrqSave = (): Op<boolean> => irqFlag(false);

/** local_irq_restore. */
export const localIrqRestore = (flag: boolean): Op => irqFlag(flag);

/** Whom an interrupt goes to, and which. */
interface Posting {
  readonly targets: CpuMask;
  readonly vector: number;
}

const SEND_IPI: OpKind = opKind({
  name: 'sendIpi',
  ready: (machine, cpu) => !machine.axioms.postingDrains || cpu.drained,
  touch: (machine, cpu, { operand }, into) => {
    if (machine.axioms.postingDrains) touchDrained(cpu, into);
    for (const target of (operand as Posting).targets)
      into.write(machine.cpu(target).cell(Hardware.pending));
  },
  execute: (machine, cpu, { operand }) => {
    const { targets, vector } = operand as Posting;
    machine.handler(vector);
    for (const target of targets) {
      machine.cpu(target).arrive(vector);
      machine.onPosted?.(cpu.id, target, vector);
    }
  },
});

/**
 * Sends `vector` to every CPU of `targets`, in one go as by a shorthand or a cluster write. A vector
 * that is pending already is not pending twice. Vector 2 is the NMI.
 *
 * @throws UsageError ERR_INTERRUPT for a vector that is none, or that nothing answers.
 */
export function sendIpi(targets: CpuMask, vector: number): Op<void> {
  checkVector(vector);
  return new Op<void>(SEND_IPI, null, -1, { targets, vector } satisfies Posting);
}

interface Timer {
  readonly vector: number;
  readonly ns: number;
}

const ARM_TIMER: OpKind = opKind({
  name: 'armTimer',
  ready: always,
  touch: (_machine, cpu, _op, into) => into.write(cpu.cell(Hardware.pending)),
  execute: (machine, cpu, { operand }) => {
    const { vector, ns } = operand as Timer;
    machine.handler(vector);
    cpu.arrive(vector);
    machine.onPosted?.(cpu.id, cpu.id, vector, ns);
  },
});

/**
 * Has this CPU's timer raise `vector` in `ns` nanoseconds. Without a clock that may be at any moment
 * from now on. If it is armed for that vector already, the earlier time holds.
 *
 * @throws UsageError ERR_INTERRUPT for a vector that is none, or that nothing answers.
 */
export function armTimer(vector: number, ns: number): Op<void> {
  checkVector(vector);
  if (!Number.isSafeInteger(ns) || ns < 0)
    throw new UsageError('ERR_COROUTINE', `a timer of ${ns} ns; expected an integer from 0`);
  return new Op<void>(ARM_TIMER, null, -1, { vector, ns } satisfies Timer);
}

/**
 * Returns from the interrupt or NMI at once; what the handler had still to do is not done. A handler
 * that ends returns by itself.
 *
 * @throws UsageError ERR_INTERRUPT when no interrupt was taken.
 */
export const iret = (): Op<never> => new Op<never>(INTERRUPT_RETURN, null, -1, null);

const HALT: OpKind = opKind({
  name: 'halt',
  ready: (_machine, _cpu, { operand }) => (operand as Wakeable).woken,
  touch: (_machine, cpu, _op, into) => into.read(cpu.cell(Hardware.stack)),
  execute: () => undefined,
});

/** HLT: waits until an interrupt has been taken and has returned. Enable interrupts before it. */
export const halt = (): Op<void> =>
  new Op<void>(HALT, null, -1, { woken: false } satisfies Wakeable);

const DRAIN_ALL: OpKind = opKind({
  name: 'serialize',
  ready: drained,
  touch: (_machine, cpu, _op, into) => touchDrained(cpu, into),
  execute: () => undefined,
});

/** A serializing instruction that does nothing else, CPUID say. */
export const serialize = (): Op<void> => new Op<void>(DRAIN_ALL, null, -1, null);

/**
 * Going into an interrupt, an NMI or the host, and coming back. The handler runs on the stack of
 * whatever it interrupts, shares its store buffer and excludes it: both are the same CPU.
 */
import { touchDrained } from './access.ts';
import { type Cpu, NMI_VECTOR } from './cpu.ts';
import { assert, UsageError } from './errors.ts';
import { Hardware } from './footprint.ts';
import { type Coroutine, MOVED, Op, type OpKind, opKind } from './op.ts';
import { type ContextKind, enter } from './stack.ts';

/** Whether `vector` is one. */
export const isVector = (vector: number): boolean =>
  Number.isInteger(vector) && vector >= 0 && vector <= 255;

/** Throws UsageError ERR_INTERRUPT unless `vector` is one. */
export function checkVector(vector: number): void {
  if (!isVector(vector))
    throw new UsageError('ERR_INTERRUPT', `a vector is an integer from 0 to 255, not ${vector}`);
}

/** Puts `body` on top of what `cpu` runs. Interrupts are off in an irq and in an NMI. */
export function enterContext(
  cpu: Cpu,
  kind: ContextKind,
  vector: number | null,
  body: Coroutine<unknown>,
): void {
  const { task } = cpu;
  task.contexts.push({ kind, vector, base: task.stack.length, op: cpu.op, irqsOn: cpu.irqsOn });
  if (kind !== 'host') cpu.irqsOn = false;
  if (vector === NMI_VECTOR) cpu.nmisMasked = true;
  enter(cpu, body, HANDLER_END);
}

/** An Op that an interrupt ends: the CPU goes on after it (`halt`). */
export interface Wakeable {
  woken: boolean;
}

function leaveContext(cpu: Cpu): void {
  const { task } = cpu;
  const context = task.contexts.pop();
  assert(context !== undefined, 'who leaves an interrupt is in one');
  task.stack.length = context.base;
  cpu.op = context.op;
}

/** IRET. Always ends the NMI mask, also when an interrupt inside an NMI returns. */
export const INTERRUPT_RETURN: OpKind = opKind({
  name: 'iret',
  ready: (machine, cpu) => !machine.axioms.returnDrains || cpu.drained,
  touch: (machine, cpu, _op, into) => {
    into.write(cpu.cell(Hardware.stack));
    into.write(cpu.cell(Hardware.irqFlag));
    into.write(cpu.cell(Hardware.nmiMask));
    if (machine.axioms.returnDrains) touchDrained(cpu, into);
  },
  execute: (_machine, cpu) => {
    const context = cpu.task.contexts.at(-1);
    if (context === undefined || context.kind === 'host')
      throw new UsageError('ERR_INTERRUPT', 'returns from an interrupt that was not taken');
    leaveContext(cpu);
    cpu.irqsOn = context.irqsOn;
    cpu.nmisMasked = false;
    const halted = cpu.op?.operand;
    if (isWakeable(halted)) halted.woken = true;
    return MOVED;
  },
});

const isWakeable = (operand: unknown): operand is Wakeable =>
  typeof operand === 'object' && operand !== null && 'woken' in operand;

/** VM entry: the host gives the vCPU back. Nothing but time has changed for it. */
const VM_ENTRY: OpKind = opKind({
  name: 'vmEntry',
  ready: () => true,
  touch: (_machine, cpu, _op, into) => {
    into.write(cpu.cell(Hardware.stack));
    into.write(cpu.cell(Hardware.running));
  },
  execute: (_machine, cpu) => {
    leaveContext(cpu);
    return MOVED;
  },
});

/** The Op that ends a handler whose coroutine has returned. */
export const HANDLER_END = (cpu: Cpu): Op =>
  new Op(cpu.task.contexts.at(-1)?.kind === 'host' ? VM_ENTRY : INTERRUPT_RETURN, null, -1, null);

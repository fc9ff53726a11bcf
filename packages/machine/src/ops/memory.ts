/**
 * Loads, stores and locked instructions. Names are the kernel's: `READ_ONCE` is `readOnce`. On x86
 * an acquire is a load and a release is a store; every read-modify-write is a full fence, and so are
 * the set and clear of a bit in a cpumask.
 *
 * Variables are cells; a page-table entry is a word at a physical address (`readWord` and so on).
 */
import {
  drained,
  load,
  readMemory,
  store,
  touchDrained,
  touchLoad,
  touchRead,
  touchStore,
  touchWrite,
  writeMemory,
} from '../access.ts';
import { bitId, type Cell } from '../cell.ts';
import type { CpuMask } from '../cpuMask.ts';
import { UsageError } from '../errors.ts';
import type { PhysAddr } from '../ids.ts';
import type { Machine } from '../machine.ts';
import { always, NOTHING, Op, type OpKind, opKind, touchesNothing } from '../op.ts';

/** The kind of a load; other kinds that load differ in name and cost only. */
export const LOAD: OpKind = opKind({
  name: 'load',
  ready: always,
  touch: (_machine, cpu, { cell, at }, into) => touchLoad(cpu, into, cell, at),
  execute: (machine, cpu, { cell, at }) => load(machine, cpu, cell, at),
});

/** The kind of a store. */
export const STORE: OpKind = opKind({
  name: 'store',
  ready: always,
  touch: (machine, cpu, { cell, at, operand }, into) =>
    touchStore(machine, cpu, into, cell, at, operand),
  execute: (machine, cpu, { cell, at, operand }) => store(machine, cpu, cell, at, operand),
});

type Update = (old: unknown) => unknown;

/**
 * A locked instruction. That changes nothing, as a failed cmpxchg, only reads: a reader of the cell
 * cannot tell.
 */
export const LOCKED: OpKind = opKind({
  name: 'locked',
  ready: drained,
  touch: (machine, cpu, { cell, at, operand }, into) => {
    touchDrained(cpu, into);
    touchRead(into, cell, at);
    const old = cell === null ? machine.physical.read(at) : cell.value;
    const value = (operand as Update)(old);
    if (value !== old) touchWrite(machine, into, cell, at, value);
  },
  execute: (machine, _cpu, { cell, at, operand }) => {
    const old = readMemory(machine, cell, at);
    const value = (operand as Update)(old);
    if (value !== old) writeMemory(machine, cell, at, value);
    return old;
  },
});

/** READ_ONCE. */
export const readOnce = <T>(cell: Cell<T>): Op<T> => new Op<T>(LOAD, cell, -1, null);

/** WRITE_ONCE. */
export const writeOnce = <T>(cell: Cell<T>, value: NoInfer<T>): Op<void> =>
  new Op<void>(STORE, cell, -1, value);

/** smp_load_acquire: on x86 a load. */
export const smpLoadAcquire: typeof readOnce = readOnce;

/** smp_store_release: on x86 a store. */
export const smpStoreRelease: typeof writeOnce = writeOnce;

/** One locked read-modify-write by a pure function of the old value; gives the old value. */
export const atomicUpdate = <T>(cell: Cell<T>, update: (old: T) => NoInfer<T>): Op<T> =>
  new Op<T>(LOCKED, cell, -1, update);

/** xchg: gives the old value. */
export const xchg = <T>(cell: Cell<T>, value: NoInfer<T>): Op<T> => atomicUpdate(cell, () => value);

/** cmpxchg: stores `value` if the cell holds `old`; gives what it held. */
export const cmpxchg = <T>(cell: Cell<T>, old: NoInfer<T>, value: NoInfer<T>): Op<T> =>
  atomicUpdate(cell, (now) => (now === old ? value : now));

/** atomic_fetch_add: gives the old value. */
export const atomicFetchAdd = (cell: Cell<number>, amount: number): Op<number> =>
  atomicUpdate(cell, (old) => old + amount);

interface Acquisition {
  readonly free: (value: unknown) => boolean;
  readonly update: Update;
}

/** A locked instruction that waits for its moment: taking a lock, without the spinning. */
const ACQUIRE: OpKind = opKind({
  name: 'acquire',
  awaits: ({ cell }) => (cell === null ? [] : [cell]),
  ready: (machine, cpu, { cell, at, operand }) =>
    cpu.drained && (operand as Acquisition).free(readMemory(machine, cell, at)),
  touch: (machine, cpu, { cell, at, operand }, into) => {
    touchDrained(cpu, into);
    touchRead(into, cell, at);
    touchWrite(machine, into, cell, at, (operand as Acquisition).update(cell?.value));
  },
  execute: (machine, _cpu, { cell, at, operand }) => {
    const old = readMemory(machine, cell, at);
    writeMemory(machine, cell, at, (operand as Acquisition).update(old));
    return old;
  },
});

/**
 * Waits until `free` holds of the cell and stores `update` of its value in the same instant, as a
 * locked instruction does that is tried until it succeeds; gives the old value. A guard, as
 * `waitUntil`: no schedule contains the tries in vain.
 */
export const atomicWhen = <T>(
  cell: Cell<T>,
  free: (value: T) => boolean,
  update: (old: T) => NoInfer<T>,
): Op<T> =>
  new Op<T>(ACQUIRE, cell, -1, {
    free: free as Acquisition['free'],
    update: update as Update,
  } satisfies Acquisition);

/** READ_ONCE of a word of memory, a page-table entry say. */
export const readWord = (at: PhysAddr): Op<number> => new Op<number>(LOAD, null, at, null);

/** WRITE_ONCE of a word of memory. */
export const writeWord = (at: PhysAddr, value: number): Op<void> =>
  new Op<void>(STORE, null, at, value);

/** One locked read-modify-write of a word of memory; gives the old value. */
export const updateWord = (at: PhysAddr, update: (old: number) => number): Op<number> =>
  new Op<number>(LOCKED, null, at, update);

/** xchg of a word of memory, as for `ptep_get_and_clear`. */
export const xchgWord = (at: PhysAddr, value: number): Op<number> => updateWord(at, () => value);

/** cmpxchg of a word of memory; gives what it held. */
export const cmpxchgWord = (at: PhysAddr, old: number, value: number): Op<number> =>
  updateWord(at, (now) => (now === old ? value : now));

const FENCE: OpKind = opKind({
  name: 'fence',
  ready: drained,
  touch: (_machine, cpu, _op, into) => touchDrained(cpu, into),
  execute: () => undefined,
});

/** smp_mb: earlier stores are in memory before anything later. */
export const smpMb = (): Op<void> => new Op<void>(FENCE, null, -1, null);

/** smp_rmb emits nothing on x86: loads are in order anyway. It orders no store. */
export const smpRmb = (): Iterable<Op, void, unknown> => NOTHING;

/** smp_wmb emits nothing on x86: stores are in order anyway. */
export const smpWmb = (): Iterable<Op, void, unknown> => NOTHING;

const bits = (cell: Cell | null): Cell<CpuMask> => cell as Cell<CpuMask>;

function changeBit(machine: Machine, cell: Cell | null, bit: number, on: boolean): boolean {
  const mask = bits(cell);
  const was = mask.value.has(bit);
  if (was === on) return was;
  if (machine.audit !== null) machine.audit.write(bitId(mask, bit));
  if (on) mask.value.set(bit);
  else mask.value.clear(bit);
  if (mask.waiters !== null && mask.waiters.size > 0) machine.wake(mask.waiters);
  return was;
}

/** Sets or clears a bit; `read`: and says what it was, which makes it conflict with any other. */
const changesBit = (name: string, on: boolean, read: boolean): OpKind =>
  opKind({
    name,
    ready: drained,
    touch: (_machine, cpu, { cell, operand }, into) => {
      touchDrained(cpu, into);
      const mask = bits(cell);
      if (read) into.read(bitId(mask, operand as number));
      if (!read || mask.value.has(operand as number) !== on)
        into.write(bitId(mask, operand as number));
    },
    execute: (machine, _cpu, { cell, operand }) => {
      if (read && machine.audit !== null) machine.audit.read(bitId(bits(cell), operand as number));
      const was = changeBit(machine, cell, operand as number, on);
      return read ? was : undefined;
    },
  });

const SET_BIT = changesBit('setBit', true, false);
const CLEAR_BIT = changesBit('clearBit', false, false);
const TEST_AND_SET_BIT = changesBit('testAndSetBit', true, true);
const TEST_AND_CLEAR_BIT = changesBit('testAndClearBit', false, true);

const TEST_BIT: OpKind = opKind({
  name: 'testBit',
  ready: always,
  touch: (_machine, _cpu, { cell, operand }, into) =>
    into.read(bitId(bits(cell), operand as number)),
  execute: (machine, _cpu, { cell, operand }) => {
    if (machine.audit !== null) machine.audit.read(bitId(bits(cell), operand as number));
    return bits(cell).value.has(operand as number);
  },
});

const READ_MASK: OpKind = opKind({
  name: 'readMask',
  ready: always,
  touch: (_machine, _cpu, { cell }, into) => touchRead(into, cell, -1),
  execute: (machine, _cpu, { cell }) => readMemory(machine, cell, -1),
});

function maskOp<T>(kind: OpKind, mask: Cell<CpuMask>, bit: number): Op<T> {
  if (!(bit >= 0 && bit < mask.bits))
    throw new UsageError('ERR_CPU_RANGE', `${mask.name} has no bit ${bit}, but ${mask.bits} bits`);
  return new Op<T>(kind, mask, -1, bit);
}

/** cpumask_set_cpu. */
export const setBit = (mask: Cell<CpuMask>, bit: number): Op<void> => maskOp(SET_BIT, mask, bit);

/** cpumask_clear_cpu. */
export const clearBit = (mask: Cell<CpuMask>, bit: number): Op<void> =>
  maskOp(CLEAR_BIT, mask, bit);

/** cpumask_test_and_set_cpu: gives what the bit was. */
export const testAndSetBit = (mask: Cell<CpuMask>, bit: number): Op<boolean> =>
  maskOp(TEST_AND_SET_BIT, mask, bit);

/** cpumask_test_and_clear_cpu: gives what the bit was. */
export const testAndClearBit = (mask: Cell<CpuMask>, bit: number): Op<boolean> =>
  maskOp(TEST_AND_CLEAR_BIT, mask, bit);

/** cpumask_test_cpu. */
export const testBit = (mask: Cell<CpuMask>, bit: number): Op<boolean> =>
  maskOp(TEST_BIT, mask, bit);

/** cpumask_copy. Not modelled: that hardware reads 64 CPUs at a time. */
export const readMask = (mask: Cell<CpuMask>): Op<CpuMask> => maskOp(READ_MASK, mask, 0);

/** Does nothing: a place for an interrupt between two instructions. */
export const nop = (): Op<void> => new Op<void>(NOP, null, -1, null);

const NOP: OpKind = opKind({
  name: 'nop',
  ready: always,
  touch: touchesNothing,
  execute: () => undefined,
});

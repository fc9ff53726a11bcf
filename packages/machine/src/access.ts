/**
 * How Ops reach memory: a CPU's own view through its store buffer, and memory itself. A location is
 * a named cell, or, when `cell` is null, the word at physical address `at`.
 *
 * Every function that touches has its twin that declares, next to it, so that they stay one.
 */
import type { Cell } from './cell.ts';
import type { Cpu } from './cpu.ts';
import { type Footprint, frameId, Hardware, storeId, wordId } from './footprint.ts';
import type { Machine } from './machine.ts';
import { PAGE_SIZE } from './memory.ts';

const idOf = (cell: Cell | null, at: number): number => (cell === null ? wordId(at) : cell.id);

/** What memory holds. */
export function readMemory(machine: Machine, cell: Cell | null, at: number): unknown {
  if (machine.audit !== null) machine.audit.read(idOf(cell, at));
  return cell === null ? machine.physical.read(at) : cell.value;
}

/** Declares `readMemory`. */
export function touchRead(into: Footprint, cell: Cell | null, at: number): void {
  into.read(idOf(cell, at));
}

/** Changes memory, for every CPU to see, and what hardware might cache with it. */
export function writeMemory(machine: Machine, cell: Cell | null, at: number, value: unknown): void {
  if (cell === null) {
    if (machine.audit !== null) {
      machine.audit.write(wordId(at));
      machine.audit.write(frameId(Math.floor(at / PAGE_SIZE)));
    }
    machine.physical.write(at, value as number);
    if (machine.speculative)
      for (const cpu of machine.cpus) cpu.tlb.wordChanged(at, value as number);
    return;
  }
  if (machine.audit !== null) machine.audit.write(cell.id);
  cell.value = value;
  if (cell.waiters !== null) machine.wake(cell.waiters);
}

/**
 * Declares `writeMemory`. A page-table word is also in the may-cached set of every CPU whose walker
 * may pass its table: without that, a store and an INVLPG elsewhere would seem to commute.
 */
export function touchWrite(
  machine: Machine,
  into: Footprint,
  cell: Cell | null,
  at: number,
): void {
  into.write(idOf(cell, at));
  if (cell !== null) return;
  const frame = Math.floor(at / PAGE_SIZE);
  into.write(frameId(frame));
  if (!machine.speculative) return;
  for (const cpu of machine.cpus)
    if (cpu.tlb.walksThrough(frame)) into.write(cpu.cell(Hardware.tlb));
}

/** What `cpu` sees: its own newest store that is still on its way, or else memory. */
export function load(machine: Machine, cpu: Cpu, cell: Cell | null, at: number): unknown {
  if (!cpu.buffer.empty) {
    const own = cpu.buffer.newest(cell, at);
    if (own !== null) {
      if (machine.audit !== null) machine.audit.read(storeId(machine.count, cpu.id, own.ordinal));
      return own.value;
    }
  }
  return readMemory(machine, cell, at);
}

/** Declares `load`. */
export function touchLoad(
  machine: Machine,
  cpu: Cpu,
  into: Footprint,
  cell: Cell | null,
  at: number,
): void {
  const own = cpu.buffer.newest(cell, at);
  if (own === null) touchRead(into, cell, at);
  else into.read(storeId(machine.count, cpu.id, own.ordinal));
}

/** A store: into the store buffer, or under sequential consistency into memory. */
export function store(
  machine: Machine,
  cpu: Cpu,
  cell: Cell | null,
  at: number,
  value: unknown,
): void {
  if (machine.model === 'sc') return writeMemory(machine, cell, at, value);
  if (cell === null) machine.physical.check(at);
  if (machine.audit !== null) machine.audit.write(storeId(machine.count, cpu.id, cpu.buffer.count));
  cpu.buffer.push(cell, at, value);
}

/** Declares `store`. */
export function touchStore(
  machine: Machine,
  cpu: Cpu,
  into: Footprint,
  cell: Cell | null,
  at: number,
): void {
  if (machine.model === 'sc') touchWrite(machine, into, cell, at);
  else into.write(storeId(machine.count, cpu.id, cpu.buffer.count));
}

/** The oldest store of `cpu` reaches memory. */
export function drain(machine: Machine, cpu: Cpu): void {
  const { cell, at, value, ordinal } = cpu.buffer.shift();
  if (machine.audit !== null) {
    machine.audit.write(storeId(machine.count, cpu.id, ordinal));
    if (cpu.buffer.empty) machine.audit.write(cpu.cell(Hardware.bufferEmpty));
  }
  writeMemory(machine, cell, at, value);
}

/** Declares `drain`. */
export function touchDrain(machine: Machine, cpu: Cpu, into: Footprint): void {
  const { cell, at, ordinal } = cpu.buffer.oldest;
  into.write(storeId(machine.count, cpu.id, ordinal));
  if (cpu.buffer.length === 1) into.write(cpu.cell(Hardware.bufferEmpty));
  touchWrite(machine, into, cell, at);
}

/** Whether a locked instruction or a fence of `cpu` may run: its stores are in memory. */
export const drained = (_machine: Machine, cpu: Cpu): boolean => cpu.drained;

/** Declares `drained`. */
export const touchDrained = (cpu: Cpu, into: Footprint): void =>
  into.read(cpu.cell(Hardware.bufferEmpty));

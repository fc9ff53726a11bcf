/**
 * How Ops reach memory: a CPU's own view through its store buffer, and memory itself. A location is
 * a named cell, or, when `cell` is null, the word at physical address `at`.
 *
 * Every function that touches has its twin that declares, next to it, so that they stay one.
 *
 * A mask cell may also be read, written and waited for as a whole: that touches every bit, and
 * hands out a copy, since its bits change in place.
 */
import { bitId, type Cell } from './cell.ts';
import type { Cpu } from './cpu.ts';
import type { CpuMask } from './cpuMask.ts';
import { type Footprint, frameId, storeId, wordId } from './footprint.ts';
import type { Machine } from './machine.ts';
import { PAGE_SIZE } from './memory.ts';

/** What notes ids: a footprint, or the audit that compares with one. */
interface Notes {
  read(id: number): void;
  write(id: number): void;
}

function noteRead(into: Notes, cell: Cell | null, at: number): void {
  if (cell === null) into.read(wordId(at));
  else if (cell.bits === 0) into.read(cell.id);
  else for (let bit = 0; bit < cell.bits; bit++) into.read(bitId(cell, bit));
}

function noteWrite(into: Notes, cell: Cell | null, at: number): void {
  if (cell === null) into.write(wordId(at));
  else if (cell.bits === 0) into.write(cell.id);
  else for (let bit = 0; bit < cell.bits; bit++) into.write(bitId(cell, bit));
}

const maskOf = (mask: unknown): CpuMask => (mask as CpuMask).copy();

/** What memory holds. */
export function readMemory(machine: Machine, cell: Cell | null, at: number): unknown {
  if (machine.audit !== null) noteRead(machine.audit, cell, at);
  if (cell === null) return machine.physical.read(at);
  return cell.bits === 0 ? cell.value : maskOf(cell.value);
}

/** Declares `readMemory`. */
export function touchRead(into: Footprint, cell: Cell | null, at: number): void {
  noteRead(into, cell, at);
}

/** Changes memory, for every CPU to see, and what hardware might cache with it. */
export function writeMemory(machine: Machine, cell: Cell | null, at: number, value: unknown): void {
  if (machine.audit !== null) noteWrite(machine.audit, cell, at);
  if (cell === null) {
    machine.physical.write(at, value as number);
    if (!machine.speculative) return;
    if (machine.audit !== null) machine.audit.write(frameId(Math.floor(at / PAGE_SIZE)));
    for (const cpu of machine.cpus) cpu.tlb.wordChanged(at, value as number);
    return;
  }
  cell.value = cell.bits === 0 ? value : maskOf(value);
  if (cell.waiters !== null && cell.waiters.size > 0) machine.wake(cell.waiters);
}

/**
 * Declares `writeMemory`. A word of a page table is also in the may-cached set of every CPU whose
 * walker may pass that table: without that, a store and an INVLPG elsewhere would seem to commute.
 * Who walks reads whole frames, since any word of them may be an entry.
 */
export function touchWrite(
  machine: Machine,
  into: Footprint,
  cell: Cell | null,
  at: number,
  value: unknown,
): void {
  noteWrite(into, cell, at);
  if (cell !== null || !machine.speculative) return;
  into.write(frameId(Math.floor(at / PAGE_SIZE)));
  for (const cpu of machine.cpus) cpu.tlb.touchWord(at, value as number, into);
}

/** What `cpu` sees: its own newest store that is still on its way, or else memory. */
export function load(machine: Machine, cpu: Cpu, cell: Cell | null, at: number): unknown {
  if (!cpu.buffer.empty) {
    const own = cpu.buffer.newest(cell, at);
    if (own !== null) {
      if (machine.audit !== null) machine.audit.read(storeId(cpu.id, own.ordinal));
      return own.value;
    }
  }
  return readMemory(machine, cell, at);
}

/** Declares `load`. */
export function touchLoad(cpu: Cpu, into: Footprint, cell: Cell | null, at: number): void {
  const own = cpu.buffer.newest(cell, at);
  if (own === null) touchRead(into, cell, at);
  else into.read(storeId(cpu.id, own.ordinal));
}

/**
 * A store: into the store buffer, or under sequential consistency into memory. `translated`:
 * it went through a translation.
 */
export function store(
  machine: Machine,
  cpu: Cpu,
  cell: Cell | null,
  at: number,
  value: unknown,
  translated = false,
): void {
  if (machine.model === 'sc') return writeMemory(machine, cell, at, value);
  if (cell === null) machine.physical.check(at);
  if (machine.audit !== null) machine.audit.write(storeId(cpu.id, cpu.buffer.count));
  cpu.buffer.push(cell, at, cell === null || cell.bits === 0 ? value : maskOf(value), translated);
}

/** Declares `store`. */
export function touchStore(
  machine: Machine,
  cpu: Cpu,
  into: Footprint,
  cell: Cell | null,
  at: number,
  value: unknown,
): void {
  if (machine.model === 'sc') touchWrite(machine, into, cell, at, value);
  else into.write(storeId(cpu.id, cpu.buffer.count));
}

/** The oldest store of `cpu` reaches memory. */
export function drain(machine: Machine, cpu: Cpu): void {
  const { cell, at, value, ordinal } = cpu.buffer.shift();
  if (machine.audit !== null) machine.audit.write(storeId(cpu.id, ordinal));
  writeMemory(machine, cell, at, value);
}

/** Declares `drain`. */
export function touchDrain(machine: Machine, cpu: Cpu, into: Footprint): void {
  const { cell, at, value, ordinal } = cpu.buffer.oldest;
  into.write(storeId(cpu.id, ordinal));
  touchWrite(machine, into, cell, at, value);
}

/** Whether a locked instruction or a fence of `cpu` may run: its stores are in memory. */
export const drained = (_machine: Machine, cpu: Cpu): boolean => cpu.drained;

/** Declares `drained`: the drain of the newest store makes it so, and the next store ends it. */
export function touchDrained({ id, buffer }: Cpu, into: Footprint): void {
  if (buffer.count > 0) into.read(storeId(id, buffer.count - 1));
  into.read(storeId(id, buffer.count));
}

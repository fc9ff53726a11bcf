/**
 * A set of CPUs, as the kernel's struct cpumask. A plain value: what several CPUs change is a cell
 * that holds one, whose bits are cells of their own (cell.ts), so that CPUs that set their own bits
 * do not conflict.
 */
import { formatCpuList } from './cpuList.ts';
import { UsageError } from './errors.ts';
import type { CpuId } from './ids.ts';

/** A set of CPUs. */
export class CpuMask implements Iterable<CpuId> {
  private words: Uint32Array;

  /** Room for `cpus` CPUs; `members` are in it. */
  constructor(cpus: number, members: Iterable<number> = []) {
    this.words = new Uint32Array(Math.ceil(cpus / 32));
    for (const cpu of members) this.set(cpu);
  }

  has(cpu: number): boolean {
    return ((this.words[cpu >>> 5] ?? 0) & (1 << (cpu & 31))) !== 0;
  }

  /** @throws UsageError ERR_CPU_RANGE when there is no room for it. */
  set(cpu: number): void {
    if (cpu >>> 5 >= this.words.length)
      throw new UsageError(
        'ERR_CPU_RANGE',
        `no room for CPU ${cpu} in a mask of ${32 * this.words.length}: make it for every CPU`,
      );
    this.words[cpu >>> 5] = (this.words[cpu >>> 5] ?? 0) | (1 << (cpu & 31));
  }

  clear(cpu: number): void {
    this.words[cpu >>> 5] = (this.words[cpu >>> 5] ?? 0) & ~(1 << (cpu & 31));
  }

  /** How many CPUs are in it. */
  get weight(): number {
    let weight = 0;
    for (let word of this.words) for (; word !== 0; word &= word - 1) weight++;
    return weight;
  }

  get empty(): boolean {
    return this.words.every((word) => word === 0);
  }

  /** A mask of its own with the same members. */
  copy(): CpuMask {
    const copy = new CpuMask(0);
    copy.words = this.words.slice();
    return copy;
  }

  /** The first member that is not below `from`; -1 if there is none. */
  next(from: number): number {
    let index = from >>> 5;
    let word = (this.words[index] ?? 0) & (-1 << (from & 31));
    while (word === 0) {
      if (++index >= this.words.length) return -1;
      word = this.words[index] ?? 0;
    }
    return index * 32 + 31 - Math.clz32(word & -word);
  }

  /** The members, ascending. */
  members(): readonly CpuId[] {
    const members: CpuId[] = [];
    for (let cpu = this.next(0); cpu !== -1; cpu = this.next(cpu + 1)) members.push(cpu as CpuId);
    return members;
  }

  /** Ascending. */
  [Symbol.iterator](): Iterator<CpuId> {
    return this.members()[Symbol.iterator]();
  }

  /** As a cpu list. */
  toString(): string {
    return formatCpuList(this);
  }
}

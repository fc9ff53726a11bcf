/**
 * What a transition touches, as numbers. Two transitions of different CPUs may be swapped if
 * neither writes what the other reads or writes; a driver that explores all schedules rests on
 * that, so a footprint must be complete (audit.ts compares, Op by Op) and should be exact.
 *
 * A number names the same thing in every interleaving: nothing here depends on the order in which
 * CPUs got to run. That is why cells made while code runs are numbered per CPU (cell.ts).
 */
import { MAX_CPUS } from './cpuList.ts';

/** Per-CPU hardware state that transitions read and write, as cells of its own. */
export const Hardware = {
  /** The interrupt flag. */
  irqFlag: 0,
  /** Whether NMIs are held off until the running one returns. */
  nmiMask: 1,
  /** Vectors that have arrived and were not taken. */
  pending: 2,
  /** Whether the host lets the vCPU run. */
  running: 3,
  /** Which task it runs. */
  task: 4,
  /** What the TLB and the paging-structure caches hold or may hold. */
  tlb: 5,
  /** The root of the page table (CR3). */
  root: 6,
  /** The order in which broadcast invalidations arrive at it. */
  inbox: 7,
  /** What the CPU executes next: its stack. */
  stack: 8,
} as const;

/** One of `Hardware`. */
export type HardwareCell = (typeof Hardware)[keyof typeof Hardware];

const HARDWARE = 16;

// Ranges of ids, each far larger than what any machine uses of it.
const NAMED = 2 ** 17;
const DYNAMIC = 2 ** 32;
const STORES = 2 ** 40;
const FRAMES = 2 ** 45;
const WORDS = 2 ** 46;
const POSTED = 2 ** 47;

/** The id of hardware state `which` of CPU number `cpu`. */
export const hardwareId = (cpu: number, which: HardwareCell): number => cpu * HARDWARE + which;

/** The id of the `ordinal`-th cell made before any code ran. */
export const namedId = (ordinal: number): number => NAMED + ordinal;

/** The id of the `ordinal`-th cell that code on `cpu` made. */
export const dynamicId = (cpus: number, cpu: number, ordinal: number): number =>
  DYNAMIC + ordinal * cpus + cpu;

/**
 * The id of the `ordinal`-th store of `cpu` while it is buffered. The store writes it, its drain
 * writes it, and a load that forwards from it reads it: so a drain is after its store, and a
 * forwarded load differs from one after the drain. Whatever needs an empty store buffer reads it
 * too (access.ts, `touchDrained`).
 */
export const storeId = (cpu: number, ordinal: number): number => STORES + ordinal * MAX_CPUS + cpu;

/** The id of page frame `frame` as a whole: every store into it writes this too. */
export const frameId = (frame: number): number => FRAMES + frame;

/** The id of the word at physical address `at`. */
export const wordId = (at: number): number => WORDS + at / 8;

/**
 * The id of the `ordinal`-th invalidation that CPU `from` broadcasts, on its way to CPU `to`. The
 * broadcast writes it, applying it there writes it, and waiting for the last one reads it.
 */
export const postedId = (from: number, to: number, ordinal: number): number =>
  POSTED + (ordinal * MAX_CPUS + from) * MAX_CPUS + to;

/** Says in words what `id` is; a cell's own name is known to the machine only. */
export function describeId(id: number, cpus: number): string {
  if (id >= POSTED) {
    const [ordinal, pair] = [
      Math.floor((id - POSTED) / MAX_CPUS ** 2),
      (id - POSTED) % MAX_CPUS ** 2,
    ];
    const [from, to] = [Math.floor(pair / MAX_CPUS), pair % MAX_CPUS];
    return `invalidation ${ordinal} of CPU ${from} for CPU ${to}`;
  }
  if (id >= WORDS) return `word 0x${((id - WORDS) * 8).toString(16)}`;
  if (id >= FRAMES) return `frame 0x${(id - FRAMES).toString(16)}`;
  if (id >= STORES)
    return `store ${Math.floor((id - STORES) / MAX_CPUS)} of CPU ${(id - STORES) % MAX_CPUS}`;
  if (id >= DYNAMIC)
    return `cell ${Math.floor((id - DYNAMIC) / cpus)} of CPU ${(id - DYNAMIC) % cpus}`;
  if (id >= NAMED) return `cell ${id - NAMED}`;
  const name = Object.entries(Hardware).find(([, which]) => which === id % HARDWARE)?.[0];
  return `${name ?? 'unknown state'} of CPU ${Math.floor(id / HARDWARE)}`;
}

/** Reads and writes of one transition. Reused: `clear` it before asking again. */
export class Footprint {
  readonly reads: number[] = [];
  readonly writes: number[] = [];

  clear(): void {
    this.reads.length = 0;
    this.writes.length = 0;
  }

  read(id: number): void {
    this.reads.push(id);
  }

  write(id: number): void {
    this.writes.push(id);
  }

  /** Whether the two may not be swapped. */
  conflicts(other: Footprint): boolean {
    const hits = (ids: readonly number[], others: readonly number[]): boolean =>
      ids.some((id) => others.includes(id));
    return (
      hits(this.writes, other.writes) ||
      hits(this.writes, other.reads) ||
      hits(this.reads, other.writes)
    );
  }
}

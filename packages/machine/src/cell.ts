/**
 * A cell is a location of memory that has a name: a per-CPU variable, a field of an mm, a lock. The
 * other locations are words of page frames (memory.ts). Kernel code hands cells around as C hands
 * pointers to variables around.
 */
import { dynamicId, namedId } from './footprint.ts';

/** A named location that holds a T. Read and write it by Ops, not by `value`. */
export class Cell<out T = unknown> {
  /** In footprints; of a mask cell, the id of bit 0. */
  readonly id: number;
  /** What it is called in messages: `mm.tlb_gen`, `active_lockless_pt_walk_mm[3]`. */
  readonly name: string;
  /** From the id of one bit to the next; 0 unless it is a mask cell. */
  readonly stride: number;
  /** How many bits a mask cell has; 0 for the others. */
  readonly bits: number;
  /** What memory holds. A CPU may see something newer of its own, in its store buffer. */
  value: T;
  /** CPUs that wait for it to change; kept by a driver. */
  waiters: Set<number> | null = null;
  /** The CPU that had its cache line last, -1 if none; kept by a driver that charges for lines. */
  toucher = -1;

  constructor(place: CellPlace, name: string, value: T, bits: number) {
    this.id = place.id;
    this.stride = bits === 0 ? 0 : place.stride;
    this.name = name;
    this.value = value;
    this.bits = bits;
  }
}

/** Ids of a new cell. */
export interface CellPlace {
  readonly id: number;
  readonly stride: number;
}

/** The id of bit `bit` of a mask cell. */
export const bitId = (mask: Cell, bit: number): number => mask.id + bit * mask.stride;

/**
 * Numbers cells. Before any code has run the order is the scenario's, always the same. Afterwards
 * it would depend on the schedule, so each CPU counts its own: the n-th cell that CPU 3 makes has
 * one id in every interleaving.
 */
export class CellNumbers {
  private readonly cpus: number;
  private named = 0;
  private readonly dynamic: number[] = [];

  constructor(cpus: number) {
    this.cpus = cpus;
  }

  /** Ids for a cell of `width` bits or 1 word, made by code on `cpu`, or by nobody yet. */
  next(cpu: number | null, width: number): CellPlace {
    if (cpu === null) {
      const id = namedId(this.named);
      this.named += width;
      return { id, stride: 1 };
    }
    const ordinal = this.dynamic[cpu] ?? 0;
    this.dynamic[cpu] = ordinal + width;
    return { id: dynamicId(this.cpus, cpu, ordinal), stride: this.cpus };
  }
}

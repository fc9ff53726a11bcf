/**
 * The streams that stand on a record, earliest first. Ties go to the stream that was given first:
 * the main buffer before others, low CPUs before high ones, which is the order in which trace-cmd
 * report prints them. A binary heap, for the earliest stream moves on by a little and mostly stays
 * first.
 */
import type { CpuStream } from './cpuStream.ts';

/** A stream and its rank among equals. */
interface Entry {
  readonly stream: CpuStream;
  readonly rank: number;
}

/** A heap of streams. */
export class MergeHeap {
  readonly #heap: Entry[] = [];

  /** The stream with the earliest record, or undefined when all have ended. */
  get first(): CpuStream | undefined {
    return this.#heap[0]?.stream;
  }

  /** Adds a stream that stands on a record. */
  add(stream: CpuStream, rank: number): void {
    const heap = this.#heap;
    const entry = { stream, rank };
    let hole = heap.length;
    heap.push(entry);
    while (hole > 0) {
      const parent = (hole - 1) >>> 1;
      const above = heap[parent] as Entry;
      if (!before(entry, above)) break;
      heap[hole] = above;
      hole = parent;
    }
    heap[hole] = entry;
  }

  /** The first stream has moved to a later record. */
  settle(): void {
    const heap = this.#heap;
    const entry = heap[0];
    if (entry === undefined) return;
    let hole = 0;
    for (let child = 1; child < heap.length; child = 2 * hole + 1) {
      const right = heap[child + 1];
      if (right !== undefined && before(right, heap[child] as Entry)) child++;
      const below = heap[child] as Entry;
      if (!before(below, entry)) break;
      heap[hole] = below;
      hole = child;
    }
    heap[hole] = entry;
  }

  /** The first stream has ended. */
  drop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.settle();
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.stream.time < b.stream.time || (a.stream.time === b.stream.time && a.rank < b.rank);
}

/**
 * Byte strings to values, each made once. A trace names the same few hundred tasks, events and
 * symbols millions of times; turning each occurrence into a JavaScript string costs more than all
 * the rest of a line. Open addressing over stored copies: equal hashes are compared byte by byte.
 * Both go four bytes at a time, which is what the views are for.
 */
import { at } from './bytes.ts';

/**
 * Past this many distinct values, or bytes of them, (no real trace has them) the table starts over, so that a hostile
 * input cannot fill memory.
 */
const MAX_VALUES = 1 << 18;
const MAX_BYTES = 1 << 24;

/** A table from byte strings to values. */
export class Interner<T> {
  readonly #make: (text: string) => T;
  #slots: Int32Array = new Int32Array(1024).fill(-1);
  #hashes: number[] = [];
  #starts: number[] = [0];
  #values: T[] = [];
  #pool: Uint8Array = new Uint8Array(1 << 14);
  #poolView: DataView = viewOf(this.#pool);
  #bytes: Uint8Array = this.#pool;
  #view: DataView = this.#poolView;

  /** @param make - called once per distinct byte string, with its text (UTF-8). */
  constructor(make: (text: string) => T) {
    this.#make = make;
  }

  /** The value of `bytes[start..end)`. */
  get(bytes: Uint8Array, start: number, end: number): T {
    // Thousands of look-ups per block of lines: one view each.
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#view = viewOf(bytes);
    }
    const view = this.#view;
    let hash = end - start;
    let i = start;
    for (; i + 4 <= end; i += 4) {
      hash = Math.imul(hash ^ view.getUint32(i, true), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    for (; i < end; i++) hash = Math.imul(hash ^ at(bytes, i), 0x01000193);
    hash ^= hash >>> 13;
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const index = this.#slots[slot] as number;
      if (index === -1) return this.#add(bytes, start, end, hash);
      if (this.#hashes[index] === hash && this.#same(index, bytes, start, end))
        return this.#values[index] as T;
    }
  }

  #same(index: number, bytes: Uint8Array, start: number, end: number): boolean {
    const from = this.#starts[index] as number;
    if ((this.#starts[index + 1] as number) - from !== end - start) return false;
    const view = this.#view;
    const poolView = this.#poolView;
    let i = start;
    let j = from;
    for (; i + 4 <= end; i += 4, j += 4)
      if (view.getUint32(i, true) !== poolView.getUint32(j, true)) return false;
    for (; i < end; i++, j++) if (at(bytes, i) !== at(this.#pool, j)) return false;
    return true;
  }

  #add(bytes: Uint8Array, start: number, end: number, hash: number): T {
    const used = this.#starts[this.#values.length] as number;
    if (this.#values.length >= MAX_VALUES || used + end - start > MAX_BYTES) this.#clear();
    if ((this.#values.length + 1) * 2 > this.#slots.length) this.#grow();
    const from = this.#starts[this.#values.length] as number;
    const to = from + end - start;
    if (to > this.#pool.length) {
      const pool = new Uint8Array(Math.max(to, this.#pool.length * 2));
      pool.set(this.#pool.subarray(0, from));
      this.#pool = pool;
      this.#poolView = viewOf(pool);
    }
    this.#pool.set(bytes.subarray(start, end), from);
    const value = this.#make(UTF8.decode(bytes.subarray(start, end)));
    this.#place(hash, this.#values.length);
    this.#hashes.push(hash);
    this.#starts.push(to);
    this.#values.push(value);
    return value;
  }

  #place(hash: number, index: number): void {
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    while (this.#slots[slot] !== -1) slot = (slot + 1) & mask;
    this.#slots[slot] = index;
  }

  #grow(): void {
    this.#slots = new Int32Array(this.#slots.length * 2).fill(-1);
    for (const [index, hash] of this.#hashes.entries()) this.#place(hash, index);
  }

  #clear(): void {
    this.#slots = new Int32Array(1024).fill(-1);
    this.#hashes = [];
    this.#starts = [0];
    this.#values = [];
    this.#pool = new Uint8Array(1 << 14);
    this.#poolView = viewOf(this.#pool);
  }
}

const UTF8 = new TextDecoder();

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

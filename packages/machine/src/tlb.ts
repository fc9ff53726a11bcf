/**
 * What both forms of translation cache have in common. The finite one (tlb/finite.ts) is for a
 * clock: it hits, misses and costs. The other (tlb/mayCached.ts) is for exploration: it knows
 * everything that hardware might hold, so that no schedule of fills has to be enumerated.
 */
import type { Footprint } from './footprint.ts';

/** What a write, an instruction or a broadcast takes out of translation caches. */
export interface Invalidation {
  /** Only what is cached under this PCID; null for every PCID. */
  readonly pcid: number | null;
  /** Only `pages` pages of `stride` bytes from here on; null for every address. */
  readonly from: number | null;
  readonly pages: number;
  readonly stride: number;
  /** Global translations too. */
  readonly globals: boolean;
  /**
   * Paging-structure entries: `all` of the PCIDs named, those on the `path` to the addresses, or
   * `none` (only last-level translations go).
   */
  readonly upper: 'all' | 'path' | 'none';
}

/** A load or store through a translation. */
export interface Access {
  readonly va: number;
  readonly write: boolean;
  /** User mode, which may not use pages without the user bit. */
  readonly user: boolean;
}

/** Where an access goes. */
export interface Translation {
  /** Physical address, to the byte. */
  readonly at: number;
  /** Page-table words that the walker read for it: 0 for a TLB hit. */
  readonly walked: number;
}

/** The translation caches of one CPU. */
export interface Tlb {
  /** In how many ways `access` can go now. */
  ways(access: Access): number;
  /** Goes `way`: where to, or null for a page fault. May set accessed and dirty bits. */
  translate(access: Access, way: number): Translation | null;
  /** Declares what `translate` touches, and the word it ends at by `data`. */
  touch(access: Access, way: number, into: Footprint, data: (at: number) => void): void;
  /** The CPU's root or PCID has changed; what was cached under the PCID stays. */
  rootLoaded(): void;
  invalidate(what: Invalidation): void;
  /** Declares what `invalidate` and `rootLoaded` touch. `root` is the one after it. */
  touchInvalidate(root: number | null, into: Footprint): void;
  /** The word at `at` of a page frame has changed in memory. */
  wordChanged(at: number, value: number): void;
  /** Declares `wordChanged`. */
  touchWord(at: number, value: number, into: Footprint): void;
  /** Whether this CPU might walk through page frame `frame` now. */
  walksThrough(frame: number): boolean;
  /**
   * Whether this CPU might use a translation that ends in page frame `frame` now. What it has cached
   * under another PCID counts once that is loaded again.
   */
  translatesTo(frame: number): boolean;
}

/** Everything of one PCID but global translations. */
export const wholePcid = (pcid: number): Invalidation => ({
  pcid,
  from: null,
  pages: 0,
  stride: 0,
  globals: false,
  upper: 'all',
});

/** Everything of every PCID, `globals` included or not. */
export const everything = (globals: boolean): Invalidation => ({
  pcid: null,
  from: null,
  pages: 0,
  stride: 0,
  globals,
  upper: 'all',
});

/**
 * Whether `what` names an address that a translation of `size` bytes at `base` covers: one address
 * inside a huge page takes the whole of it, and a stride steps over what lies between.
 */
export function hits(what: Invalidation, base: number, size: number): boolean {
  if (what.from === null) return true;
  const first = Math.max(0, Math.ceil((base - what.from) / what.stride));
  return first < what.pages && what.from + first * what.stride < base + size;
}

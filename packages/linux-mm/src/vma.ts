/**
 * The list of VMAs of an mm: found, split, merged and taken out under mmap_lock, held for writing.
 *
 * Follows mm/vma.c. Not modelled: the maple tree, per-VMA locks, limits on the number of VMAs.
 */
import { assert, PAGE_SIZE } from '@shootdown/machine';
import type { AddressSpace, MmStruct, VmArea, VmFlags } from '@shootdown/mmu-gather';

/** Readable and writable private anonymous memory. */
export const ANON_RW: VmFlags = {
  read: true,
  write: true,
  shared: false,
  hugetlb: false,
  hugepage: false,
  pfnmap: false,
};

/** find_vma: the first VMA that ends behind `addr`; null if there is none. */
export function findVma(mm: MmStruct, addr: number): VmArea | null {
  const { vmas } = mm;
  let low = 0;
  let high = vmas.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((vmas[middle]?.end ?? 0) > addr) high = middle;
    else low = middle + 1;
  }
  return vmas[low] ?? null;
}

/** vma_lookup: the VMA that `addr` is in; null if it is in none. */
export function vmaLookup(mm: MmStruct, addr: number): VmArea | null {
  const vma = findVma(mm, addr);
  return vma !== null && vma.start <= addr ? vma : null;
}

/** The VMAs that [start, end) touches, by address. */
export const vmasIn = (mm: MmStruct, start: number, end: number): readonly VmArea[] =>
  mm.vmas.filter((vma) => vma.start < end && vma.end > start);

/** Up to where every page from `start` on is mapped by some VMA; `end` at most. */
export function mappedEnd(mm: MmStruct, start: number, end: number): number {
  let at = start;
  for (const vma of vmasIn(mm, start, end)) {
    if (vma.start > at) break;
    at = vma.end;
  }
  return Math.min(at, end);
}

/** Whether every page of [start, end), which is not empty, is mapped by some VMA. */
export const isMapped = (mm: MmStruct, start: number, end: number): boolean =>
  mappedEnd(mm, start, end) === end;

/** What to map. */
export interface NewVma {
  readonly start: number;
  readonly end: number;
  readonly flags: VmFlags;
  readonly file?: AddressSpace | null | undefined;
  readonly offset?: number | undefined;
  /** Not to be merged with its neighbours yet. */
  readonly alone?: boolean | undefined;
}

/** Inserts a VMA where nothing is mapped, merged with its neighbours where they are alike. */
export function insertVma(mm: MmStruct, what: NewVma): VmArea {
  const { start, end, flags, file = null, offset = 0 } = what;
  const vma: VmArea = { mm, start, end, flags, file, offset };
  const after = findVma(mm, start);
  const at = after === null ? mm.vmas.length : mm.vmas.indexOf(after);
  mm.vmas.splice(at, 0, vma);
  file?.mappings.add(vma);
  return what.alone === true ? vma : mergeAround(vma);
}

const sameKind = (a: VmArea, b: VmArea): boolean =>
  a.end === b.start &&
  a.file === null &&
  b.file === null &&
  a.flags.read === b.flags.read &&
  a.flags.write === b.flags.write &&
  a.flags.shared === b.flags.shared &&
  a.flags.hugepage === b.flags.hugepage &&
  a.flags.pfnmap === b.flags.pfnmap;

/** vma_merge: joins `vma` with neighbours that are alike; gives what it is part of now. */
export function mergeAround(vma: VmArea): VmArea {
  const { vmas } = vma.mm;
  let merged = vma;
  const at = vmas.indexOf(vma);
  const before = vmas[at - 1];
  if (before !== undefined && sameKind(before, vma)) {
    before.end = vma.end;
    vmas.splice(at, 1);
    merged = before;
  }
  const after = vmas[vmas.indexOf(merged) + 1];
  if (after !== undefined && sameKind(merged, after)) {
    merged.end = after.end;
    vmas.splice(vmas.indexOf(after), 1);
  }
  return merged;
}

/** split_vma: cuts `vma` at `at`, which is inside; gives the upper part. */
export function splitVma(vma: VmArea, at: number): VmArea {
  assert(vma.start < at && at < vma.end, 'a VMA is split inside');
  const upper: VmArea = { ...vma, start: at, offset: vma.offset + at - vma.start };
  vma.end = at;
  vma.mm.vmas.splice(vma.mm.vmas.indexOf(vma) + 1, 0, upper);
  vma.file?.mappings.add(upper);
  return upper;
}

/** Cuts VMAs at the borders of [start, end), so that it consists of whole ones; gives those. */
export function isolateRange(mm: MmStruct, start: number, end: number): readonly VmArea[] {
  for (const border of [start, end]) {
    const vma = vmaLookup(mm, border);
    if (vma !== null && vma.start < border) splitVma(vma, border);
  }
  return vmasIn(mm, start, end);
}

/** Takes VMAs out. */
export function removeVmas(mm: MmStruct, gone: readonly VmArea[]): void {
  for (const vma of gone) {
    mm.vmas.splice(mm.vmas.indexOf(vma), 1);
    vma.file?.mappings.delete(vma);
  }
}

/** Where the search for room starts: mmap_base, going up here. */
const MMAP_BASE = 0x7f00_0000_0000;

/** get_unmapped_area: the first gap of `length` bytes, aligned to `align`. */
export function unmappedArea(mm: MmStruct, length: number, align: number = PAGE_SIZE): number {
  let at = MMAP_BASE;
  for (const vma of mm.vmas) {
    if (vma.end <= at) continue;
    if (vma.start >= at + length) break;
    at = Math.ceil(vma.end / align) * align;
  }
  return at;
}

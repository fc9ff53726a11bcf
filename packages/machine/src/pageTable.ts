/**
 * Page tables as the hardware walker finds them in memory: 512 entries of 8 bytes per table, 4 or 5
 * levels. Level 1 is the PTE, 2 the PMD, 3 the PUD, 4 the P4D (the root of a 4-level table), 5 the
 * PGD. An entry is a number: 12 flag bits as on x86, then the page frame number, then NX (bit 63 in
 * hardware, bit 48 here so that the whole is exact in a double).
 */
import { PAGE_SHIFT, PAGE_SIZE, type PhysicalMemory, WORDS_PER_FRAME } from './memory.ts';

/** The flag bits of an entry, where x86 has them. */
export const Pte = {
  present: 0x001,
  write: 0x002,
  user: 0x004,
  accessed: 0x020,
  dirty: 0x040,
  /** The entry maps a page itself instead of pointing at a table. */
  huge: 0x080,
  global: 0x100,
} as const;

/** No execute. Not a bit of the low 32, so test it with `pteNoExec`. */
export const PTE_NX: number = 2 ** 48;

/** The entry for page frame `frame` with `flags`. */
export const makePte = (frame: number, flags: number): number => frame * PAGE_SIZE + flags;

/** The page frame an entry points at. */
export const ptePfn = (pte: number): number => Math.floor((pte % PTE_NX) / PAGE_SIZE);

/** Whether `flag`, of the low 12 bits, is set. */
export const pteHas = (pte: number, flag: number): boolean => (pte & flag) !== 0;

/** Whether the entry forbids execution. */
export const pteNoExec = (pte: number): boolean => pte >= PTE_NX;

/** log2 of the bytes that one entry of `level` covers: 12, 21, 30, 39, 48. */
export const levelShift = (level: number): number => PAGE_SHIFT + 9 * (level - 1);

const LEVEL_SIZES = [0, 1, 2, 3, 4, 5].map((level) => 2 ** levelShift(level));

/** Bytes that one entry of `level`, 1 to 5, covers. */
export const levelSize = (level: number): number => LEVEL_SIZES[level] ?? 2 ** levelShift(level);

/** Which entry of a table of `level` `va` uses. */
export const tableIndex = (va: number, level: number): number => {
  const index = Math.floor(va / levelSize(level)) % WORDS_PER_FRAME;
  return index < 0 ? index + WORDS_PER_FRAME : index;
};

/** Physical address of the entry of `level` that `va` uses in the table in `frame`. */
export const entryAt = (frame: number, va: number, level: number): number =>
  frame * PAGE_SIZE + 8 * tableIndex(va, level);

/** Whether `pte`, of `level`, maps a page. */
export const isLeaf = (pte: number, level: number): boolean => level === 1 || pteHas(pte, Pte.huge);

/** One entry on the way of a walk. */
export interface WalkStep {
  readonly level: number;
  /** Physical address of the entry. */
  readonly at: number;
  readonly pte: number;
}

/**
 * The entries that a walk for `va` from the table in `frame`, which is of `level`, reads, down to a
 * page or to what is not present. A look at memory: no cache, no accessed bits.
 */
export function walk(
  memory: PhysicalMemory,
  frame: number,
  level: number,
  va: number,
): readonly WalkStep[] {
  const steps: WalkStep[] = [];
  let table = frame;
  for (let at = level; at >= 1; at--) {
    const where = entryAt(table, va, at);
    const pte = memory.read(where);
    steps.push({ level: at, at: where, pte });
    if (!pteHas(pte, Pte.present) || isLeaf(pte, at)) break;
    table = ptePfn(pte);
  }
  return steps;
}

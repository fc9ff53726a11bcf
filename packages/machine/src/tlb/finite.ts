/**
 * Translation caches as hardware has them: a TLB of so many entries, and per level a few cached
 * upper entries from which a walk may start. It fills on use only. For a clock: what it tells is
 * how many page-table words an access had to read.
 *
 * Not modelled: associativity, separate instruction and data sides, a first level; replacement is
 * first in, first out. Dropping a whole PCID is one step, as for hardware; the entries' slots are
 * free again once they come round.
 */
import { readMemory, touchRead, touchWrite, writeMemory } from '../access.ts';
import type { Cpu } from '../cpu.ts';
import { type Footprint, Hardware } from '../footprint.ts';
import type { Machine } from '../machine.ts';
import { PAGE_SIZE } from '../memory.ts';
import { entryAt, isLeaf, levelSize, Pte, pteHas, ptePfn } from '../pageTable.ts';
import { type Access, hits, type Invalidation, type Tlb, type Translation } from '../tlb.ts';

/** How many entries the caches hold. */
export interface TlbSizes {
  /**
   * Translations. Default 1536: the shared second-level TLB of Intel's Skylake and its successors
   * (Intel 64 and IA-32 optimization manual, table "TLB parameters of the Skylake client").
   */
  readonly leaf: number;
  /**
   * Upper entries of levels 2, 3, 4 and 5. Default 32, 8, 4, 2: an assumption, nobody publishes
   * them; the order of magnitude is that of measurements on Intel parts.
   */
  readonly upper: readonly [number, number, number, number];
}

const DEFAULT_SIZES: TlbSizes = { leaf: 1536, upper: [32, 8, 4, 2] };

/** One cached entry. */
interface Entry {
  readonly context: PcidContext;
  readonly level: number;
  readonly leaf: boolean;
  /** Number of the page or region of its level. */
  readonly page: number;
  readonly target: number;
  readonly flags: number;
}

/** What is cached under one PCID, or as global: by level, then by page number. */
interface PcidContext {
  readonly leaves: Map<number, Entry>[];
  readonly uppers: Map<number, Entry>[];
}

const newContext = (): PcidContext => ({
  leaves: [1, 2, 3].map(() => new Map<number, Entry>()),
  uppers: [2, 3, 4, 5].map(() => new Map<number, Entry>()),
});

/** Slots that are filled round and round. */
class Ring {
  private readonly size: number;
  private readonly slots: Entry[] = [];
  private next = 0;

  constructor(size: number) {
    this.size = size;
  }

  insert(entry: Entry): void {
    const old = this.slots[this.next];
    if (old !== undefined) {
      const map = mapOf(old);
      if (map.get(old.page) === old) map.delete(old.page);
    }
    this.slots[this.next] = entry;
    this.next = this.next + 1 === this.size ? 0 : this.next + 1;
    mapOf(entry).set(entry.page, entry);
  }
}

const NO_MAP: Map<number, Entry> = new Map();

const mapOf = ({ context, level, leaf }: Entry): Map<number, Entry> =>
  (leaf ? context.leaves[level - 1] : context.uppers[level - 2]) ?? NO_MAP;

/** The caches of one CPU. */
export class FiniteTlb implements Tlb {
  private readonly machine: Machine;
  private readonly cpu: Cpu;
  private readonly sizes: TlbSizes;
  private contexts = new Map<number, PcidContext>();
  private globals: PcidContext = newContext();
  private rings: readonly Ring[] | null = null;

  constructor(machine: Machine, cpu: Cpu, sizes: Partial<TlbSizes> = {}) {
    this.machine = machine;
    this.cpu = cpu;
    this.sizes = { ...DEFAULT_SIZES, ...sizes };
  }

  ways(): number {
    return 1;
  }

  translate(access: Access): Translation | null {
    this.cpu.audit?.write(this.cpu.cell(Hardware.tlb));
    const hit = this.lookup(access.va);
    if (
      hit !== null &&
      allows(hit.flags, access) &&
      (!access.write || pteHas(hit.flags, Pte.dirty))
    )
      return { at: physical(hit, access.va), walked: 0 };
    return this.walk(access);
  }

  touch(access: Access, _way: number, into: Footprint, data: (at: number) => void): void {
    into.write(this.cpu.cell(Hardware.tlb));
    const hit = this.lookup(access.va);
    if (
      hit !== null &&
      allows(hit.flags, access) &&
      (!access.write || pteHas(hit.flags, Pte.dirty))
    )
      return data(physical(hit, access.va));
    this.visit(access.va, (at, pte, level) => {
      touchRead(into, null, at);
      if (!pteHas(pte, Pte.present)) return;
      const marked = mark(pte, level, access);
      if (marked !== pte) touchWrite(this.machine, into, null, at, marked);
      if (isLeaf(pte, level)) data(ptePfn(pte) * PAGE_SIZE + offset(access.va, level));
    });
  }

  rootLoaded(): void {
    this.cpu.audit?.write(this.cpu.cell(Hardware.tlb));
  }

  invalidate(what: Invalidation): void {
    this.cpu.audit?.write(this.cpu.cell(Hardware.tlb));
    if (what.from === null && what.upper === 'all') {
      if (what.pcid === null) this.contexts = new Map();
      else this.contexts.delete(what.pcid);
      if (what.globals) this.globals = newContext();
      return;
    }
    for (const [pcid, context] of this.contexts)
      if (what.pcid === null || what.pcid === pcid) drop(context, what);
    if (what.globals) drop(this.globals, what);
  }

  touchInvalidate(_root: number | null, into: Footprint): void {
    into.write(this.cpu.cell(Hardware.tlb));
  }

  wordChanged(): void {
    // What is cached stays as it is until it is invalidated: that is the point of all this.
  }

  touchWord(): void {
    // Nothing changes, so there is nothing to declare.
  }

  walksThrough(frame: number): boolean {
    this.cpu.audit?.read(this.cpu.cell(Hardware.tlb));
    const { root } = this.cpu;
    if (root === frame) return true;
    const { uppers } = this.context();
    return uppers.some((map) => map.values().some(({ target }) => target === frame));
  }

  translatesTo(frame: number): boolean {
    this.cpu.audit?.read(this.cpu.cell(Hardware.tlb));
    const inside = ({ target, level }: Entry): boolean =>
      frame >= target && frame < target + levelSize(level) / PAGE_SIZE;
    return [this.context(), this.globals].some(({ leaves }) =>
      leaves.some((map) => map.values().some(inside)),
    );
  }

  private context(): PcidContext {
    let context = this.contexts.get(this.cpu.pcid);
    if (context === undefined) {
      context = newContext();
      this.contexts.set(this.cpu.pcid, context);
    }
    return context;
  }

  private lookup(va: number): Entry | null {
    return find(this.context().leaves, va, 1) ?? find(this.globals.leaves, va, 1);
  }

  /** Reads the entries for `va` from the deepest cached one on; true: the last one maps a page. */
  private visit(va: number, each: (at: number, pte: number, level: number) => void): boolean {
    const { root } = this.cpu;
    if (root === null) return false;
    const upper = find(this.context().uppers, va, 2);
    let table = upper?.target ?? root;
    for (let level = upper === null ? this.machine.levels : upper.level - 1; level >= 1; level--) {
      const at = entryAt(table, va, level);
      const pte = readMemory(this.machine, null, at) as number;
      each(at, pte, level);
      if (!pteHas(pte, Pte.present)) return false;
      if (isLeaf(pte, level)) return true;
      table = ptePfn(pte);
    }
    return false;
  }

  private walk(access: Access): Translation | null {
    const { va } = access;
    const upper = find(this.context().uppers, va, 2);
    let flags = upper?.flags ?? Pte.write | Pte.user;
    let walked = 0;
    let found: Translation | null = null;
    let denied = false;
    this.visit(va, (at, pte, level) => {
      walked++;
      if (!pteHas(pte, Pte.present)) return;
      flags &= pte;
      const leaf = isLeaf(pte, level);
      denied = leaf && !allows(flags, access);
      if (denied) return;
      const marked = mark(pte, level, access);
      if (marked !== pte) writeMemory(this.machine, null, at, marked);
      const target = ptePfn(pte);
      this.insert({
        context: leaf && pteHas(pte, Pte.global) ? this.globals : this.context(),
        level,
        leaf,
        page: Math.floor(va / levelSize(level)),
        target,
        flags: leaf ? flags | (marked & Pte.dirty) : flags,
      });
      if (leaf) found = { at: target * PAGE_SIZE + offset(va, level), walked };
    });
    this.machine.walked = walked;
    if (found === null && this.machine.axioms.faultDrops) this.dropForFault(va);
    return found;
  }

  private dropForFault(va: number): void {
    const from = Math.floor(va / PAGE_SIZE) * PAGE_SIZE;
    const { pcid } = this.cpu;
    this.invalidate({ pcid, from, pages: 1, stride: PAGE_SIZE, globals: true, upper: 'path' });
  }

  private insert(entry: Entry): void {
    this.rings ??= [this.sizes.leaf, ...this.sizes.upper].map((size) => new Ring(size));
    this.rings[entry.leaf ? 0 : entry.level - 1]?.insert(entry);
  }
}

const offset = (va: number, level: number): number => {
  const size = levelSize(level);
  return va - Math.floor(va / size) * size;
};

/** `pte` with the bits set that the walker sets for `access`. */
function mark(pte: number, level: number, { write }: Access): number {
  const bits = Pte.accessed | (write && isLeaf(pte, level) ? Pte.dirty : 0);
  return pte + bits - (pte & bits);
}

const physical = (entry: Entry, va: number): number =>
  entry.target * PAGE_SIZE + offset(va, entry.level);

const allows = (flags: number, { write, user }: Access): boolean =>
  (!write || pteHas(flags, Pte.write)) && (!user || pteHas(flags, Pte.user));

/** The entry for `va` of the lowest level, whose first map is that of level `lowest`. */
function find(maps: readonly Map<number, Entry>[], va: number, lowest: number): Entry | null {
  for (let index = 0; index < maps.length; index++) {
    const map = maps[index];
    if (map === undefined || map.size === 0) continue;
    const entry = map.get(Math.floor(va / levelSize(lowest + index)));
    if (entry !== undefined) return entry;
  }
  return null;
}

function drop({ leaves, uppers }: PcidContext, what: Invalidation): void {
  for (let at = 0; at < leaves.length; at++) dropFrom(leaves[at], at + 1, what);
  if (what.upper === 'none') return;
  const rest = what.upper === 'all' ? { ...what, from: null } : what;
  for (let at = 0; at < uppers.length; at++) dropFrom(uppers[at], at + 2, rest);
}

/** Takes the entries of `level` out of `map` that `what` names: by address, or by looking at all. */
function dropFrom(map: Map<number, Entry> | undefined, level: number, what: Invalidation): void {
  if (map === undefined || map.size === 0) return;
  const size = levelSize(level);
  const { from, pages, stride } = what;
  if (from === null) return map.clear();
  if (pages > map.size) {
    for (const page of map.keys()) if (hits(what, page * size, size)) map.delete(page);
    return;
  }
  for (let page = 0; page < pages; page++) map.delete(Math.floor((from + page * stride) / size));
}

/**
 * Everything that a CPU's translation caches might hold. Hardware may walk at any moment, for any
 * address, from the root or from any paging-structure entry it has cached, and may keep what it
 * finds for as long as nothing invalidates it. So the set of entries that may be cached
 *
 * - grows when an entry becomes visible in memory under a table that this CPU may walk through, and
 *   when a root is loaded: a cached upper entry goes together with lower entries written later;
 * - shrinks only by invalidation, after which it holds again what the tables say now.
 *
 * An access may go through any entry of the set, or fault if some walk finds an entry missing. The
 * set is a cell (`Hardware.tlb`): a store to a table is a write of it.
 *
 * Not modelled: accessed bits of upper entries; that a speculative walk sets accessed bits; that an
 * access by a cached entry may leave an accessed bit clear that software has cleared; that without
 * shadow stacks a processor may set the dirty bit of an entry which has just become read-only.
 */
import { readMemory, touchRead, touchWrite, writeMemory } from '../access.ts';
import type { Cpu } from '../cpu.ts';
import { type Footprint, frameId, Hardware } from '../footprint.ts';
import type { Machine } from '../machine.ts';
import { PAGE_SIZE, WORDS_PER_FRAME } from '../memory.ts';
import { entryAt, isLeaf, levelSize, Pte, pteHas, ptePfn } from '../pageTable.ts';
import { type Access, hits, type Invalidation, type Tlb, type Translation } from '../tlb.ts';

/** An entry that may be cached. */
export interface MayCachedEntry {
  /** The level it was read at. */
  readonly level: number;
  /** Whether it maps a page; otherwise it points at a table. */
  readonly leaf: boolean;
  /** The first address it covers. */
  readonly va: number;
  /** Physical address it was read from. */
  readonly from: number;
  /** The page frame of the page or table. */
  readonly target: number;
  /** Permissions of the whole way, and of a leaf whether it was dirty and global. */
  readonly flags: number;
}

/** A table that a walk may be at: its level is that of its entries. */
interface Table {
  readonly frame: number;
  readonly level: number;
  readonly va: number;
  readonly flags: number;
}

/** What an access may do: go through an entry, or fault. */
type Way = MayCachedEntry | 'fault';

const PERMISSIONS = Pte.write | Pte.user;

/** The set of one CPU. */
export class MayCachedTlb implements Tlb {
  private readonly machine: Machine;
  private readonly cpu: Cpu;
  private readonly byPcid = new Map<number, MayCachedEntry[]>();
  private globals: MayCachedEntry[] = [];

  constructor(machine: Machine, cpu: Cpu) {
    this.machine = machine;
    this.cpu = cpu;
  }

  /** What may be cached under the current PCID, global translations included. */
  get entries(): readonly MayCachedEntry[] {
    return [...this.current(), ...this.globals];
  }

  ways(access: Access): number {
    return this.choices(access).length;
  }

  translate(access: Access, way: number): Translation | null {
    this.noteRead();
    const choice = this.choices(access)[way];
    if (choice === undefined || choice === 'fault') {
      if (this.machine.axioms.faultDrops) this.dropForFault(access.va);
      return null;
    }
    const marked = this.marked(access, choice);
    // The walker's update is one atomic read-modify-write of the entry in memory.
    if (marked !== null) writeMemory(this.machine, null, choice.from, marked);
    return { at: choice.target * PAGE_SIZE + (access.va - choice.va), walked: 0 };
  }

  touch(access: Access, way: number, into: Footprint, data: (at: number) => void): void {
    const choice = this.choices(access)[way];
    // What is in memory now decides how many ways there are: whether a walk could fault, and whether
    // a clean entry is still there.
    for (const entry of this.entries)
      if (entry.leaf && covers(entry, access.va)) touchRead(into, null, entry.from);
    if (choice === undefined || choice === 'fault')
      return this.touchInvalidate(this.cpu.root, into);
    into.read(this.cpu.cell(Hardware.tlb));
    this.touchTables(into);
    const marked = this.marked(access, choice);
    if (marked !== null) touchWrite(this.machine, into, null, choice.from, marked);
    data(choice.target * PAGE_SIZE + (access.va - choice.va));
  }

  rootLoaded(): void {
    this.noteWrite();
    this.grow();
  }

  invalidate(what: Invalidation): void {
    this.noteWrite();
    const goes = (entry: MayCachedEntry): boolean => {
      const named = hits(what, entry.va, levelSize(entry.level));
      if (entry.leaf) return named;
      return what.upper === 'all' || (what.upper === 'path' && named);
    };
    for (const [pcid, entries] of this.byPcid)
      if (what.pcid === null || what.pcid === pcid)
        this.byPcid.set(
          pcid,
          entries.filter((entry) => !goes(entry)),
        );
    if (what.globals) this.globals = this.globals.filter((entry) => !goes(entry));
    this.grow();
  }

  touchInvalidate(root: number | null, into: Footprint): void {
    into.write(this.cpu.cell(Hardware.tlb));
    this.touchTables(into, root);
  }

  wordChanged(at: number, value: number): void {
    const frame = Math.floor(at / PAGE_SIZE);
    const tables = this.tables().filter((table) => table.frame === frame);
    if (tables.length === 0) return;
    this.noteWrite();
    for (const table of tables) this.seen(table, at, value);
  }

  touchWord(at: number, value: number, into: Footprint): void {
    const frame = Math.floor(at / PAGE_SIZE);
    for (const { frame: walked, level } of this.tables()) {
      if (walked !== frame) continue;
      into.write(this.cpu.cell(Hardware.tlb));
      // With a new upper entry, all that the tables below it hold comes into the set.
      if (pteHas(value, Pte.present) && !isLeaf(value, level))
        touchReachable(this.machine, ptePfn(value), level - 1, into);
    }
  }

  walksThrough(frame: number): boolean {
    this.noteRead();
    return this.tables().some((table) => table.frame === frame);
  }

  translatesTo(frame: number): boolean {
    this.noteRead();
    const inside = ({ leaf, target, level }: MayCachedEntry): boolean =>
      leaf && frame >= target && frame < target + levelSize(level) / PAGE_SIZE;
    return this.entries.some(inside);
  }

  private current(): MayCachedEntry[] {
    return this.byPcid.get(this.cpu.pcid) ?? [];
  }

  /** Where a walk of this CPU may go on from: the root, and the tables of cached upper entries. */
  private tables(): readonly Table[] {
    const { root } = this.cpu;
    const upper = this.current()
      .filter((entry) => !entry.leaf)
      .map(({ target, level, va, flags }) => ({ frame: target, level: level - 1, va, flags }));
    if (root === null) return upper;
    return [{ frame: root, level: this.machine.levels, va: 0, flags: PERMISSIONS }, ...upper];
  }

  /** Adds all that walks from here on could find. */
  private grow(): void {
    for (const table of this.tables()) this.growFrom(table);
  }

  private growFrom(table: Table): void {
    this.cpu.audit?.read(frameId(table.frame));
    const frame = this.machine.physical.frame(table.frame);
    if (frame === null) return;
    for (const index of frame.used)
      this.seen(table, table.frame * PAGE_SIZE + 8 * index, frame.words[index] ?? 0);
  }

  /** A walk may have found `pte` at `at`, an entry of `table`. */
  private seen(table: Table, at: number, pte: number): void {
    if (!pteHas(pte, Pte.present)) return;
    const { level } = table;
    const leaf = isLeaf(pte, level);
    const way = table.flags & pte & PERMISSIONS;
    const entry: MayCachedEntry = {
      level,
      leaf,
      va: firstAddress(table, (at % PAGE_SIZE) / 8, this.machine.levels),
      from: at,
      target: ptePfn(pte),
      flags: leaf ? way | (pte & (Pte.dirty | Pte.global)) : way,
    };
    if (!this.add(entry) || leaf) return;
    this.growFrom({ frame: entry.target, level: level - 1, va: entry.va, flags: way });
  }

  private add(entry: MayCachedEntry): boolean {
    const global = entry.leaf && (entry.flags & Pte.global) !== 0;
    let into = global ? this.globals : this.byPcid.get(this.cpu.pcid);
    if (into === undefined) {
      into = [];
      this.byPcid.set(this.cpu.pcid, into);
    }
    if (into.some((other) => same(other, entry))) return false;
    into.push(entry);
    return true;
  }

  private choices({ va, write, user }: Access): readonly Way[] {
    const { physical, levels } = this.machine;
    const ways: Way[] = [];
    let fault = false;
    for (const entry of this.entries) {
      if (!entry.leaf || !covers(entry, va)) continue;
      const allowed =
        (!user || pteHas(entry.flags, Pte.user)) && (!write || pteHas(entry.flags, Pte.write));
      if (!allowed) fault = true;
      // A clean entry is written through only after the walker has set its dirty bit in memory. If
      // the entry there is another one now, that is in the set, or missing, and decides instead.
      else if (!write || pteHas(entry.flags, Pte.dirty) || this.isWritable(entry)) ways.push(entry);
    }
    for (const table of this.tables()) {
      this.cpu.audit?.read(frameId(table.frame));
      const inside = table.level === levels || covers({ ...table, level: table.level + 1 }, va);
      if (inside && !pteHas(physical.read(entryAt(table.frame, va, table.level)), Pte.present))
        fault = true;
    }
    if (fault || ways.length === 0) ways.push('fault');
    // Entries that differ only in what the access does not use go to one place.
    return distinct(ways, va);
  }

  /** Whether the entry in memory still leads where `entry` does, for writing. */
  private isWritable(entry: MayCachedEntry): boolean {
    const now = readMemory(this.machine, null, entry.from) as number;
    return sameTarget(now, entry) && pteHas(now, Pte.write);
  }

  private dropForFault(va: number): void {
    this.invalidate({
      pcid: this.cpu.pcid,
      from: Math.floor(va / PAGE_SIZE) * PAGE_SIZE,
      pages: 1,
      stride: PAGE_SIZE,
      globals: true,
      upper: 'path',
    });
  }

  /**
   * What the entry in memory becomes by `access`, or null if it stays. Through an entry that was
   * cached dirty a write leaves memory alone, even if somebody has cleared the bit there.
   */
  private marked({ write }: Access, choice: MayCachedEntry): number | null {
    const seen = this.machine.physical.read(choice.from);
    const bits = Pte.accessed | (write && (choice.flags & Pte.dirty) === 0 ? Pte.dirty : 0);
    if (!sameTarget(seen, choice) || (seen & bits) === bits) return null;
    return seen + bits - (seen & bits);
  }

  /** Declares that every table a walk may pass, under any PCID, is read. */
  private touchTables(into: Footprint, root: number | null = this.cpu.root): void {
    for (const [pcid, entries] of this.byPcid)
      for (const { leaf, target, level } of entries)
        // Under another PCID, tables may have been linked below it that are not in the set yet.
        if (!leaf)
          touchReachable(this.machine, target, pcid === this.cpu.pcid ? 1 : level - 1, into);
    if (root !== null) touchReachable(this.machine, root, this.machine.levels, into);
  }

  private noteRead(): void {
    this.cpu.audit?.read(this.cpu.cell(Hardware.tlb));
  }

  private noteWrite(): void {
    this.cpu.audit?.write(this.cpu.cell(Hardware.tlb));
  }
}

function touchReachable(machine: Machine, frame: number, level: number, into: Footprint): void {
  into.read(frameId(frame));
  const held = machine.physical.frame(frame);
  if (held === null || level === 1) return;
  for (const index of held.used) {
    const pte = held.words[index] ?? 0;
    if (pteHas(pte, Pte.present) && !isLeaf(pte, level))
      touchReachable(machine, ptePfn(pte), level - 1, into);
  }
}

function firstAddress(table: Table, index: number, levels: number): number {
  const size = levelSize(table.level);
  // The upper half of the root is the upper half of the canonical addresses, the negative ones.
  const signed =
    table.level === levels && index >= WORDS_PER_FRAME / 2 ? index - WORDS_PER_FRAME : index;
  return table.va + signed * size;
}

const covers = ({ va, level }: { va: number; level: number }, address: number): boolean =>
  address >= va && address < va + levelSize(level);

const same = (a: MayCachedEntry, b: MayCachedEntry): boolean =>
  a.from === b.from &&
  a.target === b.target &&
  a.flags === b.flags &&
  a.va === b.va &&
  a.level === b.level &&
  a.leaf === b.leaf;

/** Whether the entry in memory still says what was cached of it. */
const sameTarget = (pte: number, entry: MayCachedEntry): boolean =>
  pteHas(pte, Pte.present) && ptePfn(pte) === entry.target && isLeaf(pte, entry.level);

function distinct(ways: readonly Way[], va: number): readonly Way[] {
  const where = (way: Way): string =>
    way === 'fault'
      ? way
      : `${way.target * PAGE_SIZE + (va - way.va)} ${way.from} ${way.flags & Pte.dirty}`;
  const seen = new Set<string>();
  return ways.filter((way) => !seen.has(where(way)) && seen.add(where(way)));
}

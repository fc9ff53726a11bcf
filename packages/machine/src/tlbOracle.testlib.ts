/**
 * What translation caches may hold, by the letter: after every transition, everything that a walk
 * could find from the root or from any upper entry that may be cached is added, again and again
 * until nothing is new; an invalidation takes out what it names. No cleverness: it reads whole
 * tables, and knows of what happened only the memory, the roots and the instructions.
 */
import type { Cpu } from './cpu.ts';
import { levelSize, Pte, pteHas, ptePfn } from './pageTable.ts';
import type { Access, Invalidation } from './tlb.ts';
import { type Transition, transitionCpu, TransitionKind, transitionKind } from './transition.ts';
import { ADDRESSES, type Instruction, type World } from './world.testlib.ts';

interface Entry {
  readonly pcid: number | 'global';
  readonly level: number;
  readonly leaf: boolean;
  readonly first: number;
  readonly from: number;
  readonly frame: number;
  readonly write: boolean;
  readonly user: boolean;
  readonly dirty: boolean;
}

/** Programs write only the first entries of a table. */
const WIDTH = 4;

const PAGE = 4096;

/** A walk from a table finds one of its entries, with the permissions of the way. */
function find(world: World, table: Entry, index: number): Entry | null {
  const level = table.level - 1;
  const from = table.frame * PAGE + 8 * index;
  const pte = world.machine.physical.read(from);
  if (!pteHas(pte, Pte.present)) return null;
  const leaf = level === 1 || pteHas(pte, Pte.huge);
  return {
    pcid: leaf && pteHas(pte, Pte.global) ? 'global' : table.pcid,
    level,
    leaf,
    first: table.first + index * levelSize(level),
    from,
    frame: ptePfn(pte),
    write: table.write && pteHas(pte, Pte.write),
    user: table.user && pteHas(pte, Pte.user),
    dirty: leaf && pteHas(pte, Pte.dirty),
  };
}

const covers = ({ first, level }: Entry, va: number): boolean =>
  va >= first && va < first + levelSize(level);

/** Whether `what` names an address of the entry: one by one. */
function names({ from, pages, stride }: Invalidation, entry: Entry): boolean {
  if (from === null) return true;
  return Array.from({ length: pages }, (_, page) => from + page * stride).some((va) =>
    covers(entry, va),
  );
}

/** The sets of all CPUs of a world. */
export class TlbOracle {
  private readonly world: World;
  private readonly sets: Map<string, Entry>[];

  constructor(world: World) {
    this.world = world;
    this.sets = world.machine.cpus.map(() => new Map());
    this.fill();
  }

  /** To be called before `next`; what it returns after it. */
  watch(next: Transition): () => void {
    const cpu = this.world.machine.cpu(transitionCpu(next));
    const isStep = transitionKind(next) === TransitionKind.step;
    const kind = isStep ? (cpu.op?.kind.name ?? '') : '';
    const doing = this.world.doing[cpu.id];
    const posted =
      transitionKind(next) === TransitionKind.apply ? cpu.invalidations[0]?.what : undefined;
    return () => {
      const what = posted ?? this.instruction(cpu, kind, doing);
      if (what !== null) this.drop(cpu, what);
      this.fill();
    };
  }

  /** What the instruction that `cpu` has just executed invalidates. */
  private instruction(cpu: Cpu, kind: string, doing?: Instruction): Invalidation | null {
    const { does, a, b } = doing ?? { does: '', a: 0, b: 0 };
    const va = ADDRESSES[a % ADDRESSES.length] ?? 0;
    const all = { from: null, pages: 0, stride: 0, upper: 'all' } as const;
    const one = { from: va, pages: 1, stride: PAGE } as const;
    const { invlpgDropsUpper, faultDrops } = this.world.machine.axioms;
    if (kind === 'invlpg')
      return { ...one, pcid: cpu.pcid, globals: true, upper: invlpgDropsUpper ? 'all' : 'path' };
    if (kind === 'access' && cpu.op?.kind.name === 'pageFault' && faultDrops)
      return { ...one, pcid: cpu.pcid, globals: true, upper: 'path' };
    if (kind === 'writeCr3' && b % 2 === 0) return { ...all, pcid: b % 3, globals: false };
    if (kind !== 'invpcid') return null;
    if (does === 'invpcidOne') return { ...one, pcid: b % 3, globals: false, upper: 'path' };
    if (does === 'invpcidSingle') return { ...all, pcid: b % 3, globals: false };
    return { ...all, pcid: null, globals: does === 'invpcidAll' };
  }

  private drop(cpu: Cpu, what: Invalidation): void {
    for (const [key, entry] of this.sets[cpu.id] ?? []) {
      const inScope =
        entry.pcid === 'global' ? what.globals : what.pcid === null || what.pcid === entry.pcid;
      const named = entry.leaf
        ? names(what, entry)
        : what.upper === 'all' || (what.upper === 'path' && names(what, entry));
      if (inScope && named) this.sets[cpu.id]?.delete(key);
    }
  }

  /** Adds what walks could find now. */
  private fill(): void {
    for (const cpu of this.world.machine.cpus) {
      let before: number;
      let now = 0;
      do {
        before = now;
        now = this.fillOnce(cpu);
      } while (now !== before);
    }
  }

  /** Adds what is one walker's step away; says how much there is then. */
  private fillOnce(cpu: Cpu): number {
    const set = this.sets[cpu.id] ?? new Map<string, Entry>();
    for (const table of this.tables(cpu))
      for (let index = 0; index < WIDTH; index++) {
        const entry = find(this.world, table, index);
        if (entry !== null) set.set(JSON.stringify(entry), entry);
      }
    return set.size;
  }

  private *usable(cpu: Cpu): Generator<Entry> {
    for (const entry of this.sets[cpu.id]?.values() ?? [])
      if (entry.pcid === 'global' || entry.pcid === cpu.pcid) yield entry;
  }

  /** The tables that a walk may be at, as entries that point at them. */
  private tables(cpu: Cpu): readonly Entry[] {
    const { root, pcid } = cpu;
    const uppers = [...this.usable(cpu)].filter(({ leaf }) => !leaf);
    if (root === null) return uppers;
    const [level, first, from] = [this.world.machine.levels + 1, 0, -1];
    const all = { leaf: false, write: true, user: true, dirty: false };
    return [{ ...all, pcid, level, first, from, frame: root }, ...uppers];
  }

  /** Where `access` may go: physical addresses, and `fault`. */
  ways(cpu: Cpu, { va, write }: Access): ReadonlySet<number | 'fault'> {
    const ways = new Set<number | 'fault'>();
    const memory = this.world.machine.physical;
    for (const entry of this.usable(cpu)) {
      if (!entry.leaf || !covers(entry, va)) continue;
      const now = memory.read(entry.from);
      const same =
        pteHas(now, Pte.present) &&
        ptePfn(now) === entry.frame &&
        (entry.level === 1 || pteHas(now, Pte.huge));
      if (!entry.user || (write && !entry.write)) ways.add('fault');
      // The dirty bit is set in memory first, by a walk that finds the entry as it was.
      else if (!write || entry.dirty || (same && pteHas(now, Pte.write)))
        ways.add(entry.frame * PAGE + va - entry.first);
    }
    for (const table of this.tables(cpu)) {
      if (table.from !== -1 && !covers(table, va)) continue;
      const index = Math.floor(va / levelSize(table.level - 1)) % 512;
      if (!pteHas(memory.read(table.frame * PAGE + 8 * index), Pte.present)) ways.add('fault');
    }
    return ways.size === 0 ? new Set(['fault']) : ways;
  }

  /** Page frames that `cpu` may walk through or translate to. */
  users(cpu: Cpu, frame: number): { readonly walks: boolean; readonly translates: boolean } {
    const leaves = [...this.usable(cpu)].filter(({ leaf }) => leaf);
    return {
      walks: this.tables(cpu).some((table) => table.frame === frame),
      translates: leaves.some(
        (entry) => frame >= entry.frame && frame < entry.frame + levelSize(entry.level) / PAGE,
      ),
    };
  }
}

/**
 * Page tables for tests: made before any code runs, by plain writes, and then looked at by the
 * walker. Page frames hold one word each that says which they are.
 */
import { type PhysAddr, physAddr, type Pfn, pfn, type VirtAddr, virtAddr } from './ids.ts';
import type { Machine, MachineOptions } from './machine.ts';
import { PAGE_SIZE } from './memory.ts';
import type { Coroutine } from './op.ts';
import { type Fault, PAGE_FAULT } from './ops/translation.ts';
import { entryAt, levelSize, makePte, Pte, pteHas, ptePfn } from './pageTable.ts';
import { call } from './stack.ts';
import { outcomes, type Story } from './story.testlib.ts';

/** Flags of an entry that points at a table. */
export const TABLE: number = Pte.present | Pte.write | Pte.user | Pte.accessed;
/** Flags of a page that user mode may write, used and written before: no access changes it. */
export const PAGE: number = TABLE | Pte.dirty;
/** Flags of a page that nobody has written yet. */
export const CLEAN: number = TABLE;

/** Two page frames, 2 MiB aligned, so that a huge page can begin there too. */
export const OLD: Pfn = pfn(0x400);
export const NEW: Pfn = pfn(0x600);
/** What their first words hold, unless somebody writes there. */
const NAMES = new Map<number, string>([
  [0o11, 'old'],
  [0o22, 'new'],
]);

/** An address; `Y` has another PTE in the same table, `FAR` a table of its own under the same PUD. */
export const X: VirtAddr = virtAddr(0x4000_0000);
export const Y: VirtAddr = virtAddr(0x4000_1000);
export const FAR: VirtAddr = virtAddr(0x4020_0000);

/** A page table under a root of its own; the other tables are in the page frames after the root. */
export class PageTables {
  readonly root: Pfn;
  private readonly machine: Machine;
  private last: number;

  constructor(machine: Machine, root = 0x10) {
    this.machine = machine;
    this.root = pfn(root);
    this.last = root;
    for (const [word, name] of NAMES)
      machine.physical.write(wordOf(name === 'old' ? OLD : NEW), word);
  }

  /** Maps `va` to `frame`, by an entry of `level`; makes the tables on the way. */
  map(va: VirtAddr, frame: number, flags: number = PAGE, level = 1): this {
    return this.set(va, makePte(frame, level > 1 ? flags | Pte.huge : flags), level);
  }

  /** Makes the tables on the way to the entry of `level` for `va`, and writes that. */
  set(va: VirtAddr, pte: number, level = 1): this {
    this.machine.physical.write(this.entry(va, level), pte);
    return this;
  }

  /** Where the entry of `level` for `va` is. */
  entry(va: VirtAddr, level = 1): PhysAddr {
    return physAddr(entryAt(this.table(va, level), va, level));
  }

  /** The page frame of the table of `level` for `va`. */
  table(va: VirtAddr, level: number): Pfn {
    if (level === this.machine.levels) return this.root;
    const at = this.entry(va, level + 1);
    const pte = this.machine.physical.read(at);
    if (pteHas(pte, Pte.present)) return pfn(ptePfn(pte));
    this.machine.physical.write(at, makePte(++this.last, TABLE));
    return pfn(this.last);
  }

  /** Has CPUs run on this page table from the start, all of them unless named. */
  load(pcid = 0, cpus: readonly number[] = this.machine.cpus.map(({ id }) => id)): this {
    for (const id of cpus) {
      const cpu = this.machine.cpu(id);
      cpu.root = this.root;
      cpu.pcid = pcid;
      cpu.tlb.rootLoaded();
    }
    return this;
  }
}

/** What a load of user mode gave: `old`, `new`, `fault`, or the number. */
export function said(result: number | Fault | void): string {
  if (result === PAGE_FAULT) return 'fault';
  return NAMES.get(Number(result)) ?? String(result);
}

/** The physical address of the first word of a page frame. */
export const wordOf = (frame: number): PhysAddr => physAddr(frame * PAGE_SIZE);

/** The address `bytes` after `va`. */
export const plus = (va: VirtAddr, bytes: number): VirtAddr => virtAddr(va + bytes);

/** 2 MiB. */
export const HUGE: number = levelSize(2);

/** The outcomes of a story on page tables, with all that hardware might have cached. */
export const paged = (
  tell: (machine: Machine, tables: PageTables) => Story,
  options: Partial<MachineOptions> = {},
): readonly string[] =>
  outcomes((machine) => tell(machine, new PageTables(machine)), { tlb: 'mayCached', ...options });

/** The same for one CPU, whose program says the outcome. */
export const alone = (
  program: (tables: PageTables, machine: Machine) => Coroutine<string>,
  options: Partial<MachineOptions> = {},
): readonly string[] =>
  paged(
    (machine, tables) => {
      let end = '';
      function* cpu0(): Coroutine {
        end = yield* call(program(tables, machine));
      }
      return { cpus: [cpu0()], outcome: () => end };
    },
    { cpus: 1, ...options },
  );

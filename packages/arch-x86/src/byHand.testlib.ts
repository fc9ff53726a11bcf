/** State set by hand: an mm that a CPU has loaded, with pages mapped and cached there. */
import {
  call,
  type CpuId,
  entryAt,
  localIrqDisable,
  localIrqEnable,
  makePte,
  PAGE_SIZE,
  Pte,
  pteHas,
  ptePfn,
  type Transition,
  userTouch,
  virtAddr,
} from '@shootdown/machine';
import type { FlushTlbInfo as GenericFlush, Kthread, MmStruct } from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import { freshFrame, stepsOn } from './kernel.testlib.ts';
import { contextOf, type FlushTlbInfo, kernPcid, tlbstate, x86 } from './x86.ts';

const FLAGS = Pte.present + Pte.write + Pte.user + Pte.accessed + Pte.dirty;

/** Maps fresh pages from `addr` on, without any kernel code. Gives their frames. */
export function mapByHand(
  k: MmKernel,
  mm: MmStruct,
  addr: number,
  pages: number,
): readonly number[] {
  const { machine } = k;
  return Array.from({ length: pages }, (_, page) => {
    const at = addr + page * PAGE_SIZE;
    let table: number = mm.pgd;
    for (let level = machine.levels as number; level > 1; level--) {
      const where = entryAt(table, at, level);
      if (!pteHas(machine.physical.read(where), Pte.present))
        machine.physical.write(where, makePte(freshFrame(k), FLAGS));
      table = ptePfn(machine.physical.read(where));
    }
    const frame = freshFrame(k);
    machine.physical.write(entryAt(table, at, 1), makePte(frame, FLAGS));
    return frame;
  });
}

/** What a CPU is in. */
export interface Loaded {
  readonly asid?: number;
  /** Up to which generation. */
  readonly tlbGen?: number;
  readonly lazy?: boolean;
}

/** Puts `mm` on `cpu` as a switch would have. */
export function loadByHand(k: MmKernel, cpu: number, mm: MmStruct, how: Loaded = {}): void {
  const { asid = 1, tlbGen = contextOf(mm).tlbGen.value, lazy = false } = how;
  const hardware = k.machine.cpu(cpu);
  const state = tlbstate(k, hardware.id);
  state.loadedMm.value = mm;
  state.isLazy.value = lazy;
  state.loadedMmAsid = asid;
  state.nextAsid = Math.max(state.nextAsid, asid + 1);
  Object.assign(state.ctxs[asid] ?? {}, { ctxId: contextOf(mm).ctxId, tlbGen });
  mm.cpumask.value.set(cpu);
  hardware.root = mm.pgd;
  hardware.pcid = x86(k).features.pcid ? kernPcid(asid) : 0;
}

/** Has `cpu` use `pages` pages from `addr` on, so that it has them cached. */
export function cache(k: MmKernel, cpu: number, addr: number, pages: number): void {
  function* touch(): Kthread {
    for (let page = 0; page < pages; page++)
      yield* userTouch(virtAddr(addr + page * PAGE_SIZE), true);
  }
  stepsOn(k, cpu, touch());
}

/** Runs `body` on `cpu` with interrupts off; gives the Ops in between. */
export function irqsOff(k: MmKernel, cpu: number, body: () => Kthread<unknown>): readonly string[] {
  function* off(): Kthread {
    yield* localIrqDisable();
    yield* call(body());
    yield* localIrqEnable();
  }
  return stepsOn(k, cpu, off()).slice(1, -1);
}

/** A flush of one page at 0x1000 that CPU 0 asks for, but for `changes`. */
export const flushInfo = (changes: Partial<FlushTlbInfo>): FlushTlbInfo => ({
  mm: null,
  start: 0x1000,
  end: 0x2000,
  strideShift: 12,
  freedTables: false,
  newTlbGen: 0,
  initiatingCpu: 0 as CpuId,
  trimCpumask: false,
  ...changes,
});

/** Has `cpu` go on, alone, for `steps` transitions at most; a store drains when it has to. */
export function advance(k: MmKernel, cpu: number, steps: number = Infinity): void {
  const { machine } = k;
  for (let taken = 0; taken < steps; taken++) {
    const own: Transition[] = [];
    machine.enabledOn(machine.cpu(cpu), own);
    const [next] = own;
    if (next === undefined) return;
    machine.execute(next);
  }
}

/** A flush of `pages` pages from `start` on, and of nothing else. */
export const onlyRange = (mm: MmStruct, start: number, pages: number): GenericFlush => ({
  mm,
  start,
  end: start + pages * PAGE_SIZE,
  strideShift: 12,
  freedTables: false,
});

/** Runs `body` on CPU 0, in a machine where nobody else has anything to do. */
export const stepsHere = (k: MmKernel, body: () => Kthread): readonly string[] =>
  stepsOn(k, 0, body());

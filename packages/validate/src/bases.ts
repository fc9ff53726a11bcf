/** How well it is known what the kernel is to decide: from the state that a decision rests on. */
import { contextOf } from '@shootdown/arch-x86';
import { Known, type Level } from './knowledge.ts';
import type { Lockstepper } from './lockstep.ts';
import { MISSING } from './missing.ts';
import type { KnownMm } from './model.ts';

/** A basis, and what is missing if it is Known.no. */
export interface Basis {
  readonly basis: Level;
  readonly missing: string;
}

const YES: Basis = { basis: Known.yes, missing: '' };
const no = (missing: string): Basis => ({ basis: Known.no, missing });

/** Of what an mm's mm_cpumask decides; of a batch it is an input. */
export function basisOfMask(entry: KnownMm | null): Basis {
  if (entry === null) return YES;
  return entry.vague ? no(MISSING.process) : { basis: entry.mask, missing: MISSING.mm };
}

/** Whether `cpu` is to be interrupted for `entry`. */
export function basisOfShould(on: Lockstepper, cpu: number, entry: KnownMm | null): Basis {
  const { known, loaded } = on.model.cpu(cpu);
  if (entry === null) return known.lazy ? YES : no(MISSING.cpu);
  if (entry.vague || isVague(on, loaded)) return no(MISSING.process);
  // Whatever it has loaded, it is not an mm that was made since.
  if (!known.loaded) return entry.born ? YES : no(MISSING.cpu);
  return loaded !== entry.mm || known.lazy ? YES : no(MISSING.cpu);
}

/** What flush_tlb_func() does on `cpu`. */
export function basisOfFunc(on: Lockstepper, cpu: number, entry: KnownMm | null): Basis {
  const { known, loaded, state } = on.model.cpu(cpu);
  if (isVague(on, loaded)) return no(MISSING.process);
  if (raisedUnseen(on)) return no(MISSING.batches);
  if (!known.loaded) return entry?.born === true ? YES : no(MISSING.cpu);
  if (entry !== null && loaded !== entry.mm) return YES;
  if (!known.lazy) return no(MISSING.cpu);
  return known.gens[state.loadedMmAsid] === true ? YES : no(missingGeneration(on, loaded));
}

/** What switch_mm_irqs_off() does on `cpu`. */
export function basisOfSwitch(on: Lockstepper, cpu: number, entry: KnownMm): Basis {
  const { known, loaded, state } = on.model.cpu(cpu);
  if (!known.loaded && !entry.born) return no(MISSING.cpu);
  if (entry.vague || isVague(on, loaded)) return no(MISSING.process);
  if (raisedUnseen(on)) return no(MISSING.batches);
  if (known.loaded && loaded === entry.mm) {
    if (!known.lazy) return no(MISSING.cpu);
    return known.gens[state.loadedMmAsid] === true ? YES : no(missingGeneration(on, loaded));
  }
  // Without PCIDs every write of CR3 flushes.
  if (!on.model.pcid) return YES;
  const { ctxId } = contextOf(entry.mm);
  const asid = state.ctxs.findIndex((ctx) => ctx.ctxId === ctxId);
  // A miss is certain if the mm was never here before, or nothing is left of before.
  if (asid === -1) {
    const miss = entry.born || known.slots.every((slot) => slot !== Known.no);
    return miss && !known.afloat.has(ctxId) ? YES : no(MISSING.asids);
  }
  return known.gens[asid] === true ? YES : no(missingGeneration(on, entry.mm));
}

/** Somebody unmaps in batches, and no probe shows generations. */
const raisedUnseen = (on: Lockstepper): boolean =>
  on.unmapping.size > 0 && !on.model.recorded.has('switch_mm');

const isVague = (on: Lockstepper, mm: unknown): boolean => on.model.entryOf(mm)?.vague === true;

function missingGeneration(on: Lockstepper, mm: unknown): string {
  const entry = on.model.entryOf(mm);
  if (entry === null || !entry.born) return MISSING.asids;
  return entry.doubted ? MISSING.batches : MISSING.order;
}

/** The state of `cpu` in words. */
export function describe(on: Lockstepper, cpu: number): string {
  const { loaded, state } = on.model.cpu(cpu);
  const name = typeof loaded === 'symbol' ? 'LOADED_MM_SWITCHING' : loaded.name;
  const ctx = state.ctxs[state.loadedMmAsid];
  return `CPU ${cpu}: loaded_mm=${name} is_lazy=${state.isLazy.value} tlb_gen=${ctx?.tlbGen ?? '?'}`;
}

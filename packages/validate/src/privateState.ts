/** What a CPU has that is no cell: kept and put back when its steps are made again. */
import { tlbstate, type TlbContext } from '@shootdown/arch-x86';
import type { Cpu } from '@shootdown/machine';
import type { Kernel } from '@shootdown/mmu-gather';

/** What `Cpu` and cpu_tlbstate hold that is no cell. */
export interface Private {
  irqsOn: boolean;
  pcid: number;
  loadedMmAsid: number;
  nextAsid: number;
  invalidateOther: boolean;
  readonly ctxs: TlbContext[];
}

/** Nothing yet. */
export const newPrivate = (): Private => ({
  irqsOn: true,
  pcid: 0,
  loadedMmAsid: 0,
  nextAsid: 0,
  invalidateOther: false,
  ctxs: [],
});

/** Keeps the state of `cpu`. */
export function save(k: Kernel, cpu: Cpu, into: Private): void {
  const state = tlbstate(k, cpu.id);
  into.irqsOn = cpu.irqsOn;
  into.pcid = cpu.pcid;
  into.loadedMmAsid = state.loadedMmAsid;
  into.nextAsid = state.nextAsid;
  into.invalidateOther = state.invalidateOther;
  state.ctxs.forEach(({ ctxId, tlbGen }, asid) => {
    const saved = (into.ctxs[asid] ??= { ctxId, tlbGen });
    saved.ctxId = ctxId;
    saved.tlbGen = tlbGen;
  });
}

/** Puts it back. */
export function restore(k: Kernel, cpu: Cpu, from: Private): void {
  const state = tlbstate(k, cpu.id);
  cpu.irqsOn = from.irqsOn;
  cpu.pcid = from.pcid;
  state.loadedMmAsid = from.loadedMmAsid;
  state.nextAsid = from.nextAsid;
  state.invalidateOther = from.invalidateOther;
  from.ctxs.forEach(({ ctxId, tlbGen }, asid) => {
    const ctx = state.ctxs[asid];
    if (ctx !== undefined) Object.assign(ctx, { ctxId, tlbGen });
  });
}

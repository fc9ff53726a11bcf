/**
 * Address space ids. A CPU remembers the last six address spaces it ran, each under an ASID of its
 * own, so that coming back to one flushes only if its generation has moved on meanwhile.
 *
 * Follows arch/x86/mm/tlb.c.
 */
import { assert, type CpuId, pfn, type Pfn, writeCr3 } from '@shootdown/machine';
import type { Kernel, Kthread, MmStruct } from '@shootdown/mmu-gather';
import { contextOf, type CpuTlbState, kernPcid, TLB_NR_DYN_ASIDS, x86 } from './x86.ts';

/** clear_asid_other: an ASID whose owner is nobody is flushed when it is taken. */
function clearAsidOther(state: CpuTlbState): void {
  state.ctxs.forEach((ctx, asid) => {
    if (asid !== state.loadedMmAsid) ctx.ctxId = 0;
  });
  state.invalidateOther = false;
}

/** Which ASID an mm gets, and whether it has to be flushed. */
export interface NewAsid {
  readonly asid: number;
  readonly needFlush: boolean;
}

/** @kernel arch/x86/mm/tlb.c choose_new_asid */
export function chooseNewAsid(
  k: Kernel,
  state: CpuTlbState,
  next: MmStruct,
  nextTlbGen: number,
): NewAsid {
  if (!x86(k).features.pcid) return { asid: 0, needFlush: true };
  if (state.invalidateOther) clearAsidOther(state);
  const { ctxId } = contextOf(next);
  for (let asid = 0; asid < TLB_NR_DYN_ASIDS; asid++) {
    const ctx = state.ctxs[asid];
    if (ctx?.ctxId === ctxId) return { asid, needFlush: ctx.tlbGen < nextTlbGen };
  }
  // Round robin, not the least recently used.
  let asid = state.nextAsid++;
  if (asid >= TLB_NR_DYN_ASIDS) {
    asid = 0;
    state.nextAsid = 1;
  }
  return { asid, needFlush: true };
}

/** invalidate_user_asid: the user half of an ASID is flushed on the way to user mode. */
export function invalidateUserAsid(k: Kernel, state: CpuTlbState, asid: number): void {
  const { pcid, pti } = x86(k).features;
  // Without PCID the write to CR3 has flushed it.
  if (pti && pcid) state.userPcidFlushMask.add(kernPcid(asid));
}

/**
 * load_new_mm_cr3: serializing, and orders the fills of the new TLB entries after the write of
 * mm_cpumask.
 */
export function* loadNewMmCr3(
  k: Kernel,
  state: CpuTlbState,
  mm: MmStruct,
  { asid, needFlush }: NewAsid,
): Kthread {
  if (needFlush) invalidateUserAsid(k, state, asid);
  yield* writeCr3(mm.pgd, hardwarePcid(k, asid), needFlush);
}

/** The PCID that the hardware is told. */
export const hardwarePcid = (k: Kernel, asid: number): number =>
  x86(k).features.pcid ? kernPcid(asid) : 0;

/** __native_read_cr3, without the PCID: a register, so no step. */
export function loadedRoot(k: Kernel, cpu: CpuId): Pfn {
  const { root } = k.machine.cpu(cpu);
  assert(root !== null, 'a root is loaded from boot on');
  return pfn(root);
}

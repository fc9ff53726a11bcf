/**
 * Page-table isolation: user mode runs under a PCID of its own, so that it cannot even speculate
 * into the kernel. Flushing the user half is put off until the way back to user mode.
 *
 * Follows SWITCH_TO_USER_CR3 and SWITCH_TO_KERNEL_CR3 of arch/x86/entry/calling.h.
 *
 * Not modelled: the user's copy of the root table, which lacks the kernel's entries: the same root is
 * loaded under the other PCID.
 */
import { type CpuId, localIrqRestore, localIrqSave, writeCr3 } from '@shootdown/machine';
import type { Kernel, Kthread } from '@shootdown/mmu-gather';
import { hardwarePcid, loadedRoot } from './asid.ts';
import { kernPcid, tlbstate, userPcid, x86 } from './x86.ts';

/**
 * SWITCH_TO_USER_CR3. The way out has interrupts off: a flush that came between the look at the mask
 * and the write of CR3 would leave its note behind.
 */
export function* switchToUserCr3(k: Kernel, cpu: CpuId): Kthread {
  const flags = yield* localIrqSave();
  const state = tlbstate(k, cpu);
  const root = loadedRoot(k, cpu);
  if (x86(k).features.pcid) {
    const asid = state.loadedMmAsid;
    const flush = state.userPcidFlushMask.delete(kernPcid(asid));
    yield* writeCr3(root, userPcid(asid), flush);
  } else yield* writeCr3(root, 0, true);
  yield* localIrqRestore(flags);
}

/** SWITCH_TO_KERNEL_CR3, with interrupts off as well: flushes nothing, where PCIDs allow it. */
export function* switchToKernelCr3(k: Kernel, cpu: CpuId): Kthread {
  const flags = yield* localIrqSave();
  const { loadedMmAsid } = tlbstate(k, cpu);
  yield* writeCr3(loadedRoot(k, cpu), hardwarePcid(k, loadedMmAsid), !x86(k).features.pcid);
  yield* localIrqRestore(flags);
}

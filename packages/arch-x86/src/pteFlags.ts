/**
 * Whether a changed entry needs a flush: only if hardware could still use the old one in a way that
 * the new one forbids. Accessed is set by hardware as needed, and losing it costs nothing.
 *
 * Follows arch/x86/include/asm/tlbflush.h.
 */
import { Pte, pteHas, pteNoExec, ptePfn } from '@shootdown/machine';

/** Bits whose clearing needs a flush and whose setting does not. */
const FLUSH_ON_CLEAR = [Pte.dirty, Pte.present] as const;
/** Bits whose change needs one. PWT, PCD, PAT and protection keys are not modelled. */
const FLUSH_ON_CHANGE = [Pte.write, Pte.user, Pte.huge, Pte.global] as const;

/** @kernel arch/x86/include/asm/tlbflush.h pte_needs_flush */
export function pteNeedsFlush(old: number, now: number): boolean {
  // What is not present is not cached.
  if (!pteHas(old, Pte.present)) return false;
  if (ptePfn(old) !== ptePfn(now)) return true;
  if (FLUSH_ON_CLEAR.some((bit) => pteHas(old, bit) && !pteHas(now, bit))) return true;
  return (
    FLUSH_ON_CHANGE.some((bit) => pteHas(old, bit) !== pteHas(now, bit)) ||
    pteNoExec(old) !== pteNoExec(now)
  );
}

/**
 * Native x86: a flush interrupts every CPU that may hold a translation and waits, so whoever was
 * walking page tables with interrupts off on one of them is done when it returns.
 *
 * Follows arch/x86/mm/tlb.c without paravirtualization and without INVLPGB.
 */
import { nativePvMmuOps, x86Backend, type X86Features } from '@shootdown/arch-x86';
import type { TlbBackend } from '@shootdown/mmu-gather';

/** Options of the native backend. */
export interface NativeOptions {
  /** Features of the CPUs. Default: PCID and INVPCID, no PTI. */
  readonly features?: Partial<X86Features> | undefined;
}

/** The native backend. */
export const native = ({ features }: NativeOptions = {}): TlbBackend =>
  x86Backend({
    id: 'native',
    models: { tree: '7.0', path: 'arch/x86/mm/tlb.c', symbol: 'native_flush_tlb_multi' },
    pv: nativePvMmuOps,
    features,
  });

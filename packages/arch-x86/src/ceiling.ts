/** tlb_single_page_flush_ceiling: how many entries are invalidated one by one. */
import type { Kernel } from '@shootdown/mmu-gather';

/**
 * The default, in entries of the flush's stride. More than 95 % of flushes were below it when it was
 * chosen, and at about 100 ns each it bounds them to 3 us: comment in arch/x86/mm/tlb.c.
 */
export const DEFAULT_CEILING = 33;

/** The ceiling of a kernel. Not modelled: changing it in debugfs. */
export const tlbSinglePageFlushCeiling = (_k: Kernel): number => DEFAULT_CEILING;

/**
 * What happens to tables and pages, for whoever checks the order: unhook, then invalidate, then
 * free. A probe sees it in the order in which the code does it, and changes nothing, as a kprobe.
 */
import type { Page } from './kernel/pageAlloc.ts';
import type { MmStruct } from './mmStruct.ts';

/** By which way a table goes back to the allocator. */
export type TableFreeing = 'page-batch' | 'batch' | 'rcu' | 'one' | 'one-rcu' | 'direct';

/** One step in the life of a page or a table. */
export type ProbeEvent =
  /** The entry that pointed to the table was cleared. */
  | { readonly kind: 'unhook-table'; readonly mm: MmStruct; readonly table: Page }
  /** The entry that mapped the page was cleared. */
  | {
      readonly kind: 'unmap-page';
      readonly mm: MmStruct;
      readonly addr: number;
      readonly pfn: number;
    }
  /** A flush of the mm began; every flush is complete when its `flushed` comes. */
  | {
      readonly kind: 'flush' | 'flushed';
      readonly mm: MmStruct;
      readonly start: number;
      readonly end: number;
      readonly freedTables: boolean;
    }
  /** The table or page is the allocator's again. */
  | { readonly kind: 'free-table'; readonly table: Page; readonly by: TableFreeing }
  | { readonly kind: 'free-page'; readonly page: Page }
  /** Lockless walkers are waited for: by an interrupt to all, or to those who walk, or a grace period. */
  | { readonly kind: 'sync'; readonly by: 'ipi' | 'walkers' | 'rcu' };

/** Looks on. */
export type MmGatherProbe = (event: ProbeEvent) => void;

/**
 * A table that is unshared is for lazy CPUs what a freed one is: they walk it by what they have cached
 * of upper levels, and whoever keeps it reuses it. So every posting from v1 on flushes for both alike.
 */
import type { Edition } from '@shootdown/mmu-gather';
import { flushGathered } from '../tlbFlush.ts';
import type { X86Functions } from '../x86.ts';

/** The x86 part of the edition `name`. */
const part = (name: string): Edition<X86Functions> => ({
  name,
  source: 'arch/x86/include/asm/tlb.h in the last patch of the series',
  notModelled: '',
  replaces: {
    x86TlbFlush: (k, tlb) => flushGathered(k, tlb, tlb.freedTables || tlb.unsharedTables),
  },
});

/** The x86 parts of the editions that say whether a flush implies an IPI broadcast. */
export const reachLazyCpus: readonly Edition<X86Functions>[] = [
  part('targeted-sync-v4'),
  part('targeted-sync-v4-fixed'),
  part('implies-ipi-v7'),
];

/**
 * What changed between kernels, as named rules. A stable tree carries back-ports, so a rule is told
 * per release, with what says so: `source` was read in that release's source, `recording` was seen
 * in a recording of it, `date` follows from the mainline version that has the change.
 */

/** The releases that are modelled. */
export const RELEASES = ['6.1.192', '6.12.117', '6.18', '7.0', '7.3'] as const;

/** A release. */
export type Release = (typeof RELEASES)[number];

/** The release that holds when nobody says: the tree that seed 000's series applies to. */
export const DEFAULT_RELEASE: Release = '7.0';

/**
 * The rules of one release.
 *
 * Not modelled: that 7.3 has flush_tlb_info on the stack and waits preemptibly, because nothing here
 * preempts the kernel.
 */
export interface Rules {
  /** x86 clears a CPU's bit in mm_cpumask late: at a flush that finds another mm loaded. */
  readonly cpumaskClearedLazily: boolean;
  /** A flush once a second also goes to CPUs of the mask that have another mm loaded. */
  readonly trimsCpumask: boolean;
  /** flush_tlb_range() passes freed_tables, so lazy CPUs are reached. */
  readonly flushRangeFreesTables: boolean;
  /** x86 removes tables as its pv ops say: natively by the page batch. Later: always by RCU. */
  readonly pvRemovesTables: boolean;
  /** Empty PTE tables go when MADV_DONTNEED clears their whole range (x86-64). */
  readonly ptReclaim: boolean;
  /** Without memory for a batch a single table waits for a grace period, not for an IPI to all. */
  readonly tableOneByRcu: boolean;
  /** Unsharing a hugetlb PMD table is part of the gather; before, each one interrupts everybody. */
  readonly unshareInGather: boolean;
  /** The flush for VM_PFNMAP VMAs is in tlb_free_vmas(), no longer in tlb_end_vma(). */
  readonly pfnmapFlushInFreeVmas: boolean;
  /** MADV_PAGEOUT clears the accessed bit first, with a flush of its own. */
  readonly pageoutClearsYoung: boolean;
}

/** How a rule is known. */
export type Evidence = 'source' | 'recording' | 'date';

interface Rule {
  /** What it is, for the table in the docs. */
  readonly since: string;
  /** By release, oldest first. */
  readonly holds: readonly [boolean, boolean, boolean, boolean, boolean];
  readonly evidence: readonly [Evidence, Evidence, Evidence, Evidence, Evidence];
}

const READ_THRICE = ['source', 'source', 'date', 'date', 'source'] as const;
const SEEN_THRICE = ['recording', 'recording', 'date', 'date', 'source'] as const;

/** The table. Dates are of mainline: see docs/kernel-map.md. */
export const RULES: Readonly<Record<keyof Rules, Rule>> = {
  cpumaskClearedLazily: {
    since: '6.14, 209954cbc7d0',
    holds: [false, false, true, true, true],
    evidence: SEEN_THRICE,
  },
  trimsCpumask: {
    since: '6.14, 6db2526c1d69; back-ported to 6.1 and 6.12, where it finds nothing to trim',
    holds: [true, true, true, true, true],
    evidence: SEEN_THRICE,
  },
  flushRangeFreesTables: {
    since: '6.14, 3ef938c35035; back-ported to 6.1 and 6.12',
    holds: [true, true, true, true, true],
    evidence: SEEN_THRICE,
  },
  pvRemovesTables: {
    since: 'until 6.15, a37259732a7d',
    holds: [true, true, false, false, false],
    evidence: READ_THRICE,
  },
  ptReclaim: {
    since: '6.14 for x86-64',
    holds: [false, false, true, true, true],
    evidence: READ_THRICE,
  },
  tableOneByRcu: {
    since: 'about 7.1, 1fb3d8c20bfa',
    holds: [false, false, false, false, true],
    evidence: READ_THRICE,
  },
  unshareInGather: {
    since: '6.19, 8ce720d5bd91; back-ported to 6.1 and 6.12, later than 6.18',
    holds: [true, true, false, true, true],
    evidence: READ_THRICE,
  },
  pfnmapFlushInFreeVmas: {
    since: '2025; 6.12 still has it in tlb_end_vma()',
    holds: [false, false, true, true, true],
    evidence: READ_THRICE,
  },
  pageoutClearsYoung: {
    since: 'until 6.12',
    holds: [true, false, false, false, false],
    evidence: SEEN_THRICE,
  },
};

/** The rules of `release`. */
export function rulesOf(release: Release): Rules {
  const at = RELEASES.indexOf(release);
  const rules = Object.entries(RULES).map(([name, { holds }]) => [name, holds[at] === true]);
  return Object.fromEntries(rules);
}

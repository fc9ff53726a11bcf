/**
 * The Kconfig options that decide how mmu_gather works. An option is named as in the kernel's
 * Kconfig files, without CONFIG_.
 */
import { UsageError } from '@shootdown/machine';
import type { TlbBackend } from './tlb.ts';

/** All options. */
export interface Kconfig {
  /** Tables have a batch of their own; without it tlb_remove_table() is tlb_remove_page(). */
  readonly MMU_GATHER_TABLE_FREE: boolean;
  /** That batch is freed by call_rcu(), and the table sync is real. Selects TABLE_FREE. */
  readonly MMU_GATHER_RCU_TABLE_FREE: boolean;
  /**
   * Hardware walks no Linux page tables, so tables need no invalidation before they are freed. Newer
   * trees have tlb_needs_table_invalidate() instead: `TlbClaims.needsTableInvalidate`.
   */
  readonly MMU_GATHER_NO_TABLE_INVALIDATE: boolean;
  /** No ranges: every flush is of the whole mm. Selects MERGE_VMAS. */
  readonly MMU_GATHER_NO_RANGE: boolean;
  /** No page batch: pages are freed one by one, because clearing an entry has invalidated it. */
  readonly MMU_GATHER_NO_GATHER: boolean;
  /** One range over all VMAs: tlb_end_vma() does not flush. */
  readonly MMU_GATHER_MERGE_VMAS: boolean;
  /** One page size per batch: a change flushes. */
  readonly MMU_GATHER_PAGE_SIZE: boolean;
  /** Empty page tables are reclaimed by MADV_DONTNEED, and a single table is freed by call_rcu(). */
  readonly PT_RECLAIM: boolean;
  /** Processes share PMD tables of hugetlb mappings. */
  readonly HUGETLB_PMD_PAGE_TABLE_SHARING: boolean;
}

/** What an architecture has that selects nothing. */
export const NO_OPTIONS: Kconfig = {
  MMU_GATHER_TABLE_FREE: false,
  MMU_GATHER_RCU_TABLE_FREE: false,
  MMU_GATHER_NO_TABLE_INVALIDATE: false,
  MMU_GATHER_NO_RANGE: false,
  MMU_GATHER_NO_GATHER: false,
  MMU_GATHER_MERGE_VMAS: false,
  MMU_GATHER_PAGE_SIZE: false,
  PT_RECLAIM: false,
  HUGETLB_PMD_PAGE_TABLE_SHARING: false,
};

/** `select`: who sets the first gets the second. */
const SELECTS: readonly (readonly [keyof Kconfig, keyof Kconfig])[] = [
  ['MMU_GATHER_RCU_TABLE_FREE', 'MMU_GATHER_TABLE_FREE'],
  ['MMU_GATHER_NO_RANGE', 'MMU_GATHER_MERGE_VMAS'],
];

/** `depends on`: the first is refused without the second. */
const DEPENDS: readonly (readonly [keyof Kconfig, keyof Kconfig, string])[] = [
  [
    'MMU_GATHER_NO_GATHER',
    'MMU_GATHER_TABLE_FREE',
    'without a page batch tables need a batch of their own',
  ],
  [
    'MMU_GATHER_NO_TABLE_INVALIDATE',
    'MMU_GATHER_RCU_TABLE_FREE',
    'without RCU the invalidation is what keeps a walker off a freed table',
  ],
  ['PT_RECLAIM', 'MMU_GATHER_RCU_TABLE_FREE', 'reclaimed tables are freed by RCU'],
];

const OPTIONS = Object.keys(NO_OPTIONS) as readonly (keyof Kconfig)[];

/**
 * The configuration of a kernel: what the backend's architecture selects, changed by `wanted`.
 *
 * @throws UsageError ERR_KCONFIG for an option that does not exist or a combination that no kernel
 * can have, by name.
 */
export function resolveKconfig(backend: TlbBackend, wanted: Partial<Kconfig> = {}): Kconfig {
  for (const given of Object.keys({ ...backend.kconfig, ...wanted }))
    if (!OPTIONS.includes(given as keyof Kconfig))
      throw refused(`there is no option ${given}; the options are ${OPTIONS.join(', ')}`);
  const config: Record<keyof Kconfig, boolean> = { ...NO_OPTIONS, ...backend.kconfig, ...wanted };
  for (const [option, selected] of SELECTS) {
    if (!config[option]) continue;
    if (wanted[selected] === false)
      throw refused(`${option} selects ${selected}, which cannot be off then`);
    config[selected] = true;
  }
  for (const [option, needed, why] of DEPENDS)
    if (config[option] && !config[needed])
      throw refused(`${option} depends on ${needed}: ${why}; turn that on, or this off`);
  checkBackend(backend, config);
  return config;
}

/** What a backend must bring, or must not, for an option. */
function checkBackend(backend: TlbBackend, config: Kconfig): void {
  const { id } = backend;
  if (config.MMU_GATHER_NO_RANGE && backend.tlbFlush !== undefined)
    throw refused(
      `MMU_GATHER_NO_RANGE relies on the generic tlb_flush(), and ${id} brings its own: leave out tlbFlush`,
    );
  if (config.MMU_GATHER_NO_GATHER && backend.ptepGetAndClear === undefined)
    throw refused(
      `MMU_GATHER_NO_GATHER frees pages one by one, so clearing an entry must invalidate it: ${id} has no ptepGetAndClear`,
    );
  if (!backend.claims.needsTableInvalidate && !config.MMU_GATHER_RCU_TABLE_FREE)
    throw refused(
      `${id} claims that tables need no invalidation (needsTableInvalidate: false), which needs MMU_GATHER_RCU_TABLE_FREE`,
    );
}

const refused = (why: string): UsageError => new UsageError('ERR_KCONFIG', why);

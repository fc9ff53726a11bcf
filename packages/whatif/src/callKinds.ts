/**
 * What a function call sent to another CPU is for, by the name of the function that runs there. The
 * names are the kernel's (arch/x86/mm/tlb.c, mm/mmu_gather.c, arch/x86/kernel/alternative.c,
 * kernel/sched/core.c, kernel/rcu/tree_exp.h, ...), old ones kept because old traces keep them.
 */

/** What a call is for. The first five are TLB work. */
export type CallKind =
  | 'user-flush'
  | 'flush-all'
  | 'kernel-range'
  | 'cpa-flush'
  | 'table-sync'
  | 'text-patching'
  | 'scheduler'
  | 'rcu'
  | 'membarrier'
  | 'other';

/** What is true of every call of a kind. */
export interface KindFacts {
  /** In words, one and many. */
  readonly label: string;
  readonly plural: string;
  /** In a strip; capitals for TLB work. */
  readonly letter: string;
  readonly tlb: boolean;
  /**
   * Whom such a call goes to: CPUs that have the flushed address space loaded (idle, lazy ones
   * too), every CPU, or the one CPU that is meant.
   */
  readonly reach: 'address-space' | 'all-cpus' | 'one-cpu';
  /**
   * Whether the sender's system call is to blame, or the place in the kernel that sent it (wake-ups
   * and ticks belong to nobody's call).
   */
  readonly blame: 'task' | 'callsite';
}

const tlb = { tlb: true, blame: 'task' } as const;
const other = { tlb: false } as const;

/** The kinds, in the order in which reports list them. */
export const CALL_KINDS: Readonly<Record<CallKind, KindFacts>> = {
  'user-flush': {
    ...tlb,
    label: 'user TLB flush',
    plural: 'user TLB flushes',
    letter: 'U',
    reach: 'address-space',
  },
  'flush-all': {
    ...tlb,
    label: 'flush of everything',
    plural: 'flushes of everything',
    letter: 'A',
    reach: 'all-cpus',
  },
  'kernel-range': {
    ...tlb,
    label: 'kernel-range flush',
    plural: 'kernel-range flushes',
    letter: 'K',
    reach: 'all-cpus',
  },
  'cpa-flush': {
    ...tlb,
    label: 'page-attribute flush',
    plural: 'page-attribute flushes',
    letter: 'C',
    reach: 'all-cpus',
  },
  'table-sync': {
    ...tlb,
    label: 'page-table sync',
    plural: 'page-table syncs',
    letter: 'P',
    reach: 'all-cpus',
  },
  'text-patching': {
    ...other,
    label: 'text patching',
    plural: 'text patchings',
    letter: 't',
    reach: 'all-cpus',
    blame: 'task',
  },
  scheduler: {
    ...other,
    label: 'scheduler',
    plural: 'scheduler calls',
    letter: 's',
    reach: 'one-cpu',
    blame: 'callsite',
  },
  rcu: {
    ...other,
    label: 'RCU',
    plural: 'RCU calls',
    letter: 'r',
    reach: 'all-cpus',
    blame: 'callsite',
  },
  membarrier: {
    ...other,
    label: 'membarrier',
    plural: 'membarriers',
    letter: 'm',
    reach: 'address-space',
    blame: 'task',
  },
  other: {
    ...other,
    label: 'other',
    plural: 'others',
    letter: 'o',
    reach: 'one-cpu',
    blame: 'task',
  },
};

/** Every kind, in the order of CALL_KINDS. */
export const KIND_NAMES: readonly CallKind[] = Object.keys(CALL_KINDS) as CallKind[];

const BY_FUNCTION: ReadonlyMap<string, CallKind> = new Map<string, CallKind>([
  ['flush_tlb_func', 'user-flush'],
  ['flush_tlb_func_remote', 'user-flush'], // until 5.12
  ['ipi_flush_tlb_mm', 'user-flush'], // arm without broadcast TLBI
  ['ipi_flush_tlb_page', 'user-flush'],
  ['ipi_flush_tlb_range', 'user-flush'],
  ['do_flush_tlb_all', 'flush-all'],
  ['ipi_flush_tlb_all', 'flush-all'],
  ['do_kernel_range_flush', 'kernel-range'],
  ['ipi_flush_tlb_kernel_range', 'kernel-range'],
  ['ipi_flush_tlb_kernel_page', 'kernel-range'],
  ['__cpa_flush_tlb', 'cpa-flush'], // set_memory_*(): modules, BPF
  ['__cpa_flush_all', 'cpa-flush'],
  ['tlb_remove_table_smp_sync', 'table-sync'],
  ['do_sync_core', 'text-patching'],
  ['sched_ttwu_pending', 'scheduler'],
  ['nohz_csd_func', 'scheduler'],
  ['nohz_full_kick_func', 'scheduler'],
  ['rcu_exp_handler', 'rcu'],
  ['rcu_exp_need_qs', 'rcu'],
  ['rcu_barrier_handler', 'rcu'],
  ['ipi_mb', 'membarrier'],
  ['ipi_sync_core', 'membarrier'],
  ['ipi_rseq', 'membarrier'],
  ['ipi_sync_rq_state', 'membarrier'],
]);

/** What a call of `func` is for. */
export function callKind(func: string): CallKind {
  return BY_FUNCTION.get(func) ?? 'other';
}

/**
 * Whether /proc/interrupts' TLB row counts a run of `func` on a CPU that did not ask for it: only
 * the user flush's handler does.
 */
export function countsInTlbRow(func: string): boolean {
  return func === 'flush_tlb_func' || func === 'flush_tlb_func_remote';
}

/**
 * Places that send an interrupt on nobody's behalf: a tick to be kicked, a task to be woken. Where
 * the function is not traced, the place tells.
 */
export const SCHEDULER_CALLSITES: ReadonlySet<string> = new Set([
  'irq_work_queue_on',
  'ttwu_queue_wakelist',
  '__smp_call_single_queue',
]);

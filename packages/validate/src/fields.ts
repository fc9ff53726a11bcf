/**
 * What of a recorded event is taken for granted and what is compared. The two sets are disjoint: a
 * field that starts the code is never used to judge it. One table for each depth of recording.
 */

/** How much a recording says. */
export type Depth = 'probes' | 'csd' | 'tlb_flush';

/** One kind of event. */
export interface EventFields {
  /** What the model is told. `when` is that the event happens at all, and when. */
  readonly inputs: readonly string[];
  /** What the model has to say itself. */
  readonly judged: readonly string[];
}

type Fields = Readonly<Record<string, EventFields>>;

const given = (...inputs: readonly string[]): EventFields => ({ inputs, judged: [] });
const judged = (...fields: readonly string[]): EventFields => ({ inputs: [], judged: fields });

/** Who runs where, who is born, who may be unmapping in batches: the same at every depth. */
const TASKS: Fields = {
  sched_switch: given('when', 'prevPid', 'prevComm', 'nextPid', 'nextComm'),
  sched_process_fork: given('when', 'child_pid'),
  sched_process_exit: given('when'),
  sys_enter: given('when', 'syscall', 'clone_flags', 'behavior'),
  sys_exit: given('when'),
  mm_migrate_pages_start: given('when'),
  mm_migrate_pages: given('when'),
  vector_entry: given('when', 'irq'),
  vector_exit: given('when', 'irq'),
};

/** With probes on the functions of arch/x86/mm/tlb.c. */
const PROBES: Fields = {
  ...TASKS,
  flush_tlb_mm_range: {
    inputs: ['when', 'mm', 'start', 'end', 'stride', 'freed'],
    judged: ['gen_before', 'mask'],
  },
  flush_tlb_multi: {
    inputs: ['trim'],
    judged: ['when', 'mask', 'start', 'end', 'gen'],
  },
  smp_many: judged('mask'),
  should_flush: judged('when', 'cpu', 'ret'),
  should_flush_q: judged('when', 'cpu'),
  should_flush_a: judged('when', 'ret'),
  flush_tlb_func: judged('when', 'mm', 'start', 'end', 'gen', 'init'),
  flush_tlb_mm_range_ret: judged('when'),
  switch_mm: { inputs: ['when', 'next', 'next_ctx'], judged: ['next_gen', 'next_mask'] },
  cr3_a: judged('cr3'),
  cr3_b: judged('cr3'),
  enter_lazy: given('when'),
  batch_flush: given('when', 'mask'),
  table_sync: given('when'),
  flush_all: given('when'),
  flush_kernel: given('when', 'start', 'end'),
  tlb_flush: judged('when', 'reason', 'pages'),
  csd_queue_cpu: { inputs: ['csd', 'callsite'], judged: ['when', 'target', 'func'] },
  ipi_send: judged('when', 'targets', 'name'),
  csd_function_entry: { inputs: ['when', 'csd'], judged: ['func'] },
  csd_function_exit: given('when', 'csd'),
};

/** Without probes: what starts a flush is its own event, so that of a sender is given. */
const TLB_FLUSH: Fields = {
  ...TASKS,
  sched_process_exec: given('when'),
  tlb_flush: {
    inputs: ['reason 4: when, pages', 'reason 3 without 4: when, pages'],
    judged: ['reason 0: when, pages', 'reason 1: pages', 'reason 3 behind 4: pages'],
  },
};

/** The stock tracepoints, csd events among them. */
const CSD: Fields = {
  ...TLB_FLUSH,
  csd_queue_cpu: { inputs: ['csd', 'callsite'], judged: ['when', 'target', 'func'] },
  ipi_send: judged('when', 'targets', 'name'),
  csd_function_entry: { inputs: ['when', 'csd'], judged: ['func'] },
  csd_function_exit: given('when', 'csd'),
};

/** The fields of each depth. */
export const FIELDS: Readonly<Record<Depth, Fields>> = {
  probes: PROBES,
  csd: CSD,
  tlb_flush: TLB_FLUSH,
};

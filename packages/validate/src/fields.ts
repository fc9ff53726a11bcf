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

/** With probes on the functions of arch/x86/mm/tlb.c: see `shootdown record --depth probes`. */
const PROBES: Readonly<Record<string, EventFields>> = {
  flush_tlb_mm_range: {
    inputs: ['when', 'mm', 'start', 'end', 'stride', 'freed'],
    judged: ['gen_before', 'mask'],
  },
  flush_tlb_multi: {
    inputs: [],
    judged: ['when', 'mask', 'mm', 'start', 'end', 'gen', 'stride', 'freed'],
  },
  should_flush: { inputs: [], judged: ['when', 'cpu', 'ret'] },
  flush_tlb_func: {
    inputs: [],
    judged: ['when', 'mm', 'start', 'end', 'gen', 'init', 'stride', 'freed'],
  },
  flush_tlb_mm_range_ret: { inputs: [], judged: ['when'] },
  switch_mm: { inputs: ['when', 'next', 'next_ctx'], judged: ['next_gen', 'next_mask'] },
  cr3_a: { inputs: [], judged: ['when', 'cr3'] },
  cr3_b: { inputs: [], judged: ['when', 'cr3'] },
  enter_lazy: { inputs: ['when'], judged: [] },
  batch_flush: { inputs: ['when', 'mask'], judged: [] },
  table_sync: { inputs: ['when'], judged: [] },
  flush_all: { inputs: ['when'], judged: [] },
  flush_kernel: { inputs: ['when', 'start', 'end'], judged: [] },
  tlb_flush: { inputs: [], judged: ['when', 'reason', 'pages'] },
  csd_queue_cpu: { inputs: ['csd'], judged: ['when', 'target', 'func'] },
  ipi_send: { inputs: [], judged: ['when', 'targets', 'name'] },
  csd_function_entry: { inputs: ['when', 'csd'], judged: ['func'] },
  csd_function_exit: { inputs: ['when', 'csd'], judged: [] },
  sched_switch: { inputs: ['when', 'nextPid'], judged: [] },
  sched_process_fork: { inputs: ['when', 'child_pid'], judged: [] },
  sys_enter: { inputs: ['when', 'syscall', 'clone_flags'], judged: [] },
  vector_entry: { inputs: ['when'], judged: [] },
};

/** The stock tracepoints, csd events among them. */
const CSD: Readonly<Record<string, EventFields>> = {
  tlb_flush: { inputs: ['reason 4: when, pages'], judged: ['reason 0, 1, 3: when, pages'] },
  csd_queue_cpu: { inputs: ['csd'], judged: ['when', 'target'] },
  ipi_send: { inputs: [], judged: ['when', 'targets', 'name'] },
  csd_function_entry: { inputs: ['when', 'csd'], judged: [] },
  csd_function_exit: { inputs: ['when', 'csd'], judged: [] },
  sched_switch: { inputs: ['when', 'nextPid'], judged: [] },
  sched_process_fork: { inputs: ['when', 'child_pid'], judged: [] },
  sys_enter: { inputs: ['when', 'syscall', 'clone_flags'], judged: [] },
};

/** tlb:tlb_flush and sched:sched_switch alone. */
const TLB_FLUSH: Readonly<Record<string, EventFields>> = {
  tlb_flush: { inputs: ['reason 4: when, pages'], judged: ['reason 0, 1, 3: pages'] },
  sched_switch: { inputs: ['when', 'nextPid'], judged: [] },
  sched_process_fork: { inputs: ['when', 'child_pid'], judged: [] },
};

/** The fields of each depth. */
export const FIELDS: Readonly<Record<Depth, Readonly<Record<string, EventFields>>>> = {
  probes: PROBES,
  csd: CSD,
  tlb_flush: TLB_FLUSH,
};

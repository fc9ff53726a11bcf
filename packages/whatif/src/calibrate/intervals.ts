/**
 * What is measured: each interval by the events at its two ends. An interval whose events are not in
 * the trace has no data, which is not 0.
 */

/** The name of an interval. */
export type IntervalId =
  | 'queue-handler'
  | 'send-entry'
  | 'send-own'
  | 'interrupt'
  | 'handler'
  | 'own-handler'
  | 'remote-flush'
  | 'local-flush'
  | 'wait-return'
  | 'wait-last'
  | 'switch';

/** What is true of every interval of a name. */
export interface IntervalFacts {
  readonly title: string;
  /** The events at its ends, in words. */
  readonly from: string;
  readonly to: string;
  /** Whether the ends are on different CPUs. */
  readonly acrossCpus: boolean;
  /** Events without which there is none: of each group one. */
  readonly needs: readonly (readonly string[])[];
}

const QUEUE = ['csd_queue_cpu'];
const ENTRY = ['csd_function_entry'];
const EXIT = ['csd_function_exit'];
const SEND = ['ipi_send_cpu', 'ipi_send_cpumask'];
const IRQ_ENTRY = ['call_function_entry', 'call_function_single_entry'];
const IRQ_EXIT = ['call_function_exit', 'call_function_single_exit'];
const FLUSH = ['tlb_flush'];
/** kprobes on these functions, named like them: docs/calibrate.md. */
const FUNC_PROBE = ['flush_tlb_func'];
const RETURN_PROBE = ['flush_tlb_mm_range_ret'];

/** The intervals, in the order of a shootdown. */
export const INTERVALS: Readonly<Record<IntervalId, IntervalFacts>> = {
  'send-own': {
    title: 'send to own part',
    from: 'ipi_send_cpu, ipi_send_cpumask',
    to: 'csd_function_entry with csd=0, right behind it on the same CPU',
    acrossCpus: false,
    needs: [SEND, ENTRY],
  },
  'queue-handler': {
    title: 'queue to handler',
    from: 'csd_queue_cpu',
    to: 'csd_function_entry of the same csd on its target',
    acrossCpus: true,
    needs: [QUEUE, ENTRY],
  },
  'send-entry': {
    title: 'IPI send to vector entry',
    from: 'ipi_send_cpu, ipi_send_cpumask of a function call',
    to: 'call_function_single_entry, call_function_entry on its target, if it was the only send for it',
    acrossCpus: true,
    needs: [SEND, IRQ_ENTRY],
  },
  interrupt: {
    title: 'call-function interrupt',
    from: 'call_function_single_entry, call_function_entry',
    to: 'its exit',
    acrossCpus: false,
    needs: [IRQ_ENTRY, IRQ_EXIT],
  },
  handler: {
    title: 'flush_tlb_func for another CPU',
    from: 'csd_function_entry of func=flush_tlb_func',
    to: 'its csd_function_exit',
    acrossCpus: false,
    needs: [ENTRY, EXIT],
  },
  'own-handler': {
    title: 'flush_tlb_func, own part',
    from: 'csd_function_entry of func=flush_tlb_func with csd=0',
    to: 'its csd_function_exit',
    acrossCpus: false,
    needs: [ENTRY, EXIT],
  },
  'remote-flush': {
    title: 'flush for another CPU',
    from: 'a probe on flush_tlb_func, or csd_function_entry',
    to: 'tlb_flush reason 1',
    acrossCpus: false,
    needs: [[...FUNC_PROBE, ...ENTRY], FLUSH],
  },
  'local-flush': {
    title: 'flush of its own',
    from: 'a probe on flush_tlb_func, or csd_function_entry with csd=0',
    to: 'tlb_flush reason 3',
    acrossCpus: false,
    needs: [[...FUNC_PROBE, ...ENTRY], FLUSH],
  },
  'wait-return': {
    title: 'wait, to the return',
    from: 'tlb_flush reason 4',
    to: 'a return probe on flush_tlb_mm_range',
    acrossCpus: false,
    needs: [FLUSH, RETURN_PROBE],
  },
  'wait-last': {
    title: 'wait, to the last target',
    from: 'tlb_flush reason 4',
    to: 'csd_function_exit of the last CPU it called',
    acrossCpus: true,
    needs: [FLUSH, QUEUE, EXIT],
  },
  switch: {
    title: 'switch of address space',
    from: 'sched_switch',
    to: 'tlb_flush reason 0 right behind it (0: the ASID was kept)',
    acrossCpus: false,
    needs: [['sched_switch'], FLUSH],
  },
};

/** Every name, in the order of INTERVALS. */
export const INTERVAL_IDS: readonly IntervalId[] = Object.keys(INTERVALS) as IntervalId[];

/** All events that any interval needs. */
export const NEEDED: ReadonlySet<string> = new Set(
  Object.values(INTERVALS).flatMap(({ needs }) => needs.flat()),
);

/** Why `id` has no data in a trace in which only the events `seen` are. */
export function whyNone(id: IntervalId, seen: ReadonlySet<string>): string {
  const missing = INTERVALS[id].needs.find((names) => !names.some((name) => seen.has(name)));
  return missing === undefined
    ? 'no pair of its events in this trace'
    : `no ${missing.join(' or ')} events in this trace`;
}

/**
 * The answer of `run` as plain JSON: what `-f json` prints, what the schema describes, and all that
 * text and Markdown draw from.
 */

/** Function-call interrupts for one function on behalf of one origin. */
export interface IpiView {
  /** The kernel function that the targets run: flush_tlb_func, tlb_remove_table_smp_sync, ... */
  readonly function: string;
  /** What the sender was doing: a system call, page_fault, exit. */
  readonly during: string;
  /** Times it was sent, to one CPU or to many. */
  readonly sends: number;
  /** CPUs interrupted, summed over the sends. */
  readonly interrupts: number;
}

/** tlb:tlb_flush events of one kind. */
export interface FlushView {
  /** enum tlb_flush_reason, 0 to 5. */
  readonly reason: number;
  /** -1 is a flush of everything. */
  readonly pages: number;
  readonly count: number;
}

/** What happened between two marks of the workload. */
export interface PhaseView {
  readonly name: string;
  /** Simulated nanoseconds. */
  readonly timeNs: number;
  readonly ipis: readonly IpiView[];
  readonly flushes: readonly FlushView[];
  /** Function-call interrupts by CPU that took them: the CAL row of /proc/interrupts. */
  readonly interrupts: readonly number[];
  /** Functions that flushed for another CPU, by CPU: the TLB row. */
  readonly tlbRow: readonly number[];
  /** Changes of /proc/vmstat, by name. */
  readonly vmstat: Readonly<Record<string, number>>;
}

/** The view. */
export interface RunView {
  readonly schemaVersion: 1;
  readonly command: 'run';
  readonly toolVersion: string;
  readonly workload: string;
  readonly title: string;
  readonly parameters: Readonly<Record<string, number | readonly number[]>>;
  readonly cpus: number;
  readonly threads: number;
  /** Cpu lists; empty if there are none. */
  readonly isolated: string;
  readonly lazy: string;
  readonly kernel: string;
  readonly backend: string;
  readonly editions: readonly string[];
  /** The profile that changed the cost table, and which entries it set; null: the table as it is. */
  readonly costProfile: { readonly file: string; readonly entries: readonly string[] } | null;
  /** The whole run, start and exit of the workload included. */
  readonly simulated: {
    readonly timeNs: number;
    /** Steps of all CPUs. */
    readonly ops: number;
    /** Interrupts taken, of every kind. */
    readonly interrupts: number;
  };
  /** Between the marks, in the order in which they began. */
  readonly phases: readonly PhaseView[];
  /** All phases together. */
  readonly total: PhaseView;
  /** What the kernel's own WARNs said: a finding, if there is any. */
  readonly warnings: readonly string[];
}

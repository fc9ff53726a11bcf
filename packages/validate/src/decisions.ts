/** What is judged, and how the judging went. */
import { Known, type Level } from './knowledge.ts';

/** What a kernel decides about its TLBs, as far as a recording shows it. */
export const DECISIONS = {
  should_flush: 'should_flush_tlb(): a CPU is interrupted if it is not lazy and has the mm loaded',
  targets_kept:
    'freed_tables=0: the CPUs of mm_cpumask are queued of which should_flush_tlb() holds',
  targets_freed: 'freed_tables=1: every other CPU of mm_cpumask is queued, lazy or not',
  send: 'flush_tlb_mm_range(): reason 4 if mm_cpumask has another CPU, else a local flush only',
  range: 'flush_tlb_mm_range(): more than 33 entries become a flush of everything',
  flush:
    'flush_tlb_func(): nothing if the generation is reached, partial if this flush is the only one missing, else full',
  switch: 'switch_mm_irqs_off(): flush unless an ASID holds the mm at its present generation',
  asid: 'choose_new_asid(): the ASID that holds the mm, else the next in turn of six',
  generation: 'inc_mm_tlb_gen(): every flush of an mm raises its generation by one',
  cpumask: 'switch_mm_irqs_off(): a CPU joins the mm_cpumask of what it loads',
  vector:
    'smp_call_function_many_cond(): one interrupt if the queue was empty, by 251 for one CPU and 252 for more',
  broadcast: 'tlb_remove_table_sync_one() and kernel ranges: every CPU that is online is called',
} as const;

/** A kind of decision. */
export type DecisionKind = keyof typeof DECISIONS;

/** How the decisions of one kind went. */
export interface Score {
  /** Decided from what is known, and as recorded. */
  equal: number;
  /** Of these: explained only by another order of the steps between two records. */
  reordered: number;
  /** Decided from what is known, and not as recorded. */
  different: number;
  /** Decided from what was learned, and as recorded; or not. */
  learned: number;
  learnedDifferent: number;
  /** Not decidable, by what is missing. */
  readonly undecidable: Map<string, number>;
}

/** How many decisions that are. */
export const totalOf = (of: Score): number =>
  of.equal + of.different + of.learned + of.learnedDifferent + undecidableOf(of);

/** How many could not be decided. */
export const undecidableOf = ({ undecidable }: Score): number =>
  Array.from(undecidable.values()).reduce((sum, count) => sum + count, 0);

/** Scores by kind. */
export type Scores = Readonly<Record<DecisionKind, Score>>;

const newScore = (): Score => ({
  equal: 0,
  reordered: 0,
  different: 0,
  learned: 0,
  learnedDifferent: 0,
  undecidable: new Map(),
});

/** Nothing judged yet. */
export const newScores = (): Scores => ({
  should_flush: newScore(),
  targets_kept: newScore(),
  targets_freed: newScore(),
  send: newScore(),
  range: newScore(),
  flush: newScore(),
  switch: newScore(),
  asid: newScore(),
  generation: newScore(),
  cpumask: newScore(),
  vector: newScore(),
  broadcast: newScore(),
});

/** One decision as it went. */
export interface Verdict {
  readonly kind: DecisionKind;
  readonly how: 'first' | 'other' | null;
  readonly basis: Level;
  /** What is missing, if the basis is Known.no. */
  readonly missing: string;
}

/** Puts a verdict in the books. */
export function score(scores: Scores, { kind, how, basis, missing }: Verdict): void {
  const of = scores[kind];
  if (basis === Known.no) {
    of.undecidable.set(missing, (of.undecidable.get(missing) ?? 0) + 1);
    return;
  }
  if (basis === Known.learned) {
    if (how === null) of.learnedDifferent++;
    else of.learned++;
    return;
  }
  if (how === null) of.different++;
  else of.equal++;
  if (how === 'other') of.reordered++;
}

/** A decision that the recording shows otherwise. */
export interface Difference {
  readonly kind: DecisionKind;
  /** The record's place among all records, from 1 on, and its time on the trace's axis. */
  readonly record: number;
  readonly time: number;
  readonly cpu: number;
  readonly task: string;
  readonly ours: string;
  readonly recorded: string;
  /** What ours rests on. */
  readonly because: string;
  readonly learned: boolean;
  /** It lies between the marks of the workload. */
  readonly inWorkload: boolean;
}

/** What a validation gives. */
import type { Release } from '@shootdown/mmu-gather';
import type { Difference, Scores } from './decisions.ts';
import type { Depth } from './fields.ts';
import type { Finding } from './survey.ts';

/** The result of one validation. */
export interface ValidationResult {
  /** The name of the input. */
  readonly trace: string;
  readonly records: number;
  /** Records of CPUs that the machine was said not to have. */
  readonly outside: number;
  /** Events that are known to be missing, or places where some are. */
  readonly lost: number;
  readonly depth: Depth;
  readonly kernel: Finding<Release>;
  readonly cpus: Finding<number>;
  readonly pcid: Finding<boolean>;
  readonly pti: Finding<boolean>;
  readonly backend: string;
  /** Ring buffers were full, so that CPUs begin at different times. */
  readonly wrapped: boolean;
  /** Of everything. */
  readonly scores: Scores;
  /** Of what lies between the marks WORKLOAD_BEGIN and WORKLOAD_END; null without marks. */
  readonly workload: Scores | null;
  /** The first of them, in full. */
  readonly differences: readonly Difference[];
  readonly differenceCount: number;
  /** How often the model was put right, by reason. */
  readonly resyncs: ReadonlyMap<string, number>;
  /** What the reader had to say. */
  readonly notes: readonly string[];
}

/** Keeps the books of a validation: scores, the first differences, what had to be put right. */
import type { RecordedRecord } from '@shootdown/trace';
import {
  type DecisionKind,
  type Difference,
  newScores,
  type Score,
  score,
  type Scores,
  type Verdict,
} from './decisions.ts';
import { Known, type Level } from './knowledge.ts';
import { MISSING } from './missing.ts';

/** One decision that is to be judged. */
export interface Decision {
  readonly kind: DecisionKind;
  readonly how: 'first' | 'other' | null;
  readonly basis: Level;
  /** What is missing if the basis is Known.no. */
  readonly missing?: string;
  readonly ours: () => string;
  readonly recorded: () => string;
  readonly because: () => string;
}

function withdraw(from: Score, learned: boolean): void {
  if (learned) from.learnedDifferent--;
  else from.different--;
  from.undecidable.set(MISSING.lost, (from.undecidable.get(MISSING.lost) ?? 0) + 1);
}

/** How many differences are kept in full. */
const KEPT = 50;

/** The books. */
export class Judge {
  /** Of everything, and of what lies between WORKLOAD_BEGIN and WORKLOAD_END. */
  readonly all: Scores = newScores();
  readonly workload: Scores = newScores();
  readonly differences: Difference[] = [];
  differenceCount = 0;
  /** How often the model was put right, by reason. */
  readonly resyncs: Map<string, number> = new Map();
  inWorkload = false;
  record: RecordedRecord | null = null;
  seq = 0;

  /** Puts one decision in the books. Gives whether it was as recorded. */
  decide(decision: Decision): boolean {
    const { kind, how, basis, missing = 'state from before the recording' } = decision;
    const verdict: Verdict = { kind, how, basis, missing };
    score(this.all, verdict);
    if (this.inWorkload) score(this.workload, verdict);
    if (how !== null) return true;
    if (basis !== Known.no) this.#differ(decision);
    return false;
  }

  /** What was found different since record `seq` may be so because of events that are missing. */
  withdraw(seq: number): void {
    for (let last = this.differences.at(-1); last !== undefined; last = this.differences.at(-1)) {
      if (last.record <= seq) return;
      this.differences.pop();
      this.differenceCount--;
      withdraw(this.all[last.kind], last.learned);
      if (last.inWorkload) withdraw(this.workload[last.kind], last.learned);
    }
  }

  /** The model was put right. */
  resync(reason: string): void {
    this.resyncs.set(reason, (this.resyncs.get(reason) ?? 0) + 1);
  }

  #differ({ kind, basis, ours, recorded, because }: Decision): void {
    this.differenceCount++;
    if (this.differences.length >= KEPT || this.record === null) return;
    const { cpu, time, task } = this.record;
    this.differences.push({
      kind,
      record: this.seq + 1,
      time,
      cpu,
      task: task === null ? '?' : `${task.comm}-${task.pid}`,
      ours: ours(),
      recorded: recorded(),
      because: because(),
      learned: basis === Known.learned,
      inWorkload: this.inWorkload,
    });
  }
}

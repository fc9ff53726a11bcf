/** docs/validation.md: the scores of all recordings, generated. */
import {
  DECISIONS,
  type DecisionKind,
  type Score,
  type Scores,
  undecidableOf,
} from './decisions.ts';
import type { Depth } from './fields.ts';
import type { ValidationResult } from './result.ts';

/** One run at one depth. */
export interface Validated {
  readonly name: string;
  readonly depth: Depth;
  readonly result: ValidationResult;
}

const KINDS = Object.keys(DECISIONS) as readonly DecisionKind[];

const row = (...of: readonly (string | number)[]): string => `| ${of.join(' | ')} |`;
const rule = (columns: number): string =>
  row('---', ...Array.from({ length: columns - 1 }, () => '---:'));
const grouped = (value: number): string => value.toLocaleString('en-US');
/** In per cent, cut to a tenth: nothing becomes 100 by rounding. */
const percent = (part: number, whole: number): string =>
  whole === 0 ? '-' : (Math.floor((part / whole) * 1000) / 10).toFixed(1);

const scoresOf = ({ result }: Validated): Scores => result.workload ?? result.scores;
const learnedOf = ({ learned, learnedDifferent }: Score): number => learned + learnedDifferent;

interface Sum {
  equal: number;
  reordered: number;
  different: number;
  learned: number;
  undecidable: number;
}

function sum(scores: readonly Score[]): Sum {
  const of: Sum = { equal: 0, reordered: 0, different: 0, learned: 0, undecidable: 0 };
  for (const score of scores) {
    of.equal += score.equal;
    of.reordered += score.reordered;
    of.different += score.different;
    of.learned += learnedOf(score);
    of.undecidable += undecidableOf(score);
  }
  return of;
}

function cells({ equal, reordered, different, learned, undecidable }: Sum): readonly string[] {
  const decided = equal + different;
  const all = decided + learned + undecidable;
  return [
    grouped(decided),
    grouped(equal),
    grouped(reordered),
    grouped(different),
    grouped(learned),
    grouped(undecidable),
    percent(equal, decided),
    percent(decided, all),
  ];
}

const HEAD = [
  'decided',
  'equal',
  'reordered',
  'different',
  'learned',
  'not decidable',
  '% equal',
  '% decided',
];

/** One row per kind, over `runs`. */
export function kindsTable(runs: readonly Validated[]): readonly string[] {
  const lines = KINDS.map((kind) =>
    row(`\`${kind}\``, ...cells(sum(runs.map((run) => scoresOf(run)[kind])))),
  );
  return [row('decision', ...HEAD), rule(9), ...lines];
}

/** One row per run, over all kinds. */
export const runsTable = (runs: readonly Validated[]): readonly string[] => [
  row('recording', 'records', ...HEAD),
  rule(10),
  ...runs.map((run) =>
    row(run.name, grouped(run.result.records), ...cells(sum(Object.values(scoresOf(run))))),
  ),
];

/** What was not decidable, by cause. */
export function causesTable(runs: readonly Validated[]): readonly string[] {
  const causes = new Map<string, number>();
  for (const run of runs)
    for (const kind of KINDS)
      for (const [cause, count] of scoresOf(run)[kind].undecidable) {
        const key = `\`${kind}\` | ${cause}`;
        causes.set(key, (causes.get(key) ?? 0) + count);
      }
  const sorted = Array.from(causes).toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return [
    row('decision', 'what is missing', 'count'),
    '| --- | --- | ---: |',
    ...sorted.map(([key, count]) => row(key, grouped(count))),
  ];
}

/** Runs in which a kind is decided in fewer than nine cases of ten, by kind. */
export function shortfalls(runs: readonly Validated[]): readonly string[] {
  const lines = runs.flatMap((run) =>
    KINDS.flatMap((kind) => {
      const { equal, different, learned, undecidable } = sum([scoresOf(run)[kind]]);
      const decided = equal + different;
      const all = decided + learned + undecidable;
      if (all === 0 || decided >= 0.9 * all) return [];
      const causes = Array.from(
        scoresOf(run)[kind].undecidable,
        ([cause, count]) => `${cause} (${count})`,
      );
      if (learned > 0) causes.push(`learned (${learned})`);
      return [row(run.name, `\`${kind}\``, decided, all, causes.join('; '))];
    }),
  );
  return [
    row('recording', 'decision', 'decided', 'of', 'the rest'),
    '| --- | --- | ---: | ---: | --- |',
    ...lines,
  ];
}

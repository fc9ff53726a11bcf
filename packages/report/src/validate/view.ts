/**
 * The answer of `validate` as plain JSON: what `-f json` prints, what the schema describes, and all
 * that text and Markdown draw from. A decision that could not be decided is never among the equal
 * ones, a share of nothing is null, and a percentage is cut, so that 100 is all of them.
 */
import type { TraceHeader, TraceStatus } from '@shootdown/trace';
import type {
  DecisionKind,
  Depth,
  Difference,
  EventFields,
  Finding,
  Score,
  ValidationResult,
} from '@shootdown/validate';

/** A setting, and how it was found: `the header`, `as told`, `assumed: ...`. */
export interface FoundView<T> {
  readonly value: T;
  readonly by: string;
}

/** How many decisions went how. */
export interface ScoreView {
  /** All of them: decided, learned, not decidable. */
  readonly total: number;
  /** From what is known of the state: equal and different. */
  readonly decided: number;
  readonly equal: number;
  /** Of the equal ones: only another order of the steps between two records explains them. */
  readonly reordered: number;
  readonly different: number;
  /** From what was read off a judged field: equal and different ones. Scored apart. */
  readonly learned: number;
  readonly learnedDifferent: number;
  readonly notDecidable: number;
  /** What is missing where it is not decidable, most frequent first. */
  readonly causes: readonly { readonly cause: string; readonly count: number }[];
  /** equal of decided, cut to a tenth; null if none was decided. */
  readonly percentEqual: number | null;
  /** decided of total, cut to a tenth; null if there was none. */
  readonly percentDecided: number | null;
}

/** One kind of decision. */
export interface DecisionView {
  readonly kind: DecisionKind;
  /** The rule by which the model decides. */
  readonly rule: string;
  readonly all: ScoreView;
  /** Between WORKLOAD_BEGIN and WORKLOAD_END; null without these marks. */
  readonly workload: ScoreView | null;
}

/** A decision that the recording shows otherwise. */
export interface DifferenceView {
  readonly kind: DecisionKind;
  readonly rule: string;
  /** The record's place among all, from 1 on. */
  readonly record: number;
  /** As the recording prints it. */
  readonly time: string;
  readonly cpu: number;
  /** `comm-pid`; `?` if it was not recorded. */
  readonly task: string;
  readonly ours: string;
  readonly recorded: string;
  /** What ours rests on. */
  readonly because: string;
  /** Whether part of that was learned from the recording. */
  readonly learned: boolean;
  /** Between WORKLOAD_BEGIN and WORKLOAD_END. */
  readonly inWorkload: boolean;
}

/** Of one kind of event: what was taken for granted, and what was compared. */
export interface FieldsView extends EventFields {
  readonly event: string;
}

/** The view. */
export interface ValidateView {
  readonly schemaVersion: 1;
  readonly command: 'validate';
  readonly toolVersion: string;
  /** `equal` if all that was decided is; `undecided` if nothing could be. */
  readonly verdict: 'equal' | 'different' | 'undecided';
  readonly input: {
    readonly file: string;
    readonly kind: string;
    /** As the recording says; null if it does not. */
    readonly kernel: string | null;
    readonly clock: string | null;
    readonly records: number;
    /** Records of CPUs that the machine was said not to have: not looked at. */
    readonly outside: number;
    /** Places that could not be read, with `--keep-going`. */
    readonly problems: number;
    /** The ring buffers were full: each CPU's records begin at another time. */
    readonly wrapped: boolean;
    readonly notes: readonly string[];
  };
  readonly lost: { readonly counted: number; readonly uncounted: number };
  readonly depth: Depth;
  readonly kernel: FoundView<string>;
  readonly cpus: FoundView<number>;
  readonly pcid: FoundView<boolean>;
  readonly pti: FoundView<boolean>;
  readonly backend: string;
  /** Everything of all kinds. */
  readonly total: ScoreView;
  /** The same between the marks; null without. */
  readonly workload: ScoreView | null;
  readonly decisions: readonly DecisionView[];
  readonly differences: {
    readonly count: number;
    /** The first of them. */
    readonly first: readonly DifferenceView[];
  };
  /** How often the model was put right, by what was wrong, most frequent first. */
  readonly resyncs: readonly { readonly reason: string; readonly count: number }[];
  /** What is an input and what is judged at this depth. */
  readonly fields: readonly FieldsView[];
}

/** What the view is made with. */
export interface ValidateContext {
  readonly toolVersion: string;
  readonly header: TraceHeader;
  readonly status: TraceStatus;
  /** DECISIONS of validate. */
  readonly rules: Readonly<Record<DecisionKind, string>>;
  /** FIELDS of validate, of the result's depth. */
  readonly fields: Readonly<Record<string, EventFields>>;
  /** How many differences are shown at most; default: all that the result holds. */
  readonly differences?: number | undefined;
}

/** The view of a validation. */
export function validateView(result: ValidationResult, context: ValidateContext): ValidateView {
  const { header, status, rules } = context;
  const kinds = Object.keys(rules) as DecisionKind[];
  const { scores, workload } = result;
  const total = scoreView(added(kinds.map((kind) => scores[kind])));
  return {
    schemaVersion: 1,
    command: 'validate',
    toolVersion: context.toolVersion,
    verdict: verdictOf(total),
    input: {
      file: result.trace,
      kind: header.kind,
      kernel: header.kernel,
      clock: header.clock.name,
      records: result.records,
      outside: result.outside,
      problems: status.problemCount,
      wrapped: result.wrapped,
      notes: result.notes,
    },
    lost: { counted: status.lost.counted, uncounted: status.lost.uncounted },
    depth: result.depth,
    kernel: found(result.kernel),
    cpus: found(result.cpus),
    pcid: found(result.pcid),
    pti: found(result.pti),
    backend: result.backend,
    total,
    workload: workload === null ? null : scoreView(added(kinds.map((kind) => workload[kind]))),
    decisions: kinds.map((kind) => ({
      kind,
      rule: rules[kind],
      all: scoreView(scores[kind]),
      workload: workload === null ? null : scoreView(workload[kind]),
    })),
    differences: {
      count: result.differenceCount,
      first: result.differences
        .slice(0, context.differences)
        .map((one) => differenceView(one, context)),
    },
    resyncs: counted(result.resyncs).map(([reason, count]) => ({ reason, count })),
    fields: Object.entries(context.fields).map(([event, { inputs, judged }]) => ({
      event,
      inputs,
      judged,
    })),
  };
}

function verdictOf({ different, learnedDifferent, decided }: ScoreView): ValidateView['verdict'] {
  if (different + learnedDifferent > 0) return 'different';
  return decided === 0 ? 'undecided' : 'equal';
}

const found = <T>({ value, by }: Finding<T>): FoundView<T> => ({ value, by });

/** Most frequent first, and by name where alike. */
const counted = (of: ReadonlyMap<string, number>): readonly (readonly [string, number])[] =>
  Array.from(of).toSorted(([a, many], [b, more]) => more - many || (a < b ? -1 : 1));

function added(scores: readonly Score[]): Score {
  const sum: Score = {
    equal: 0,
    reordered: 0,
    different: 0,
    learned: 0,
    learnedDifferent: 0,
    undecidable: new Map(),
  };
  for (const one of scores) {
    sum.equal += one.equal;
    sum.reordered += one.reordered;
    sum.different += one.different;
    sum.learned += one.learned;
    sum.learnedDifferent += one.learnedDifferent;
    for (const [cause, count] of one.undecidable)
      sum.undecidable.set(cause, (sum.undecidable.get(cause) ?? 0) + count);
  }
  return sum;
}

function scoreView(score: Score): ScoreView {
  const { equal, reordered, different, learnedDifferent, undecidable } = score;
  const decided = equal + different;
  const learned = score.learned + learnedDifferent;
  const causes = counted(undecidable).map(([cause, count]) => ({ cause, count }));
  const notDecidable = causes.reduce((sum, { count }) => sum + count, 0);
  const total = decided + learned + notDecidable;
  return {
    total,
    decided,
    equal,
    reordered,
    different,
    learned,
    learnedDifferent,
    notDecidable,
    causes,
    percentEqual: percentOf(equal, decided),
    percentDecided: percentOf(decided, total),
  };
}

/** Of integers, so that nothing but all of them is 100. */
const percentOf = (part: number, whole: number): number | null =>
  whole === 0 ? null : Math.floor((part * 1000) / whole) / 10;

const differenceView = (
  { kind, time, ...rest }: Difference,
  { rules, header }: ValidateContext,
): DifferenceView => ({ kind, rule: rules[kind], time: printed(time, header), ...rest });

/** A time as the recording prints it: `10.264197`, with nanoseconds where it has them, or ticks. */
function printed(time: number, { origin, clock }: TraceHeader): string {
  const whole = origin + BigInt(time);
  if (clock.unit === 'ticks') return String(whole);
  const seconds = whole / 1_000_000_000n;
  const rest = String(whole % 1_000_000_000n).padStart(9, '0');
  return `${seconds}.${clock.resolution === 1000 ? rest.slice(0, 6) : rest}`;
}

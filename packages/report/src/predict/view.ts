/**
 * The answer of `validate --predict` as plain JSON: what `-f json` prints, what the schema describes,
 * and all that text and Markdown draw from.
 */
import type { FlushKind, Prediction } from '@shootdown/whatif';

/** How one kind of flush was predicted. */
export interface PredictedKindView {
  /** flush, exact, local, send, batched, received, switch or wrong-cpu. */
  readonly kind: FlushKind;
  readonly recorded: number;
  /** Of those: of address spaces that are older than the trace, and of kernel threads. Never right. */
  readonly undecidable: number;
  readonly predicted: number;
  readonly right: number;
  /** right / recorded; null if none was recorded. */
  readonly recall: number | null;
  /** right / predicted; null if none was predicted. */
  readonly precision: number | null;
}

/** Flushes on one side only, or with other page counts, by cause. */
export interface PredictedDifferenceView {
  readonly kind: FlushKind;
  readonly cause: string;
  /** The call, fault or switch; empty where none is known. */
  readonly during: string;
  /** Recorded and not predicted like that. */
  readonly missed: number;
  /** Predicted and not recorded like that. */
  readonly extra: number;
}

/** The view. */
export interface PredictView {
  readonly schemaVersion: 1;
  readonly command: 'validate --predict';
  readonly toolVersion: string;
  readonly input: {
    readonly file: string;
    readonly kind: string;
    /** As the trace says; null if it does not. */
    readonly kernel: string | null;
    readonly cpus: number | null;
    readonly events: number;
  };
  /** What predicted. */
  readonly model: {
    readonly kernel: string;
    readonly backend: string;
    /** `pcid`, `invpcid`, `pti`: those that it has. */
    readonly features: readonly string[];
    readonly warnings: readonly string[];
  };
  /** Counted is between lines of trace_marker that begin with these; null: everything. */
  readonly marks: { readonly from: string; readonly to: string } | null;
  readonly lost: { readonly counted: number; readonly uncounted: number };
  /** Kinds that there were on either side. */
  readonly kinds: readonly PredictedKindView[];
  /** The most frequent first. */
  readonly differences: readonly PredictedDifferenceView[];
}

/** What the prediction does not know. */
export interface PredictContext {
  readonly toolVersion: string;
  readonly file: string;
  readonly features: readonly string[];
}

const share = (part: number, whole: number): number | null => (whole === 0 ? null : part / whole);

/** The view of a prediction. */
export function predictView(prediction: Prediction, context: PredictContext): PredictView {
  const { header, kernel, backend, marks, events, lost, warnings } = prediction;
  const kinds = Object.entries(prediction.kinds) as [FlushKind, Prediction['kinds'][FlushKind]][];
  return {
    schemaVersion: 1,
    command: 'validate --predict',
    toolVersion: context.toolVersion,
    input: {
      file: context.file,
      kind: header.kind,
      kernel: header.kernel,
      cpus: header.cpus,
      events,
    },
    model: { kernel, backend, features: context.features, warnings },
    marks,
    lost: { counted: lost.counted, uncounted: lost.uncounted },
    kinds: kinds
      .filter(([, { recorded, predicted }]) => recorded + predicted > 0)
      .map(([kind, { recorded, undecidable, predicted, matched }]) => ({
        kind,
        recorded,
        undecidable,
        predicted,
        right: matched,
        recall: share(matched, recorded),
        precision: share(matched, predicted),
      })),
    differences: prediction.differences.map(({ kind, cause, during, missed, extra }) => ({
      kind,
      cause,
      during,
      missed,
      extra,
    })),
  };
}

/**
 * `validate --predict`: from system calls, page faults and context switches alone, the TLB flushes
 * that come of them, and then how many of those the recording has.
 *
 * The flush events of the recording go to the score and nowhere else: a recording without them gives
 * the same predictions.
 */
import type { CoreFunctions, Release, TlbBackend } from '@shootdown/mmu-gather';
import { lruCaches, mmFunctions, type MmFunctions } from '@shootdown/linux-mm';
import type { LostEvents, OpenedTrace, TraceHeader } from '@shootdown/trace';
import { Predictor } from './predictor.ts';
import type { Difference, FlushKind, KindScore } from './score.ts';

/** Where counting begins and ends: what lines of trace_marker begin with. */
export interface Marks {
  readonly from: string;
  readonly to: string;
}

/** What to predict with, and what to count. */
export interface PredictOptions {
  /** The TLB code of the kernel and the CPU that were recorded. */
  readonly backend: TlbBackend;
  readonly kernel: Release;
  /** Default: everything counts. Where nothing counts, the kernel works all the same. */
  readonly marks?: Marks | undefined;
  /** For a kernel that is not mainline. Default: mainline, with the batches of LRU pages. */
  readonly functions?: (CoreFunctions & MmFunctions) | undefined;
}

/** The answer. */
export interface Prediction {
  readonly header: TraceHeader;
  readonly kernel: Release;
  /** Its id. */
  readonly backend: string;
  readonly marks: Marks | null;
  /** Records that were read. */
  readonly events: number;
  readonly lost: LostEvents;
  readonly kinds: Readonly<Record<FlushKind, KindScore>>;
  /** The most frequent first. */
  readonly differences: readonly Difference[];
  /** What the modelled kernel's own WARNs said. */
  readonly warnings: readonly string[];
}

/**
 * Predicts the flushes of `trace`, which must not have been read before.
 *
 * @throws UsageError ERR_KERNEL for a release that is not modelled, ERR_CPU_RANGE for a trace whose
 * header counts fewer than half of its CPUs; TraceFormatError what the trace's reader throws.
 */
export async function predictFlushes(
  trace: OpenedTrace,
  options: PredictOptions,
): Promise<Prediction> {
  const { header } = trace;
  const { backend, kernel, marks, functions = { ...mmFunctions, ...lruCaches } } = options;
  const predictor = new Predictor(header, { backend, kernel, functions, marks: marks ?? null });
  for await (const batch of trace.batches()) for (const record of batch) predictor.record(record);
  predictor.end();
  const { kinds, differences } = predictor.score;
  return {
    header,
    kernel,
    backend: backend.id,
    marks: marks ?? null,
    events: predictor.events,
    lost: trace.status().lost,
    kinds,
    differences,
    warnings: predictor.warnings,
  };
}

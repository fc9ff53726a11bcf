/**
 * `shootdown validate --predict`: reads a trace, predicts its TLB flushes from everything else in it,
 * and prints how many are right.
 */
import { native } from '@shootdown/backend-native';
import { UsageError } from '@shootdown/machine';
import { DEFAULT_RELEASE, type Release, RELEASES } from '@shootdown/mmu-gather';
import { predictBlocks, predictView } from '@shootdown/report';
import { openTrace } from '@shootdown/trace';
import { nodeCodecs } from '@shootdown/trace/node';
import { type Marks, predictFlushes } from '@shootdown/whatif';
import { parseDocumentFormat, writeAnswer } from './answer.ts';
import { Exit } from './exitCodes.ts';
import { openInput } from './input.ts';
import { parseKind, parseRelease } from './options.ts';
import { progress, type Progress } from './progress.ts';
import type { Output } from './replay.ts';

/** The options as commander gives them. */
export interface PredictFlags {
  readonly format: string;
  readonly inputFormat?: string;
  readonly keepGoing?: boolean;
  /** A release of RELEASES; default: the one nearest to what the trace says. */
  readonly kernel?: string;
  /** --no-pcid, --pti. */
  readonly pcid?: boolean;
  readonly pti?: boolean;
  /** `FROM,TO`: what lines of trace_marker begin with where counting begins and ends. */
  readonly marks?: string;
}

/** Runs the command; gives the exit code. */
export async function predict(file: string, flags: PredictFlags, output: Output): Promise<number> {
  const format = parseDocumentFormat(flags.format);
  const kind = flags.inputFormat === undefined ? null : parseKind(flags.inputFormat);
  const asked = flags.kernel === undefined ? null : parseRelease(flags.kernel);
  const marks = flags.marks === undefined ? undefined : parseMarks(flags.marks);
  const pcid = flags.pcid ?? true;
  const features = { pcid, invpcid: pcid, pti: flags.pti ?? false };
  let bar: Progress | null = null;
  const input = await openInput(file, (bytes) => bar?.advance(bytes));
  try {
    bar = progress(input.source.size);
    const trace = await openTrace(input.source, {
      codecs: nodeCodecs,
      keepGoing: flags.keepGoing ?? false,
      ...(kind === null ? {} : { kind }),
    });
    const kernel = asked ?? nearestRelease(trace.header.kernel);
    const prediction = await predictFlushes(trace, {
      backend: native({ features }),
      kernel,
      marks,
    });
    bar.stop();
    const view = predictView(prediction, {
      toolVersion: output.toolVersion,
      file: trace.name,
      features: Object.entries(features)
        .filter(([, has]) => has)
        .map(([name]) => name),
    });
    writeAnswer(view, () => predictBlocks(view), format, output);
    if (view.kinds.length > 0) return Exit.ok;
    output.warn('no data: no TLB flush was recorded, and none was predicted');
    return Exit.incomplete;
  } finally {
    bar?.stop();
    await input.close();
  }
}

/** Major and minor number; null if it begins otherwise. */
function versionOf(release: string): number | null {
  const match = /^(\d+)\.(\d+)/.exec(release);
  return match === null ? null : Number(match[1]) * 1000 + Number(match[2]);
}

/** The last modelled release that is not newer than `recorded`; the oldest, if all are. */
export function nearestRelease(recorded: string | null): Release {
  const version = recorded === null ? null : versionOf(recorded);
  if (version === null) return DEFAULT_RELEASE;
  const older = RELEASES.filter((release) => (versionOf(release) ?? 0) <= version);
  return older.at(-1) ?? RELEASES[0];
}

/** @throws UsageError ERR_OPTION */
function parseMarks(words: string): Marks {
  const [from = '', to = '', ...rest] = words.split(',');
  if (from !== '' && to !== '' && rest.length === 0) return { from, to };
  throw new UsageError(
    'ERR_OPTION',
    `--marks ${words}: expected FROM,TO, as WORKLOAD_BEGIN,WORKLOAD_END`,
  );
}

/**
 * Recordings of a real kernel that runs of a known program were made with: two that are part of the
 * project, and whatever is in the folder that SHOOTDOWN_RECORDINGS names, by set and run:
 * `6.12-c8/W1-madvise-T2-N50/trace.txt.gz`.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { native } from '@shootdown/backend-native';
import { bytesSource, type OpenedTrace, openTrace, type RecordedRecord } from '@shootdown/trace';
import { type Prediction, predictFlushes, type PredictOptions } from './predict.ts';

const EXAMPLES = fileURLToPath(new URL('../../../../examples/traces/', import.meta.url));

/** One recorded run. */
export interface Run {
  /** `W1-madvise-T2-N50` */
  readonly name: string;
  readonly path: string;
}

/** The runs that are part of the project. */
export const SHIPPED: readonly Run[] = [
  {
    name: 'W1-madvise-T2-N50',
    path: join(EXAMPLES, 'qemu-6.12-madvise.probes.ftrace.txt.gz'),
  },
  { name: 'W9-asid-K5', path: join(EXAMPLES, 'qemu-6.12-asid.probes.ftrace.txt.gz') },
];

/** The sets of runs that are looked for: 6.12.117, with PCID and without PTI. */
const SETS = ['6.12-c8', '6.12-c8-numa'];

/** All runs there are; null: SHOOTDOWN_RECORDINGS is not set. */
export function recordedRuns(): readonly Run[] | null {
  const folder = process.env['SHOOTDOWN_RECORDINGS'];
  if (folder === undefined || folder === '') return null;
  return SETS.filter((set) => existsSync(join(folder, set))).flatMap((set) =>
    readdirSync(join(folder, set))
      .map((name) => ({ name, path: join(folder, set, name, 'trace.txt.gz') }))
      .filter(({ path }) => existsSync(path)),
  );
}

/** Opens a run, without the records that `keep` refuses. */
export async function openRun(
  { name, path }: Run,
  keep: (record: RecordedRecord) => boolean = () => true,
): Promise<OpenedTrace> {
  const trace = await openTrace(bytesSource(name, readFileSync(path)));
  return {
    name,
    header: trace.header,
    status: () => trace.status(),
    async *batches() {
      for await (const batch of trace.batches()) yield batch.filter(keep);
    },
  };
}

/** Predicts a run of the workload program, between its marks. */
export async function predictRun(
  run: Run,
  options: Partial<PredictOptions> = {},
  keep?: (record: RecordedRecord) => boolean,
): Promise<Prediction> {
  return predictFlushes(await openRun(run, keep), {
    backend: native(),
    kernel: '6.12.117',
    marks: { from: 'WORKLOAD_BEGIN', to: 'WORKLOAD_END' },
    ...options,
  });
}

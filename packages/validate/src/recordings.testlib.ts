/**
 * Recordings of a real kernel with probes: one that is part of the project, and whatever is in the
 * folder that SHOOTDOWN_RECORDINGS names, by set and run: `6.12-c8/W1-madvise-T2-N50/trace.txt.gz`.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { native } from '@shootdown/backend-native';
import { bytesSource, openTrace } from '@shootdown/trace';
import type { ValidationResult } from './result.ts';
import { validate, type ValidateOptions } from './validate.ts';

/** One recorded run. */
export interface Run {
  /** `W1-madvise-T2-N50` */
  readonly name: string;
  readonly path: string;
}

/** The recording of the project: the mixed workload's beginning, without what nobody here asks about. */
export const SHIPPED: Run = {
  name: 'qemu-6.12-mixed',
  path: fileURLToPath(
    new URL('../../../examples/traces/qemu-6.12-mixed.probes.ftrace.txt.gz', import.meta.url),
  ),
};

/** Sets of runs that are looked for. */
const SETS = ['6.12-c8', '6.12-c8-numa'];

/** All runs there are, by number; null: SHOOTDOWN_RECORDINGS is not set. */
export function recordedRuns(): readonly Run[] | null {
  const folder = process.env['SHOOTDOWN_RECORDINGS'];
  if (folder === undefined || folder === '') return null;
  return SETS.filter((set) => existsSync(join(folder, set)))
    .flatMap((set) =>
      readdirSync(join(folder, set)).map((name) => ({
        name,
        path: join(folder, set, name, 'trace.txt.gz'),
      })),
    )
    .filter(({ path }) => existsSync(path))
    .toSorted((a, b) => numberOf(a) - numberOf(b) || (a.name < b.name ? -1 : 1));
}

const numberOf = ({ name }: Run): number => Number(/^W(\d+)/.exec(name)?.[1] ?? 0);

/** The lines of a run. */
export const linesOf = ({ path }: Run): readonly string[] =>
  gunzipSync(readFileSync(path)).toString('utf8').split('\n');

/** Validates text. */
export async function validateLines(
  lines: readonly string[],
  options: Partial<ValidateOptions> = {},
): Promise<ValidationResult> {
  const bytes = new TextEncoder().encode(lines.join('\n'));
  const trace = await openTrace(bytesSource('a recording', bytes));
  return validate(trace, { backend: (features) => native({ features }), ...options });
}

/** Validates a run. */
export const validateRun = (
  run: Run,
  options: Partial<ValidateOptions> = {},
): Promise<ValidationResult> => validateLines(linesOf(run), options);

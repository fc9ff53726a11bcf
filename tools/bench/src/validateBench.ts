/**
 * How fast a recording is validated: the one with probes, whose 13,629 records hold 7,583 decisions. In
 * recordings as they are made most records are of something else and only read.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { native } from '@shootdown/backend-native';
import { bytesSource, openTrace } from '@shootdown/trace';
import { validate } from '@shootdown/validate';
import { type Measured, measure } from './measure.ts';

/** How much is done. */
export interface ValidateSize {
  /** How often the recording is read. */
  readonly repeats: number;
  readonly runs: number;
}

const RECORDING = '../../../examples/traces/qemu-6.12-mixed.probes.ftrace.txt.gz';

/** Records per second. */
export async function validateBench({ repeats, runs }: ValidateSize): Promise<readonly Measured[]> {
  const file = fileURLToPath(new URL(RECORDING, import.meta.url));
  const bytes = gunzipSync(await readFile(file));
  const rows: readonly (readonly [string, 'probes' | 'csd' | 'tlb_flush', boolean])[] = [
    ['with probes, release told', 'probes', true],
    ['with probes, release found', 'probes', false],
    ['as stock tracepoints', 'csd', true],
    ['as tlb_flush alone', 'tlb_flush', true],
  ];
  const measured: Measured[] = [];
  for (const [name, depth, told] of rows)
    measured.push(
      await measure(name, 'events', runs, async () => {
        let records = 0;
        for (let repeat = 0; repeat < repeats; repeat++) {
          const trace = await openTrace(bytesSource('mixed', bytes));
          const result = await validate(trace, {
            backend: (features) => native({ features }),
            depth,
            kernel: told ? '6.12.117' : undefined,
          });
          records += result.records;
        }
        return records;
      }),
    );
  const reading = await measure('only read', 'events', runs, async () => {
    let records = 0;
    for (let repeat = 0; repeat < repeats; repeat++) {
      const trace = await openTrace(bytesSource('mixed', bytes));
      for await (const batch of trace.batches()) records += batch.length;
    }
    return records;
  });
  return [...measured, reading];
}

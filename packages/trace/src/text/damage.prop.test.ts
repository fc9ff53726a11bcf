/**
 * Whatever happens to a text on its way here, reading it ends, and ends in records or in a
 * TraceFormatError.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TraceFormatError } from '../errors.ts';
import type { RecordedRecord } from '../events/shapes.ts';
import { examplePath, open, recordsOf } from '../examples.testlib.ts';
import { openTrace } from '../open.ts';

/** Copied: a Buffer's slice() shares its memory. */
const SAMPLES: readonly Uint8Array[] = [
  gunzipSync(readFileSync(examplePath('qemu-6.12-smp8.ftrace.txt.gz'))).subarray(0, 6000),
  gunzipSync(readFileSync(examplePath('qemu-6.12-isolated67.trace-cmd-report.txt.gz'))).subarray(
    0,
    6000,
  ),
  readFileSync(examplePath('qemu-6.12.ftrace-latency-format.txt')),
  readFileSync(examplePath('qemu-6.12.ftrace-tgid.txt')),
].map((bytes) => Uint8Array.from(bytes));

/** A place in a text, as a share of its length: evenly spread, which fc.double() is not. */
const place = fc.nat(999_999).map((n) => n / 1_000_000);

const damaged = fc
  .record({
    sample: fc.constantFrom(...SAMPLES),
    keep: fc.oneof(fc.constant(1), place),
    flips: fc.array(fc.record({ at: place, byte: fc.nat(255) }), { maxLength: 10 }),
  })
  .map(({ sample, keep, flips }) => {
    const bytes = sample.slice(0, Math.ceil(sample.length * keep));
    for (const { at, byte } of flips) bytes[Math.floor(at * bytes.length)] = byte;
    return bytes;
  });

/** Reads `bytes` to the end; null if they are refused, which may only be by a TraceFormatError. */
async function readOrRefuse(
  bytes: Uint8Array,
  keepGoing: boolean,
): Promise<readonly RecordedRecord[] | null> {
  try {
    return await recordsOf(await open({ bytes }, { keepGoing }));
  } catch (error) {
    if (error instanceof TraceFormatError) return null;
    throw error;
  }
}

test.each([false, true])(
  'a damaged text is read or refused, never a crash (keepGoing %s)',
  async (keepGoing) => {
    const seen = { read: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(damaged, async (bytes) => {
        const records = await readOrRefuse(bytes, keepGoing);
        seen[records === null ? 'refused' : 'read']++;
        for (const record of records ?? []) {
          expect(Number.isSafeInteger(record.time)).toBe(true);
          expect(record.cpu).toBeLessThan(8192);
        }
      }),
      { numRuns: 500 },
    );
    // Neither outcome is rare, or the property would say little.
    expect(seen.read).toBeGreaterThan(keepGoing ? 400 : 50);
    expect(seen.refused).toBeGreaterThan(keepGoing ? -1 : 50);
  },
);

test('how a stream is cut into chunks changes nothing', async () => {
  const sample = SAMPLES[0] ?? new Uint8Array();
  const bytes = sample.slice(0, sample.lastIndexOf(10) + 1);
  const whole = await recordsOf(await open({ bytes }));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1 }),
      async (sizes) => {
        async function* chunks(): AsyncGenerator<Uint8Array> {
          for (let at = 0, i = 0; at < bytes.length; at += sizes[i++ % sizes.length] ?? 1) {
            yield bytes.slice(at, at + (sizes[i % sizes.length] ?? 1));
          }
        }
        const records = await recordsOf(await openTrace({ name: 'chunks', size: null, chunks }));
        expect(records.length).toBe(whole.length);
        expect(records.at(-1)?.time).toBe(whole.at(-1)?.time);
      },
    ),
    { numRuns: 30 },
  );
});

/** Whatever happens to a text on its way here, reading it ends, and ends in records or in a TraceFormatError. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TraceFormatError } from '../errors.ts';
import { examplePath, open, recordsOf } from '../examples.testlib.ts';
import { openTrace } from '../open.ts';
import type { OpenedTrace } from '../openedTrace.ts';

/** Copied: a Buffer's slice() shares its memory. */
const SAMPLES: readonly Uint8Array[] = [
  gunzipSync(readFileSync(examplePath('qemu-6.12-smp8.ftrace.txt.gz'))).subarray(0, 6000),
  gunzipSync(readFileSync(examplePath('qemu-6.12-isolated67.trace-cmd-report.txt.gz'))).subarray(0, 6000),
  readFileSync(examplePath('qemu-6.12.ftrace-latency-format.txt')),
  readFileSync(examplePath('qemu-6.12.ftrace-tgid.txt')),
].map((bytes) => Uint8Array.from(bytes));

const damaged = fc
  .record({
    sample: fc.constantFrom(...SAMPLES),
    keep: fc.double({ min: 0, max: 1, noNaN: true }),
    flips: fc.array(fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), byte: fc.nat(255) }), { maxLength: 30 }),
  })
  .map(({ sample, keep, flips }) => {
    const bytes = sample.slice(0, Math.ceil(sample.length * keep));
    for (const { at, byte } of flips) if (bytes.length > 0) bytes[Math.min(bytes.length - 1, Math.floor(at * bytes.length))] = byte;
    return bytes;
  });

test('a damaged text is read or refused, never a crash', async () => {
  await fc.assert(
    fc.asyncProperty(damaged, async (bytes) => {
      try {
        await recordsOf(await open({ bytes }));
      } catch (error) {
        expect(error).toBeInstanceOf(TraceFormatError);
      }
    }),
    { numRuns: 300 },
  );
});

test('with keepGoing, whatever could be opened is read to its end, and records carry sane numbers', async () => {
  await fc.assert(
    fc.asyncProperty(damaged, async (bytes) => {
      let trace: OpenedTrace;
      try {
        trace = await open({ bytes }, { keepGoing: true });
      } catch (error) {
        expect(error).toBeInstanceOf(TraceFormatError);
        return;
      }
      for (const record of await recordsOf(trace)) {
        expect(Number.isSafeInteger(record.time)).toBe(true);
        expect(record.cpu).toBeLessThan(8192);
      }
    }),
    { numRuns: 300 },
  );
});

test('how a stream is cut into chunks changes nothing', async () => {
  const sample = SAMPLES[0] ?? new Uint8Array();
  const bytes = sample.slice(0, sample.lastIndexOf(10) + 1);
  const whole = await recordsOf(await open({ bytes }));
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1 }), async (sizes) => {
      async function* chunks(): AsyncGenerator<Uint8Array> {
        for (let at = 0, i = 0; at < bytes.length; at += sizes[i++ % sizes.length] ?? 1) {
          yield bytes.slice(at, at + (sizes[i % sizes.length] ?? 1));
        }
      }
      const records = await recordsOf(await openTrace({ name: 'chunks', size: null, chunks }));
      expect(records.length).toBe(whole.length);
      expect(records.at(-1)?.time).toBe(whole.at(-1)?.time);
    }),
    { numRuns: 30 },
  );
});

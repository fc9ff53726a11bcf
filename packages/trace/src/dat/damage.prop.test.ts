import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { portableCodecs } from '../codecs.ts';
import { TraceFormatError } from '../errors.ts';
import { nodeCodecs } from '../node.ts';
import { readContainer } from './container.ts';
import { writeDat } from './datWriter.testlib.ts';
import { openDat } from './openDat.ts';
import { ABIS, sampleSpec } from './sampleDat.testlib.ts';
import { datSource } from './traceCmd.testlib.ts';

const RECORDING = fileURLToPath(new URL('../../../../examples/traces/qemu-6.12-isolated67.v7-zstd.dat', import.meta.url));

/** One thing that can happen to a file. */
type Damage =
  | { readonly kind: 'cut'; readonly where: number }
  | { readonly kind: 'flip'; readonly where: number; readonly bit: number }
  | { readonly kind: 'length'; readonly where: number; readonly value: number };

/** Half of all damage is done near the end or the front, where the small numbers that steer the reader are. */
const place: fc.Arbitrary<number> = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });

const damage: fc.Arbitrary<readonly Damage[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('cut' as const), where: place }),
    fc.record({ kind: fc.constant('flip' as const), where: place, bit: fc.nat(7) }),
    fc.record({ kind: fc.constant('length' as const), where: place, value: fc.constantFrom(0, 1, 0x7fff_ffff, 0xffff_ffff, 0x10_0000, 0xfff, 4097) }),
  ),
  { minLength: 1, maxLength: 4 },
);

function damaged(bytes: Uint8Array, list: readonly Damage[]): Uint8Array {
  let result = bytes.slice();
  for (const one of list) {
    const at = Math.floor(one.where * result.length);
    if (one.kind === 'cut') result = result.slice(0, at);
    else if (one.kind === 'flip' && at < result.length) result.set([(result[at] as number) ^ (1 << one.bit)], at);
    else if (one.kind === 'length' && at + 4 <= result.length) new DataView(result.buffer).setUint32(at, one.value, one.where > 0.5);
  }
  return result;
}

/** Reads all, and every payload; throws what is no TraceFormatError, and whatever a reader with keepGoing throws once it is open. */
async function read(bytes: Uint8Array, keepGoing: boolean, portable: boolean): Promise<void> {
  let opened = false;
  try {
    const trace = await openDat(datSource(bytes), portable ? portableCodecs : nodeCodecs, { keepGoing });
    opened = true;
    let records = 0;
    const last = new Map<number, number>();
    for await (const batch of trace.batches()) {
      for (const { event, cpu, time } of batch) {
        if (event.kind === 'other') event.payload.text();
        expect(time).toBeGreaterThanOrEqual(last.get(cpu) ?? 0);
        expect(Number.isSafeInteger(time)).toBe(true);
        last.set(cpu, time);
      }
      records += batch.length;
    }
    const status = trace.status();
    expect(status.records).toBe(records);
    expect(status.problems.length).toBe(Math.min(20, status.problemCount));
  } catch (error) {
    if (!(error instanceof TraceFormatError) || (opened && keepGoing)) throw error;
  }
}

describe('a damaged file', () => {
  const samples = ABIS.flatMap((abi) => [
    writeDat(sampleSpec(abi, 6)),
    ...(['none', 'zlib', 'zstd'] as const).map((compression) => writeDat(sampleSpec(abi, 7, compression))),
  ]);
  let recording: readonly Uint8Array[];

  beforeAll(async () => {
    // The recording without its symbols, so that damage meets what steers the reader; some pages of each CPU.
    const { file, headerPage, formats, cmdlines } = await readContainer(datSource(new Uint8Array(readFileSync(RECORDING))), nodeCodecs);
    const whole = await readContainer(datSource(new Uint8Array(readFileSync(RECORDING))), nodeCodecs);
    const pages: Uint8Array[] = [];
    for (const { offset } of whole.buffers[0]?.cpus ?? []) {
      const head = new DataView((await file.read(offset + 4, 8)).slice().buffer);
      const packed = await file.read(offset + 12, head.getUint32(0, true));
      pages.push(nodeCodecs.zstd(packed, head.getUint32(4, true)).slice(0, 3 * 4096));
    }
    const used = formats.filter(({ system }) => ['csd', 'ipi', 'tlb', 'sched', 'irq_vectors'].includes(system));
    recording = (['none', 'zstd'] as const).map((compression) => {
      const abi = { littleEndian: true, longSize: 8 } as const;
      return writeDat({ abi, version: 7, compression, headerPage, formats: used, cmdlines, buffers: [{ name: '', cpus: pages }] });
    });
  });

  test('is read, or refused with a TraceFormatError; nothing else happens, and with keepGoing nothing after it is open', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(samples.length - 1), damage, fc.boolean(), fc.boolean(), (which, list, keepGoing, portable) =>
        read(damaged(samples[which] as Uint8Array, list), keepGoing, portable),
      ),
      { numRuns: 3000 },
    );
  });

  test('is so too when it is a recording of a kernel', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(1), damage, fc.boolean(), fc.boolean(), (which, list, keepGoing, portable) =>
        read(damaged(recording[which] as Uint8Array, list), keepGoing, portable),
      ),
      { numRuns: 400 },
    );
  });

  test('does not make the reader take more memory than a few times its limits', async () => {
    const before = process.memoryUsage.rss();
    const lies = samples.map((bytes) => damaged(bytes, [{ kind: 'length', where: 0.6, value: 0x7fff_ffff }]));
    for (const bytes of lies) await read(bytes, true, true);
    expect(process.memoryUsage.rss() - before).toBeLessThan(256 << 20);
  });
});

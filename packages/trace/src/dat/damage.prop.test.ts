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

const RECORDING = fileURLToPath(
  new URL('../../../../examples/traces/qemu-6.12-isolated67.v7-zstd.dat', import.meta.url),
);

/** What lengths are overwritten with. */
const LENGTHS = [0, 1, 29, 30 + 32, 4097, 0xfff, 0x10_0000, 0x7fff_ffff, 0xffff_ffff];

/** One thing that can happen to a file. */
type Damage =
  | { readonly kind: 'cut'; readonly where: number }
  | { readonly kind: 'flip'; readonly where: number; readonly bit: number }
  | { readonly kind: 'length'; readonly where: number; readonly value: number };

/**
 * Anywhere in the file, evenly: fast-check's own numbers crowd at the edges. Half of them in the
 * last fifth, where the small samples have their pages.
 */
const place: fc.Arbitrary<number> = fc
  .tuple(fc.nat(0xffff_ffff), fc.boolean())
  .map(([seed, late]) => {
    const even = (Math.imul(seed ^ (seed >>> 15), 0x2c1b_3c6d) >>> 0) / 2 ** 32;
    return late ? 0.8 + even / 5 : even;
  });

const damage: fc.Arbitrary<readonly Damage[]> = fc.array(
  fc.oneof(
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const), where: place }) },
    {
      weight: 5,
      arbitrary: fc.record({ kind: fc.constant('flip' as const), where: place, bit: fc.nat(7) }),
    },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('length' as const),
        where: place,
        value: fc.constantFrom(...LENGTHS),
      }),
    },
  ),
  { minLength: 1, maxLength: 4 },
);

function damaged(bytes: Uint8Array, list: readonly Damage[]): Uint8Array {
  let result = bytes.slice();
  for (const one of list) {
    const at = Math.floor(one.where * result.length);
    if (one.kind === 'cut') result = result.slice(0, at);
    else if (one.kind === 'flip' && at < result.length)
      result.set([(result[at] as number) ^ (1 << one.bit)], at);
    else if (one.kind === 'length' && at + 4 <= result.length)
      new DataView(result.buffer).setUint32(at, one.value, one.where > 0.5);
  }
  return result;
}

/** How often each thing happened, to know that the damage is neither harmless nor always fatal. */
interface Tally {
  opened: number;
  problems: number;
  refused: number;
}

/**
 * Reads all, and every payload; throws what is no TraceFormatError, and whatever a reader with
 * keepGoing throws once it is open.
 */
async function read(
  bytes: Uint8Array,
  keepGoing: boolean,
  portable: boolean,
  tally: Tally,
): Promise<void> {
  let opened = false;
  try {
    const trace = await openDat(datSource(bytes), portable ? portableCodecs : nodeCodecs, {
      keepGoing,
    });
    opened = true;
    tally.opened++;
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
    if (status.problemCount > 0) tally.problems++;
    expect(status.problems.length).toBe(Math.min(20, status.problemCount));
  } catch (error) {
    if (!(error instanceof TraceFormatError) || (opened && keepGoing)) throw error;
    tally.refused++;
  }
}

describe('a damaged file', () => {
  const samples = ABIS.flatMap((abi) => [
    writeDat(sampleSpec(abi, 6)),
    ...(['none', 'zlib', 'zstd'] as const).map((compression) =>
      writeDat(sampleSpec(abi, 7, compression)),
    ),
  ]);
  let recording: readonly Uint8Array[];

  beforeAll(async () => {
    // The recording without its symbols, so that damage meets what steers the reader; some pages of
    // each CPU.
    const { file, headerPage, formats, cmdlines } = await readContainer(
      datSource(new Uint8Array(readFileSync(RECORDING))),
      nodeCodecs,
    );
    const whole = await readContainer(
      datSource(new Uint8Array(readFileSync(RECORDING))),
      nodeCodecs,
    );
    const pages: Uint8Array[] = [];
    for (const { offset } of whole.buffers[0]?.cpus ?? []) {
      const head = new DataView((await file.read(offset + 4, 8)).slice().buffer);
      const packed = await file.read(offset + 12, head.getUint32(0, true));
      pages.push(nodeCodecs.zstd(packed, head.getUint32(4, true)).slice(0, 3 * 4096));
    }
    const used = formats.filter(({ system }) =>
      ['csd', 'ipi', 'tlb', 'sched', 'irq_vectors'].includes(system),
    );
    recording = (['none', 'zstd'] as const).map((compression) => {
      const abi = { littleEndian: true, longSize: 8 } as const;
      return writeDat({
        abi,
        version: 7,
        compression,
        headerPage,
        formats: used,
        cmdlines,
        buffers: [{ name: '', cpus: pages }],
      });
    });
  });

  test('is read, or refused with a TraceFormatError; nothing else happens, and with keepGoing nothing after it is open', async () => {
    const tally: Tally = { opened: 0, problems: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.nat(samples.length - 1),
        damage,
        fc.boolean(),
        fc.boolean(),
        (which, list, keepGoing, portable) =>
          read(damaged(samples[which] as Uint8Array, list), keepGoing, portable, tally),
      ),
      { numRuns: 4000 },
    );
    expect(tally.opened).toBeGreaterThan(500);
    expect(tally.problems).toBeGreaterThan(100);
    expect(tally.refused).toBeGreaterThan(500);
  });

  test('is so too when it is a recording of a kernel', async () => {
    const tally: Tally = { opened: 0, problems: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.nat(1),
        damage,
        fc.boolean(),
        fc.boolean(),
        (which, list, keepGoing, portable) =>
          read(damaged(recording[which] as Uint8Array, list), keepGoing, portable, tally),
      ),
      { numRuns: 1000 },
    );
    expect(tally.opened).toBeGreaterThan(200);
    expect(tally.problems).toBeGreaterThan(50);
  });

  test('does not make the reader take more memory than a few times its limits', async () => {
    const tally: Tally = { opened: 0, problems: 0, refused: 0 };
    const before = process.memoryUsage.rss();
    for (const bytes of samples) {
      for (let where = 0; where < 1; where += 0.01) {
        await read(
          damaged(bytes, [{ kind: 'length', where, value: 0x7fff_ffff }]),
          true,
          true,
          tally,
        );
      }
    }
    expect(process.memoryUsage.rss() - before).toBeLessThan(256 << 20);
    expect(tally.opened + tally.refused).toBeGreaterThan(1500);
  });
});

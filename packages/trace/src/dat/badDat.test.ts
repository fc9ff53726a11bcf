/** What is wrong with a trace.dat is said with its place, and costs no more than it must. */
import { describe, expect, test } from 'vitest';
import { TraceFormatError } from '../errors.ts';
import type { RecordedRecord } from '../events/shapes.ts';
import { type DatSpec, writeDat } from './datWriter.testlib.ts';
import { ABIS, BASE, sampleEvents, sampleSpec } from './sampleDat.testlib.ts';
import { readAll } from './traceCmd.testlib.ts';
import { type Page, pagesOf } from './writerPages.testlib.ts';

const ABI = ABIS[0] as (typeof ABIS)[number];

function spec6(over: Partial<DatSpec>): DatSpec {
  return { ...sampleSpec(ABI, 6), ...over };
}

const key = ({ time, cpu }: RecordedRecord): string => `${cpu}/${time}`;

const pageOf1 = (i: number): Page => ({
  time: BASE + BigInt(i),
  events: [{ record: sampleEvents(ABI).vector.record(i + 1, [251]), delta: 0 }],
});

async function thrownBy(promise: Promise<unknown>): Promise<TraceFormatError> {
  const thrown = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(TraceFormatError);
  return thrown as TraceFormatError;
}

describe('a bad file', () => {
  const good = writeDat(sampleSpec(ABI, 7, 'zstd'));

  test.each([
    { name: 'nothing', bytes: new Uint8Array(0), code: 'ERR_TRACE_EMPTY' },
    { name: 'text', bytes: new TextEncoder().encode('# tracer: nop\n#\n'), code: 'ERR_TRACE_KIND' },
    { name: 'half a header', bytes: good.slice(0, 20), code: 'ERR_TRACE_TRUNCATED' },
    { name: 'no directory', bytes: good.slice(0, good.length - 100), code: 'ERR_TRACE_TRUNCATED' },
  ])('of $name is refused as $code', async ({ bytes, code }) => {
    expect((await thrownBy(readAll(bytes))).code).toBe(code);
  });

  test('of another version is refused', async () => {
    const bytes = good.slice();
    bytes.set([0x38], 10);
    expect(await thrownBy(readAll(bytes))).toMatchObject({
      code: 'ERR_TRACE_UNSUPPORTED',
      at: { byte: 10 },
      found: '"8"',
    });
  });

  test('whose options point back at themselves is refused', async () => {
    const bytes = good.slice();
    // The last 8 bytes are the place of the next options; the first options are 30 bytes before the
    // end.
    new DataView(bytes.buffer).setBigUint64(bytes.length - 8, BigInt(bytes.length - 30), true);
    expect((await thrownBy(readAll(bytes))).message).toContain('a chain that comes back here');
  });

  test('of a latency tracer is refused with what to do', async () => {
    const text = writeDat(spec6({}));
    const at = Buffer.from(text).indexOf('flyrecord');
    text.set(new TextEncoder().encode('latency  '), at);
    const error = await thrownBy(readAll(text));
    expect(error).toMatchObject({ code: 'ERR_TRACE_UNSUPPORTED', at: { byte: at } });
    expect(error.message).toContain('trace-cmd report');
  });

  test('whose pages are cut gives what comes before, then throws; with keepGoing it ends', async () => {
    const whole = writeDat(spec6({}));
    const { records } = await readAll(whole);
    const cut = whole.slice(0, whole.length - 4096 - 4096 + 100);
    const stopped = await readAll(cut);
    expect(stopped.error).toMatchObject({
      code: 'ERR_TRACE_TRUNCATED',
      source: 'test.dat',
      at: { byte: cut.length },
    });
    const kept = await readAll(cut, { keepGoing: true });
    expect(kept.error).toBe(null);
    expect(kept.trace.status()).toMatchObject({ problemCount: 1, records: kept.records.length });
    const all = new Set(records.map(key));
    expect(kept.records.length).toBeGreaterThan(6);
    expect(kept.records.length).toBeLessThan(records.length);
    expect(kept.records.every((record) => all.has(key(record)))).toBe(true);
  });

  test('whose page claims more bytes than it has loses that page only', async () => {
    const bytes = writeDat(spec6({}));
    // CPU 0 has the file's first two pages after the tables, CPU 1 the last two.
    const first = bytes.length - 4 * 4096;
    new DataView(bytes.buffer).setUint32(first + 8, 5000, true);
    expect((await readAll(bytes)).error).toMatchObject({
      code: 'ERR_TRACE_CORRUPT',
      at: { byte: first },
    });
    const { records, trace, error } = await readAll(bytes, { keepGoing: true });
    expect(error).toBe(null);
    expect(trace.status().problems.map(({ found }) => found)).toEqual(['5000 (CPU 0)']);
    expect(records.map(({ cpu }) => Number(cpu))).toEqual([1, 1, 1, 1, 1, 1, 1, 0]);
  });

  test('whose page has a time far ahead loses that page only', async () => {
    const bytes = writeDat(spec6({}));
    const first = bytes.length - 4 * 4096;
    new DataView(bytes.buffer).setBigUint64(first, BASE + 2n ** 45n, true);
    const { records, trace } = await readAll(bytes, { keepGoing: true });
    expect(trace.status().problemCount).toBe(1);
    expect(records.filter(({ cpu }) => cpu === 0).length).toBe(1);
  });

  test('with a damaged chunk loses that chunk only', async () => {
    const pages = pagesOf(
      ABI,
      4096,
      Array.from({ length: 9 }, (_, i) => pageOf1(i)),
    );
    const bytes = writeDat({
      ...sampleSpec(ABI, 7, 'zlib'),
      buffers: [{ name: '', cpus: [pages] }],
    });
    const at = bytes.findLastIndex((byte, i) => byte === 0x78 && bytes[i + 1] === 0x9c);
    bytes.fill(0xff, at + 4, at + 10);
    const { records, trace } = await readAll(bytes, { keepGoing: true });
    expect(trace.status().problemCount).toBe(1);
    expect(records.map(({ task }) => task.pid)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test.each([2n ** 60n, 2n ** 64n - 4n])(
    'whose buffer lies at byte %d ends all the same',
    async (offset) => {
      const bytes = writeDat(sampleSpec(ABI, 7, 'zlib'));
      // The place of CPU 0's chunks stands in option BUFFER, behind its name, clock, page size and
      // CPU count.
      const at = Buffer.from(bytes).lastIndexOf('global\0') + 7 + 8 + 4;
      new DataView(bytes.buffer).setBigUint64(at, offset, true);
      const { records, trace } = await readAll(bytes, { keepGoing: true });
      expect(trace.status().problems.map(({ code }) => code)).toEqual(['ERR_TRACE_TRUNCATED']);
      expect(records.every(({ cpu }) => cpu === 1)).toBe(true);
    },
  );
});

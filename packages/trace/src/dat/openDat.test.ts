import { describe, expect, test } from 'vitest';
import { cpuId } from '@shootdown/machine';
import { portableCodecs } from '../codecs.ts';
import { openTrace } from '../open.ts';
import { bytesSource } from '../source.ts';
import { type DatSpec, optionText, writeDat } from './datWriter.testlib.ts';
import { type Page, type PageEvent, pagesOf } from './writerPages.testlib.ts';
import {
  ABIS,
  BASE,
  kernelAddress,
  sampleEvents,
  sampleSpec,
  CASES,
  withExtraBuffer,
} from './sampleDat.testlib.ts';
import { printedTime, readAll } from './traceCmd.testlib.ts';

const ABI = ABIS[0] as (typeof ABIS)[number];

function spec6(over: Partial<DatSpec>): DatSpec {
  return { ...sampleSpec(ABI, 6), ...over };
}

/** A file whose main buffer has these pages on CPU 0. */
function onePage(events: readonly PageEvent[], over: Partial<DatSpec> = {}): Uint8Array {
  return writeDat(
    spec6({
      buffers: [{ name: '', cpus: [pagesOf(ABI, 4096, [{ time: BASE, events }])] }],
      ...over,
    }),
  );
}

const vector = (pid: number): Uint8Array => sampleEvents(ABI).vector.record(pid, [251]);

/** A page with 200 records, 10 ns apart; the first is the recording's number `first`. */
const pageOf200 = (first: number): Page => ({
  time: BASE + BigInt(first * 10),
  events: Array.from({ length: 200 }, (_, i) => ({ record: vector(1), delta: i === 0 ? 0 : 10 })),
});

test('a batch ends where events of a CPU are missing, before its next record', async () => {
  const cpus = [
    pagesOf(ABI, 4096, [pageOf200(0), { ...pageOf200(400), missed: 5 }, pageOf200(700)]),
    pagesOf(ABI, 4096, [pageOf200(300)]),
  ];
  const bytes = writeDat(spec6({ buffers: [{ name: '', cpus }] }));
  const trace = await openTrace(bytesSource('gap', bytes), { codecs: portableCodecs });
  const seen: [gaps: number, records: number][] = [];
  let before = 0;
  for await (const batch of trace.batches()) {
    const records = batch.filter(({ cpu }) => cpu === 0).length;
    const gaps = trace.status().gaps.get(cpuId(0)) ?? 0;
    expect(gaps).toBeGreaterThanOrEqual(before);
    before = gaps;
    if (records > 0) seen.push([gaps, records]);
  }
  // 200 up to the gap, and the rest behind it.
  expect(seen).toEqual([
    [1, 200],
    [1, 400],
  ]);
  expect(trace.status().gaps.size).toBe(1);
});

describe.each(CASES)('a file of $name', ({ abi, version, compression }) => {
  test('gives every event its shape', async () => {
    const { records, error, trace } = await readAll(
      writeDat(sampleSpec(abi, version, compression)),
    );
    const csd = abi.longSize === 8 ? -0xee_ffff_8294_9f80 : 0xdead_bee0;
    expect(error).toBe(null);
    expect(trace.header).toMatchObject({
      version,
      kernel: '6.12.111+deb12-amd64',
      cpus: 3,
      origin: 1_234_000_000_000n,
      buffers: [],
    });
    expect(trace.header.clock).toEqual({ name: 'global', unit: 'ns', resolution: 1 });
    expect(
      records.map(({ event }) =>
        event.kind === 'other' ? { name: event.name, text: event.payload.text() } : event,
      ),
    ).toEqual([
      { kind: 'tlb_flush', name: 'tlb_flush', pages: -1, reason: 4 },
      {
        kind: 'sys_enter',
        name: 'sys_enter_munmap',
        syscall: 'munmap',
        args: ['addr', 'len'],
        values: [0x7f00_1000, 0x2e000],
      },
      { kind: 'sys_exit', name: 'sys_exit_munmap', syscall: 'munmap', ret: -22 },
      { kind: 'page_fault', name: 'page_fault_user', address: 0x7f00_2000, errorCode: 7 },
      { kind: 'vector_entry', name: 'call_function_entry', irq: 'call_function', vector: 251 },
      {
        kind: 'csd_queue_cpu',
        name: 'csd_queue_cpu',
        target: 2,
        callsite: 'on_each_cpu_cond_mask',
        func: 'flush_tlb_func',
        csd,
      },
      {
        kind: 'ipi_send',
        name: 'ipi_send_cpumask',
        targets: [1, 2, 33, 70],
        callsite: 'on_each_cpu_cond_mask',
        callback: 'generic_smp_call_function_single_interrupt',
      },
      { name: 'rel_demo', text: 'before=5 word=hello after=-3' },
      { kind: 'ipi_raise', name: 'ipi_raise', targets: [0, 9], reason: 'Function call interrupts' },
      { kind: 'vector_entry', name: 'call_function_entry', irq: 'call_function', vector: 251 },
      {
        kind: 'ipi_send',
        name: 'ipi_send_cpu',
        targets: [1],
        callsite: 'helper_in_module',
        callback: '0x0',
      },
      {
        kind: 'sched_switch',
        name: 'sched_switch',
        prevPid: 0,
        prevComm: 'swapper/0',
        nextPid: 42,
        nextComm: 'mutator',
      },
    ]);
    expect(records.map(({ time }) => time - 567_890_123)).toEqual([
      0,
      5,
      6,
      7,
      8,
      10,
      20,
      1_000_002,
      1_000_004,
      2_000_000,
      20 + 5 * 2 ** 27 + 3 + 7,
      4_000_000_000,
    ]);
    expect(records.slice(0, 6).map(({ context }) => context)).toEqual([
      0x1201, 0, 0, 0x06, 0x0c, 0x0121,
    ]);
    expect(records[9]?.context).toBe(0x10);
    expect(records.map(({ task }) => task.comm)).toEqual([
      'mutator',
      '<...>',
      '<...>',
      '<...>',
      '<...>',
      'mutator',
      'mutator',
      '<...>',
      '<...>',
      '<idle>',
      'two words',
      '<idle>',
    ]);
    expect(records[1]?.task).toBe(records[2]?.task);
  });

  test('loses the events that its pages and its statistics count, each once', async () => {
    const { trace } = await readAll(writeDat(sampleSpec(abi, version, compression)));
    // CPU 0: the 17 before a page are among the 20 of the statistics; 1 + 2 more were never
    // written. CPU 1: a place without a number.
    expect([...trace.status().lost.byCpu]).toEqual([
      [0, 23],
      [1, 3],
    ]);
    expect(trace.status().lost).toMatchObject({ counted: 26, uncounted: 1 });
  });

  test('with a second buffer gives both, ties by buffer and CPU', async () => {
    const { records, trace } = await readAll(
      writeDat(withExtraBuffer(sampleSpec(abi, version, compression))),
    );
    expect(trace.header.buffers).toEqual(['extra']);
    expect(records.length).toBe(24);
    const cpus = records.map(({ cpu }) => Number(cpu));
    expect(cpus.slice(0, 6)).toEqual([0, 2, 1, 0, 1, 0]);
  });
});

test('a discarded event counts for time and is no record', async () => {
  const bytes = onePage([
    { record: vector(1), delta: 0 },
    { discarded: 16, delta: 100 },
    { record: vector(2), delta: 7 },
    { pad: true },
  ]);
  const read = await readAll(bytes);
  expect(read.records.map((record) => printedTime(read, record, 9))).toEqual([
    '1234.567890123',
    '1234.567890230',
  ]);
});

test('pages of 64 KiB are read whole', async () => {
  const spec = sampleSpec(ABI, 7, 'zstd', 65_536);
  const many = Array.from({ length: 3000 }, (_, i): PageEvent => ({
    record: vector(i + 1),
    delta: 1,
  }));
  const cpus = [pagesOf(ABI, 65_536, [{ time: BASE, events: many }])];
  const { records } = await readAll(writeDat({ ...spec, buffers: [{ name: '', cpus }] }));
  expect(records.length).toBe(3000);
});

test('more records than a batch holds come in several batches, in order', async () => {
  const pages = pagesOf(
    ABI,
    4096,
    Array.from({ length: 60 }, (_, i) => pageOf200(i * 200)),
  );
  for (const compression of ['none', 'zlib'] as const) {
    const bytes = writeDat({
      ...sampleSpec(ABI, 7, compression),
      buffers: [{ name: '', cpus: [pages, pages] }],
    });
    const { records } = await readAll(bytes, {}, portableCodecs);
    expect(records.length).toBe(24_000);
    expect(records.every(({ time }, i) => time === 567_890_123 + Math.floor(i / 2) * 10)).toBe(
      true,
    );
    expect(records.every(({ cpu }, i) => cpu === i % 2)).toBe(true);
  }
});

test('an event type that the file does not describe is counted and noted', async () => {
  const alien = vector(1);
  alien.set([0xe7, 0x03]);
  const { records, trace } = await readAll(onePage([{ record: alien, delta: 0 }]));
  expect(records.map(({ event }) => event.name)).toEqual(['unknown event 999']);
  expect(trace.status().notes).toEqual([
    '1 records of event type 999, which the file does not describe',
  ]);
});

test('an event that lacks a field of its shape is other', async () => {
  const formats = Object.values(sampleEvents(ABI)).map(({ system, text }) => ({
    system,
    text: text.replace('int vector', 'int number'),
  }));
  const { records } = await readAll(onePage([{ record: vector(1), delta: 0 }], { formats }));
  expect(
    records.map(({ event }) => (event.kind === 'other' ? event.payload.text() : event.kind)),
  ).toEqual(['number=251']);
});

test('a code address without a symbol is hex digits', async () => {
  const e = sampleEvents(ABI);
  const record = e.send.record(1, [1, kernelAddress(ABI, 0x9_0000), 0xffff_ffff_0000_0001n]);
  const hidden = await readAll(
    onePage([{ record, delta: 0 }], {
      kallsyms: '0000000000000000 T _text\n0000000000000000 T _etext\n',
    }),
  );
  const outside = await readAll(onePage([{ record, delta: 0 }]));
  for (const { records } of [hidden, outside]) {
    expect(records[0]?.event).toMatchObject({
      callsite: '0xffffffff81090000',
      callback: '0xffffffff00000001',
    });
  }
});

test('a counter clock counts ticks', async () => {
  const ticks = await readAll(
    onePage([{ record: vector(1), delta: 0 }], { options: [[4, optionText('local [x86-tsc]\n')]] }),
  );
  expect(ticks.trace.header.clock).toEqual({ name: 'x86-tsc', unit: 'ticks', resolution: 1 });
});

test('an option that would change times is named, not applied', async () => {
  const { trace } = await readAll(
    onePage([{ record: vector(1), delta: 0 }], { options: [[7, optionText('1000')]] }),
  );
  expect(trace.status().notes).toEqual([
    'times are as recorded: option OFFSET (a fixed time added to each event) is not applied',
  ]);
});

/**
 * What is wrong with a text is said in one line: where, what was expected, what was found, what to
 * do.
 */
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { portableCodecs } from '../codecs.ts';
import { open, recordsOf } from '../examples.testlib.ts';
import { nodeCodecs } from '../node.ts';
import { openTrace } from '../open.ts';

const HEADER = 'cpus=8\n';
const GOOD =
  '            init-1     [005]    18.651507: tlb_flush:            pages=1 reason=local (3)\n';

async function problem(input: Parameters<typeof open>[0]): Promise<string> {
  try {
    await recordsOf(await open(input));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return 'no problem';
}

test.each([
  [
    { text: '' },
    'test: byte 0: expected ftrace text, trace-cmd report text or trace.dat (plain or gzip), found an empty file',
  ],
  [{ bytes: gzipSync('') }, 'found gzip of nothing'],
  [
    { text: 'hello\nworld\n' },
    "test: line 1: expected ftrace text, trace-cmd report text or trace.dat (plain or gzip), found 'hello'",
  ],
  [
    { bytes: new Uint8Array([1, 2, 0, 4]) },
    'test: byte 2: expected ftrace text, trace-cmd report text or trace.dat (plain or gzip), found binary data',
  ],
  [{ text: 'PERFILE2....' }, 'found a perf.data file; record with trace-cmd instead'],
  [
    {
      text: 'wl  3312 [000]  1270.688781:  tlb:tlb_flush: pages:1 reason:local MM shootdown (3)\n',
    },
    'found perf script text',
  ],
  [{ text: '{"traceEvents":[]}' }, 'found JSON'],
  [
    { text: `${HEADER}${GOOD}garbage\n${GOOD}` },
    "test: line 3: expected TASK-PID [CPU] FLAGS TIME: EVENT, found 'garbage'; use --keep-going",
  ],
  [
    { text: `${HEADER}${GOOD.replace('pages=1', 'pages=x')}` },
    "line 2: expected the fields of tlb_flush, found 'pages=x reason=local (3)'",
  ],
  [
    { text: `${HEADER}${GOOD}${'x'.repeat(100_000)}` },
    'test: line 3: expected a text line, found a line of more than 65536 bytes at byte',
  ],
])('%o', async (input, expected) => {
  expect(await problem(input)).toContain(expected);
});

test('with keepGoing, lines that cannot be read are counted, the rest is read, and events keep their names', async () => {
  const trace = await open(
    { text: `${HEADER}${GOOD}garbage\n${GOOD.replace('pages=1', 'pages=x')}${GOOD}` },
    { keepGoing: true },
  );
  const records = await recordsOf(trace);
  expect(records.map((record) => `${record.event.name} ${record.event.kind}`)).toEqual([
    'tlb_flush tlb_flush',
    'tlb_flush other',
    'tlb_flush tlb_flush',
  ]);
  expect(trace.status().problemCount).toBe(2);
});

test('a cut gzip says so behind the last line, and with keepGoing gives what came before', async () => {
  const whole = gzipSync(HEADER + GOOD.repeat(5000));
  const cut = whole.subarray(0, whole.length - 40);
  expect(await problem({ bytes: cut })).toMatch(/line \d+: expected more of the compressed data/);
  const trace = await open({ bytes: cut }, { keepGoing: true });
  expect((await recordsOf(trace)).length).toBeGreaterThan(0);
  expect(trace.status().problemCount).toBe(1);
});

test('a gzip bomb of one endless line is refused after one line of memory', async () => {
  const bomb = gzipSync(new Uint8Array(50 << 20).fill(120));
  expect(await problem({ bytes: Buffer.concat([gzipSync(HEADER + GOOD), bomb]) })).toContain(
    'a line of more than 65536 bytes',
  );
});

test.each([
  ['cpu=4294967295', 'csd_queue_cpu: cpu=4294967295 callsite=f func=g csd=0x0'],
  ['cpu=-1', 'csd_queue_cpu: cpu=-1 callsite=f func=g csd=0x0'],
  ['cpu=9999', 'ipi_send_cpu: cpu=9999 callsite=f callback=g'],
  ['a mask of 10,000 CPUs', 'ipi_send_cpumask: cpumask=0-9999 callsite=f callback=g'],
  ['reason 1000000000', 'tlb_flush: pages:1 reason:x (1000000000)'],
])('%s is no number to count with', async (_name, line) => {
  const text = `${HEADER}            init-1     [005]    18.651507: ${line}\n`;
  expect(await problem({ text })).toContain('line 2: expected the fields of');
});

test('a header that states more CPUs than any machine has is not believed', async () => {
  const trace = await open({ text: `cpus=400000000\n${GOOD}` });
  expect(trace.header.cpus).toBeNull();
  expect(trace.status().notes.join()).toContain('states 400000000 CPUs');
});

test('commands, event names and times beyond any kernel are no event lines', async () => {
  const long = 'x'.repeat(300);
  expect(await problem({ text: `${HEADER}${GOOD}${long}-1 [005] 18.651507: e: x\n` })).toContain(
    'line 3',
  );
  expect(await problem({ text: `${HEADER}${GOOD}${GOOD.replace('tlb_flush', long)}` })).toContain(
    'line 3',
  );
  const late = GOOD.replace('18.651507', '99999999999999999999.000000');
  expect(await problem({ text: `${HEADER}${GOOD}${late}` })).toContain('line 3');
});

test('stack traces and lines of the function tracer are events without a shape', async () => {
  const front = '          <idle>-0       [003] d.h1.     5.00000';
  const text = [
    '# tracer: function',
    `${front}1: tlb_flush: pages:1 reason:local (3)`,
    `${front}2: <stack trace>`,
    ' => native_flush_tlb_multi',
    `${front}3: <user stack trace>`,
    ' =>  <00007f0000000000>',
    `${front}4: flush_tlb_func <-__flush_smp_call_function_queue`,
    '',
  ].join('\n');
  const records = await recordsOf(await open({ text }));
  expect(records.map((record) => record.event.name)).toEqual([
    'tlb_flush',
    'kernel_stack',
    'user_stack',
    'function',
  ]);
});

test('zeros that pad a gzip are no damage', async () => {
  for (const codecs of [nodeCodecs, portableCodecs]) {
    const bytes = Buffer.concat([gzipSync(HEADER + GOOD), new Uint8Array(512)]);
    expect(await recordsOf(await open({ bytes }, { codecs }))).toHaveLength(1);
  }
});

test('a refused source is let go of', async () => {
  let closed = false;
  async function* chunks(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield new TextEncoder().encode('garbage\n'.repeat(10_000));
    } finally {
      closed = true;
    }
  }
  await expect(openTrace({ name: 'pipe', size: null, chunks })).rejects.toThrow('garbage');
  expect(closed).toBe(true);
});

test('a gzip with a wrong checksum is damaged, and with keepGoing all its lines are read', async () => {
  const bytes = Uint8Array.from(gzipSync(HEADER + GOOD.repeat(100)));
  bytes[bytes.length - 6] = (bytes[bytes.length - 6] ?? 0) ^ 1;
  for (const codecs of [nodeCodecs, portableCodecs]) {
    await expect(open({ bytes }, { codecs }).then(recordsOf)).rejects.toMatchObject({
      code: 'ERR_TRACE_CORRUPT',
    });
    const trace = await open({ bytes }, { codecs, keepGoing: true });
    expect(await recordsOf(trace)).toHaveLength(100);
    expect(trace.status().problemCount).toBe(1);
  }
});

test('data behind the padding of a gzip is damage, not padding', async () => {
  const zeros = new Uint8Array(512);
  const bytes = Buffer.concat([gzipSync(HEADER + GOOD), zeros, gzipSync(GOOD.repeat(9))]);
  for (const codecs of [nodeCodecs, portableCodecs]) {
    await expect(open({ bytes }, { codecs }).then(recordsOf)).rejects.toMatchObject({
      code: 'ERR_TRACE_CORRUPT',
    });
    const kept = await recordsOf(await open({ bytes }, { codecs, keepGoing: true }));
    expect(kept).toHaveLength(1);
  }
});

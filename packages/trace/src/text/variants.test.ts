/**
 * The forms of ftrace text. The recorded ones come from 6.12.111 and 6.1.176-rt; the four-character
 * one is written after the header of kernels before 5.16.
 */
import { Context, CONTEXT_UNKNOWN } from '@shootdown/machine';
import { expect, test } from 'vitest';
import { countsOf, open, recordsOf } from '../examples.testlib.ts';

const FOUR_FLAGS = `# tracer: nop
#
# entries-in-buffer/entries-written: 2/2   #P:4
#
#                              _-----=> irqs-off
#                             / _----=> need-resched
#                            | / _---=> hardirq/softirq
#                            || / _--=> preempt-depth
#                            ||| /     delay
#           TASK-PID   CPU#  ||||    TIMESTAMP  FUNCTION
#              | |       |   ||||       |         |
 Web Content-[1]-4242  [003] dNh2  1234.567890: tlb_flush: pages:-1 reason:remote shootdown (1)
          <idle>-0     [000] ....  1234.567891: tlb_flush: pages:33 reason:local mm shootdown (3)
`;

test('four flag characters, and a command that holds spaces, dashes and brackets', async () => {
  const trace = await open({ text: FOUR_FLAGS });
  const [first, second] = await recordsOf(trace);
  expect(trace.header).toMatchObject({
    kind: 'ftrace',
    layout: '4 flag characters',
    cpus: 4,
    origin: 1_234_000_000_000n,
  });
  expect(first).toMatchObject({
    time: 567_890_000,
    cpu: 3,
    task: { comm: 'Web Content-[1]', pid: 4242, tgid: null },
    event: { kind: 'tlb_flush', pages: -1, reason: 1 },
  });
  expect(first?.context).toBe(
    Context.irqsOff | Context.needResched | Context.hardirq | (2 << Context.preemptDepthShift),
  );
  expect(second).toMatchObject({ task: { comm: '<idle>', pid: 0 }, context: 0 });
});

test('five flag characters of 5.16 to 6.18', async () => {
  const trace = await open({ example: 'qemu-6.12-smp8.ftrace.txt.gz' });
  const records = await recordsOf(trace);
  expect(trace.header.layout).toBe('5 flag characters');
  // zcat | awk '{print $5}' | sort | uniq -c, the lines with `sys_` by hand.
  expect(countsOf(records)).toMatchObject({
    csd_function_exit: 894,
    tlb_flush: 821,
    csd_function_entry: 725,
    csd_queue_cpu: 541,
    call_function_entry: 452,
    call_function_exit: 389,
    sched_switch: 270,
    ipi_send_cpumask: 166,
    ipi_send_cpu: 56,
    call_function_single_entry: 25,
  });
  expect(records).toHaveLength(4438);
});

test('seven flag characters of PREEMPT_RT 6.1, every line', async () => {
  const trace = await open({ example: 'qemu-6.1-rt-smp4.ftrace.txt.gz' });
  const records = await recordsOf(trace);
  expect(trace.header.layout).toBe('7 flag characters');
  expect(records).toHaveLength(3258);
  expect(countsOf(records)).toMatchObject({
    sched_switch: 1427,
    tlb_flush: 1118,
    call_function_entry: 221,
    call_function_single_entry: 47,
  });
  // d....11: interrupts off, preempt-lazy-depth 1, migrate-disable 1.
  expect(records[0]?.context).toBe(Context.irqsOff | (1 << Context.migrateDisableShift));
});

test('nine digits of a second are nanoseconds', async () => {
  const text = FOUR_FLAGS.replaceAll(/(1234\.\d{6}):/g, '$1123:');
  const trace = await open({ text });
  expect((await recordsOf(trace)).map((record) => record.time)).toEqual([567_890_123, 567_891_123]);
  expect(trace.header).toMatchObject({
    clock: { unit: 'ns', resolution: 1 },
    origin: 1_234_000_000_000n,
  });
});

test.each([
  ['behind its name', 'sh', 'a-1 [0] 1: b'],
  ['in front of its pid', '1 [0] 1.1: a:b:', 'x'],
])('a task that calls itself like the front of a line, %s', async (_where, comm, next) => {
  const rest = `prev_comm=a prev_pid=7 ==> next_comm=${next} next_pid=9`;
  const line = `${comm.padStart(16)}-7       [000] d...  1234.567890: sched_switch: ${rest}\n`;
  const trace = await open({ text: `# tracer: nop\n${line}` });
  expect(await recordsOf(trace)).toMatchObject([
    { time: 567_890_000, task: { comm, pid: 7 }, event: { nextComm: next } },
  ]);
  expect(trace.header).toMatchObject({ clock: { unit: 'ns' }, origin: 1_234_000_000_000n });
});

test('a tgid column', async () => {
  const trace = await open({ example: 'qemu-6.12.ftrace-tgid.txt' });
  const records = await recordsOf(trace);
  expect(trace.header.layout).toBe('5 flag characters, tgid');
  expect(records[0]?.task).toEqual({ pid: 1, comm: 'init', tgid: 1 });
});

test('no flag columns: the context is unknown, not 0', async () => {
  const trace = await open({ example: 'qemu-6.12.ftrace-noirqinfo.txt' });
  const records = await recordsOf(trace);
  expect(trace.header.layout).toBe('no flags');
  expect(records[0]).toMatchObject({
    cpu: 5,
    time: 651_507_000,
    context: CONTEXT_UNKNOWN,
    event: { pages: -1, reason: 0 },
  });
});

test('the latency format: CPU glued to the flags, microseconds since the start, kernel release in the header', async () => {
  const trace = await open({ example: 'qemu-6.12.ftrace-latency-format.txt' });
  const records = await recordsOf(trace);
  expect(trace.header).toMatchObject({ kernel: '6.12.111+deb12-amd64', cpus: 8, origin: 0n });
  expect(records[0]).toMatchObject({ cpu: 5, time: 297_865_000, task: { comm: 'init', pid: 1 } });
  expect(records).toHaveLength(42);
});

test('an excerpt without header is read by its first line, and said to be', async () => {
  const trace = await open({ text: FOUR_FLAGS.split('\n').slice(11).join('\n') });
  expect(await recordsOf(trace)).toHaveLength(2);
  expect(trace.header.layout).toBe('4 flag characters');
  expect(trace.status().notes).toContain(
    'no header: the columns are those of the first event line',
  );
});

test('re-indented lines are read by their anchor', async () => {
  const trace = await open({ text: FOUR_FLAGS.replaceAll(/^ +/gm, '') });
  expect((await recordsOf(trace)).map((record) => record.task.comm)).toEqual([
    'Web Content-[1]',
    '<idle>',
  ]);
});

test('a counter clock counts ticks, exactly, past 2^53', async () => {
  const text = FOUR_FLAGS.replace('1234.567890', '18446744073709551615').replace(
    '1234.567891',
    '18446744073709551616',
  );
  const trace = await open({ text });
  const [first, second] = await recordsOf(trace);
  expect(trace.header.clock.unit).toBe('ticks');
  expect(trace.header.origin + BigInt(first?.time ?? 0)).toBe(18_446_744_073_709_551_615n);
  expect((second?.time ?? 0) - (first?.time ?? 0)).toBe(1);
});

test('losses of the header and of the marks inside', async () => {
  const text = FOUR_FLAGS.replace('2/2', '2/1236').replace(
    '          <idle>',
    'CPU:3 [LOST 34 EVENTS]\nCPU:2 [LOST EVENTS]\n          <idle>',
  );
  const trace = await open({ text });
  expect(await recordsOf(trace)).toHaveLength(2);
  expect(trace.status().lost).toEqual({ byCpu: new Map([[3, 34]]), counted: 1234, uncounted: 1 });
});

test('a batch ends where events are missing, and the status then says on which CPU', async () => {
  const text = FOUR_FLAGS.replace(
    '          <idle>',
    'CPU:3 [LOST 34 EVENTS]\nCPU:2 [LOST EVENTS]\nCPU:3 [LOST 1 EVENTS]\n          <idle>',
  );
  const trace = await open({ text });
  const seen: unknown[] = [];
  for await (const batch of trace.batches())
    seen.push([batch.length, Object.fromEntries(trace.status().gaps)]);
  expect(seen).toEqual([
    [1, { 3: 1 }],
    [0, { 3: 1, 2: 1 }],
    [0, { 3: 2, 2: 1 }],
    [1, { 3: 2, 2: 1 }],
  ]);
});

test('a header that promises more entries than the file holds is noted', async () => {
  const trace = await open({ text: FOUR_FLAGS.replace('2/2', '9/9') });
  await recordsOf(trace);
  expect(trace.status().notes).toContain(
    'the header promises 9 entries, the file holds 2: an excerpt, or cut',
  );
});

test('stack frames and the further lines of a mark belong to the event before them', async () => {
  const more = ` Web Content-[1]-4242  [003] ....  1235.000000: tracing_mark_write: a mark\nof two lines\n`;
  const stack = ` Web Content-[1]-4242  [003] ....  1236.000000: kernel_stack: <stack trace>\n => native_flush_tlb_multi\n`;
  expect(await recordsOf(await open({ text: FOUR_FLAGS + more + stack }))).toHaveLength(4);
});

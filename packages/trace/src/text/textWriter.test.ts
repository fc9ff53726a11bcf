/**
 * What is printed, to the letter, and recordings that are read, written and read again. The lines
 * are those of a 6.12 kernel, with nine digits of time and without what the shapes do not hold.
 */
import { Context, CONTEXT_UNKNOWN, cpuId, UsageError, virtAddr } from '@shootdown/machine';
import { expect, test } from 'vitest';
import type { RecordedEvent, RecordedTask } from '../events/shapes.ts';
import { open, recordsOf } from '../examples.testlib.ts';
import { TextWriter, type WritableRecord } from './textWriter.ts';
import { FLUSH, record, throughText, written } from './textWriter.testlib.ts';

const { irqsOff, hardirq, needResched } = Context;

const callsite = 'on_each_cpu_cond_mask';
const callback = 'generic_smp_call_function_single_interrupt';
const func = 'flush_tlb_func';
const csd = virtAddr(Number(BigInt.asIntN(64, 0xff110000bcc2c000n)));

const INIT: RecordedTask = { pid: 1, comm: 'init', tgid: null };
const inIrq = { task: null, context: irqsOff | hardirq };

const HEADER = `\
# tracer: nop
#
# entries-in-buffer/entries-written: 0/0   #P:8
#
#                                          _-----=> irqs-off/BH-disabled
#                                         / _----=> need-resched
#                                        | / _---=> hardirq/softirq
#                                        || / _--=> preempt-depth
#                                        ||| / _-=> migrate-disable
#                                        |||| /     delay
#           TASK-PID       TGID    CPU#  |||||  TIMESTAMP  FUNCTION
#              | |           |       |   |||||     |         |
`;

/** Records, and what is printed of each up to the time and behind it. */
const EACH: readonly (readonly [WritableRecord, string, string])[] = [
  [
    record(51_909_068, 0, {
      kind: 'sys_enter',
      name: 'sys_enter_mprotect',
      syscall: 'mprotect',
      args: ['start', 'len', 'prot'],
      values: [0x4ba000, 0x4000, 1],
    }),
    '              wl-168     (    168) [000] .....     0.051909068:',
    'sys_mprotect(start: 4ba000, len: 4000, prot: 1)',
  ],
  [
    record(51_909_069, 0, {
      kind: 'csd_queue_cpu',
      name: 'csd_queue_cpu',
      target: cpuId(6),
      callsite,
      func,
      csd,
    }),
    '              wl-168     (    168) [000] .....     0.051909069:',
    'csd_queue_cpu: cpu=6 callsite=on_each_cpu_cond_mask func=flush_tlb_func csd=ff110000bcc2c000',
  ],
  [
    record(51_909_070, 0, {
      kind: 'ipi_send',
      name: 'ipi_send_cpumask',
      targets: [cpuId(1), cpuId(6)],
      callsite,
      callback,
    }),
    '              wl-168     (    168) [000] .....     0.051909070:',
    'ipi_send_cpumask: cpumask=00000000,00000042 callsite=on_each_cpu_cond_mask callback=generic_smp_call_function_single_interrupt',
  ],
  [
    record(
      51_909_070,
      3,
      {
        kind: 'ipi_send',
        name: 'ipi_send_cpu',
        targets: [cpuId(4)],
        callsite: 'wakeup_preempt',
        callback: '0x0',
      },
      { task: INIT, context: irqsOff },
    ),
    '            init-1       (-------) [003] d....     0.051909070:',
    'ipi_send_cpu: cpu=4 callsite=wakeup_preempt callback=0x0',
  ],
  [
    record(
      51_909_160,
      1,
      {
        kind: 'vector_entry',
        name: 'call_function_single_entry',
        irq: 'call_function_single',
        vector: 251,
      },
      inIrq,
    ),
    '          <idle>-0       (-------) [001] d.h..     0.051909160:',
    'call_function_single_entry: vector=251',
  ],
  [
    record(
      51_909_170,
      1,
      { kind: 'csd_function_entry', name: 'csd_function_entry', func, csd },
      inIrq,
    ),
    '          <idle>-0       (-------) [001] d.h..     0.051909170:',
    'csd_function_entry: func=flush_tlb_func, csd=ff110000bcc2c000',
  ],
  [
    record(51_909_180, 1, { kind: 'tlb_flush', name: 'tlb_flush', pages: -1, reason: 1 }, inIrq),
    '          <idle>-0       (-------) [001] d.h..     0.051909180:',
    'tlb_flush: pages:-1 reason:remote shootdown (1)',
  ],
  [
    record(
      51_909_212,
      1,
      { kind: 'csd_function_exit', name: 'csd_function_exit', func, csd: virtAddr(0) },
      { task: null, context: irqsOff | hardirq | needResched },
    ),
    '          <idle>-0       (-------) [001] dNh..     0.051909212:',
    'csd_function_exit: func=flush_tlb_func, csd=0000000000000000',
  ],
  [
    record(
      51_909_380,
      1,
      {
        kind: 'sched_switch',
        name: 'sched_switch',
        prevComm: 'swapper/1',
        prevPid: 0,
        nextComm: 'rcu_sched',
        nextPid: 15,
      },
      { task: null, context: irqsOff },
    ),
    '          <idle>-0       (-------) [001] d....     0.051909380:',
    'sched_switch: prev_comm=swapper/1 prev_pid=0 ==> next_comm=rcu_sched next_pid=15',
  ],
  [
    record(1_051_909_380, 0, {
      kind: 'sys_exit',
      name: 'sys_exit_munmap',
      syscall: 'munmap',
      ret: -12,
    }),
    '              wl-168     (    168) [000] .....     1.051909380:',
    'sys_munmap -> 0xfffffffffffffff4',
  ],
  [
    record(
      123_456_000_000_001,
      3,
      {
        kind: 'page_fault',
        name: 'page_fault_user',
        address: virtAddr(0x7ffe28229fe8),
        errorCode: 7,
      },
      { context: irqsOff | (2 << Context.preemptDepthShift) | (1 << Context.migrateDisableShift) },
    ),
    '              wl-168     (    168) [003] d..21 123456.000000001:',
    'page_fault_user: address=0x7ffe28229fe8 error_code=0x7',
  ],
  [
    record(123_456_000_000_001, 3, {
      kind: 'page_fault',
      name: 'page_fault_kernel',
      address: null,
      errorCode: 2,
    }),
    '              wl-168     (    168) [003] ..... 123456.000000001:',
    'page_fault_kernel: address=(____ptrval____) error_code=0x2',
  ],
  [
    record(123_456_000_000_001, 3, {
      kind: 'ipi_raise',
      name: 'ipi_raise',
      targets: [cpuId(1), cpuId(2)],
      reason: 'Function call interrupts',
    }),
    '              wl-168     (    168) [003] ..... 123456.000000001:',
    'ipi_raise: target_mask=00000000,00000006 (Function call interrupts)',
  ],
  [
    record(123_456_000_000_001, 3, {
      kind: 'ipi_exit',
      name: 'ipi_exit',
      targets: [],
      reason: 'Function call interrupts',
    }),
    '              wl-168     (    168) [003] ..... 123456.000000001:',
    'ipi_exit: (Function call interrupts)',
  ],
  [
    record(123_456_000_000_001, 6, {
      kind: 'other',
      name: 'tracing_mark_write',
      payload: { text: () => 'THREAD 0 tid=168 cpu=0' },
    }),
    '              wl-168     (    168) [006] ..... 123456.000000001:',
    'tracing_mark_write: THREAD 0 tid=168 cpu=0',
  ],
];

test('one of each kind, as ftrace prints it', () => {
  const text = written(
    EACH.map(([one]) => one),
    8,
  ).join('');
  expect(text).toBe(`${HEADER}${EACH.map(([, front, rest]) => `${front} ${rest}\n`).join('')}`);
});

test('the reasons of a flush by the names that 6.12 has for them, others by number', () => {
  const text = written(
    [0, 1, 2, 3, 4, 5, 6, 17].map((reason) => record(0, 0, { ...FLUSH, reason })),
    1,
  );
  expect(text.join('').match(/reason:.*/g)).toEqual([
    'reason:flush on task switch (0)',
    'reason:remote shootdown (1)',
    'reason:local shootdown (2)',
    'reason:local mm shootdown (3)',
    'reason:remote ipi send (4)',
    'reason:remote wrong CPU (5)',
    'reason:0x6 (6)',
    'reason:0x11 (17)',
  ]);
});

test.each([
  [0, '.....'],
  [irqsOff | Context.bhOff, 'D....'],
  [Context.bhOff | Context.softirq, 'b.s..'],
  [hardirq | Context.softirq, '..H..'],
  [Context.nmi | Context.softirq, '..z..'],
  [Context.nmi | hardirq, '..Z..'],
  [needResched | (15 << Context.preemptDepthShift) | (10 << Context.migrateDisableShift), '.N.fa'],
])('context %i is %s', (context, flags) => {
  const [text] = written([record(0, 0, FLUSH, { context })], 1);
  expect(text?.split('\n').at(-2)).toContain(`[000] ${flags}     0.000000000: `);
});

test.each([
  [1, '00000000,00000001'],
  [64, '00000000,00000001'],
  [65, '00000000,00000000,00000000,00000001'],
])('a mask on %i CPUs has whole longs', (cpus, mask) => {
  const event: RecordedEvent = {
    kind: 'ipi_send',
    name: 'ipi_send_cpumask',
    targets: [cpuId(0)],
    callsite,
    callback,
  };
  expect(written([record(0, 0, event)], cpus).join('')).toContain(`cpumask=${mask} callsite=`);
});

test('no context: no flag columns, and no legend of them', async () => {
  const records = [record(7, 0, FLUSH, { context: CONTEXT_UNKNOWN })];
  const text = written(records, 2).join('');
  expect(text.split('\n').slice(4)).toEqual([
    '#           TASK-PID       TGID    CPU#     TIMESTAMP  FUNCTION',
    '#              | |           |       |         |         |',
    '              wl-168     (    168) [000]      0.000000007: tlb_flush: pages:1 reason:remote ipi send (4)',
    '',
  ]);
  const { expected, read, trace } = await throughText(records, 2);
  expect(trace.header.layout).toBe('no flags, tgid');
  expect(read).toEqual(expected);
});

test('a file of no records is a header, and is read', async () => {
  const trace = await open({ text: written([], 8).join('') });
  expect(await recordsOf(trace)).toEqual([]);
  expect(trace.header).toMatchObject({ layout: '5 flag characters, tgid', cpus: 8 });
});

test('text comes in chunks of whole lines', () => {
  const chunks = written(
    Array.from({ length: 5000 }, (_, i) => record(i, 0, FLUSH)),
    1,
  );
  expect(chunks.length).toBeGreaterThan(5);
  for (const chunk of chunks) expect(chunk.endsWith('\n')).toBe(true);
  for (const chunk of chunks.slice(0, -1)) expect(chunk.length >> 7).toBe(512);
});

test('no machine has 0 CPUs, nor 8193', () => {
  for (const cpus of [0, 8193, 1.5])
    expect(() => new TextWriter(() => undefined, { cpus })).toThrow(
      'cpus is an integer from 1 to 8192',
    );
});

test('what is refused leaves no trace; what has ended takes nothing more', () => {
  const chunks: string[] = [];
  const writer = new TextWriter((text) => chunks.push(text), { cpus: 8 });
  expect(() => writer.record(record(500, 8, FLUSH, { context: CONTEXT_UNKNOWN }))).toThrow(
    UsageError,
  );
  for (const [one] of EACH) {
    writer.record(one);
    expect(() => writer.record({ ...one, cpu: cpuId(8) })).toThrow(UsageError);
  }
  writer.end();
  writer.end();
  expect(chunks).toEqual(
    written(
      EACH.map(([one]) => one),
      8,
    ),
  );
  expect(() => writer.record(record(2 ** 50, 0, FLUSH))).toThrow(
    'record 16 (tlb_flush): the text has ended',
  );
});

test.each([
  ['qemu-6.12-isolated67.v7-zstd.dat'],
  ['qemu-6.12-thp-collapse.v7-zstd.dat'],
  ['qemu-6.12-isolated67.trace-cmd-report.txt.gz'],
  ['qemu-6.12-thp-collapse.trace-cmd-report.txt.gz'],
  ['qemu-6.12-smp8.trace-cmd-report.txt.gz'],
  ['qemu-6.12-smp8.ftrace.txt.gz'],
  ['qemu-6.1-rt-smp4.ftrace.txt.gz'],
  ['qemu-6.12.ftrace-latency-format.txt'],
  ['qemu-6.12.ftrace-noirqinfo.txt'],
  ['qemu-6.12.ftrace-tgid.txt'],
])('%s, read, written and read again, gives the same records', async (example) => {
  const recording = await open({ example });
  const records = await recordsOf(recording);
  expect(records.length).toBeGreaterThan(30);
  const { expected, read, trace } = await throughText(records, recording.header.cpus ?? 8);
  expect(read).toEqual(expected);
  expect(trace.status()).toMatchObject({ problemCount: 0, notes: [] });
});

/**
 * Payloads in every spelling that the kernel, trace-cmd's plugins and `trace-cmd report -R` print.
 */
import { expect, test } from 'vitest';
import type { RecordedEvent } from '../events/shapes.ts';
import { open, recordsOf } from '../examples.testlib.ts';

async function eventOf(
  line: string,
  header: 'ftrace' | 'report' = 'ftrace',
): Promise<RecordedEvent | undefined> {
  const front = '            init-1       [005] d..1.    18.651507: ';
  const first = header === 'ftrace' ? '# tracer: nop\n' : 'cpus=8\n';
  const records = await recordsOf(await open({ text: `${first}${front}${line}\n` }));
  return records[0]?.event;
}

test.each([
  ['tlb_flush: pages:16 reason:remote shootdown (1)', { pages: 16, reason: 1 }],
  ['tlb_flush: pages:-1 reason: (4)', { pages: -1, reason: 4 }],
  ['tlb_flush: pages=1 reason=local MM shootdown (3)', { pages: 1, reason: 3 }],
  ['tlb_flush: reason=5 pages=-1', { pages: -1, reason: 5 }],
  ['tlb_flush: pages:9007199254740989 reason:x (1)', { pages: 9_007_199_254_740_989, reason: 1 }],
])('%s', async (line, expected) => {
  expect(await eventOf(line)).toEqual({ kind: 'tlb_flush', name: 'tlb_flush', ...expected });
});

test('a call queued: offsets and sizes of symbols are dropped, modules too', async () => {
  const line =
    'csd_queue_cpu: cpu=6 callsite=on_each_cpu_cond_mask+0x24/0x40 func=flush_tlb_func csd=0xff1100013bb3d1e0';
  expect(await eventOf(line)).toEqual({
    kind: 'csd_queue_cpu',
    name: 'csd_queue_cpu',
    target: 6,
    callsite: 'on_each_cpu_cond_mask',
    func: 'flush_tlb_func',
    // 0xff1100013bb3d1e0 as a signed number.
    csd: Number(BigInt.asIntN(64, 0xff1100013bb3d1e0n)),
  });
  expect(
    await eventOf(
      'csd_queue_cpu: cpu=1 callsite=f+0x1/0x2 [kvm] func=kvm_fn [kvm] csd=00000000abcd1230',
    ),
  ).toMatchObject({
    callsite: 'f',
    func: 'kvm_fn',
    csd: 0xabcd1230,
  });
});

test.each(['(nil)', '0000000000000000', '0x0'])('a local run has csd %s', async (csd) => {
  expect(await eventOf(`csd_function_entry: func=flush_tlb_func, csd=${csd}`)).toMatchObject({
    func: 'flush_tlb_func',
    csd: 0,
  });
});

test('a cpumask is hex words in ftrace text and a list in a report: 11 is not 11', async () => {
  const line = 'ipi_send_cpumask: cpumask=11 callsite=f+0x1 callback=g+0x0';
  expect(await eventOf(line, 'ftrace')).toMatchObject({ targets: [0, 4] });
  expect(await eventOf(line, 'report')).toMatchObject({ targets: [11] });
  expect(
    await eventOf('ipi_send_cpumask: cpumask=00000001,000000c1 callsite=f callback=g'),
  ).toMatchObject({ targets: [0, 6, 7, 32] });
  expect(
    await eventOf('ipi_send_cpumask: cpumask=0-3,5-7 callsite=f callback=g', 'report'),
  ).toMatchObject({ targets: [0, 1, 2, 3, 5, 6, 7] });
});

test('a report without formats (-R) prints where the mask is, so the targets are unknown', async () => {
  expect(
    await eventOf('ipi_send_cpumask: cpumask=524320 callsite=f callback=g', 'report'),
  ).toMatchObject({ targets: null });
});

test.each([
  [
    'sched_switch: prev_comm=a b prev_pid=7 prev_prio=120 prev_state=R+ ==> next_comm=c=d next_pid=9 next_prio=98',
    'a b',
    7,
    'c=d',
    9,
  ],
  [
    'sched_switch: prev_comm= prev_pid=7 prev_prio=120 prev_state=R ==> next_comm= next_pid=9 next_prio=98',
    '',
    7,
    '',
    9,
  ],
  ['sched_switch: swapper/4:0 [120] R ==> x:y:18 [120]', 'swapper/4', 0, 'x:y', 18],
])('%s', async (line, prevComm, prevPid, nextComm, nextPid) => {
  expect(await eventOf(line)).toEqual({
    kind: 'sched_switch',
    name: 'sched_switch',
    prevComm,
    prevPid,
    nextComm,
    nextPid,
  });
});

test.each([
  ['sys_munmap(addr: 7f2d687b4000, len: 10000)', 'munmap', { addr: 0x7f2d687b4000, len: 65_536 }],
  [
    'sys_munmap(addr: 0x7f2d687b4000, len: 0x10000)',
    'munmap',
    { addr: 0x7f2d687b4000, len: 65_536 },
  ],
  [
    'sys_enter_munmap: addr: 0x7f2d687b4000, len: 0x00010000',
    'munmap',
    { addr: 0x7f2d687b4000, len: 65_536 },
  ],
  [
    'sys_enter_munmap: __syscall_nr=11 addr=0x7f2d687b4000 len=0x00010000',
    'munmap',
    { addr: 0x7f2d687b4000, len: 65_536 },
  ],
])('the call %s', async (line, syscall, args) => {
  const event = await eventOf(line);
  expect(event).toMatchObject({ kind: 'sys_enter', name: `sys_enter_${syscall}`, syscall });
  if (event?.kind !== 'sys_enter') return;
  expect(Object.fromEntries(event.args.map((name, i) => [name, event.values[i]]))).toEqual(args);
});

test.each([
  ['sys_munmap -> 0x0', 0],
  ['sys_munmap -> 0xfffffffffffffff4', -12],
  ['sys_exit_munmap: 0x0', 0],
  ['sys_exit_munmap: __syscall_nr=11 ret=0xfffffffffffffff4', -12],
])('the return %s', async (line, ret) => {
  expect(await eventOf(line)).toEqual({
    kind: 'sys_exit',
    name: 'sys_exit_munmap',
    syscall: 'munmap',
    ret,
  });
});

test('interrupts, faults, and arm interrupts', async () => {
  expect(await eventOf('call_function_single_entry: vector=251')).toEqual({
    kind: 'vector_entry',
    name: 'call_function_single_entry',
    irq: 'call_function_single',
    vector: 251,
  });
  expect(await eventOf('page_fault_user: address=0x4ba120 ip=main error_code=0x7')).toMatchObject({
    address: 0x4ba120,
    errorCode: 7,
  });
  expect(await eventOf('page_fault_kernel: address=init_task ip=f error_code=0x0')).toMatchObject({
    address: null,
  });
  expect(
    await eventOf('ipi_raise: target_mask=00000000,00000006 (Function call interrupts)'),
  ).toMatchObject({
    targets: [1, 2],
    reason: 'Function call interrupts',
  });
});

test('an event without a shape keeps its payload as text', async () => {
  const event = await eventOf('exit_mmap: mt_mod 00000000b05a7312, DESTROY');
  expect(event?.kind === 'other' && event.payload.text()).toBe('mt_mod 00000000b05a7312, DESTROY');
});

/** Small traces written by hand; every expected number is read off the lines. */
import { cpuId } from '@shootdown/machine';
import { expect, test } from 'vitest';
import { countReplay } from './count.ts';
import { excerpt } from './examples.testlib.ts';
import type { ObservedCall } from './result.ts';

const QUEUE = 'callsite=on_each_cpu_cond_mask+0x24/0x40 func=flush_tlb_func csd=00000000abcd1230';

test('reason 4 is traced when nobody is interrupted: requests are not calls', async () => {
  const counts = await countReplay(
    await excerpt([
      'a-10 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
      `a-10 0 101 csd_queue_cpu: cpu=1 ${QUEUE}`,
      `a-10 0 102 csd_queue_cpu: cpu=2 ${QUEUE}`,
      'a-10 0 110 tlb_flush: pages:1 reason:remote ipi send (4)',
      'a-10 0 111 tlb_flush: pages:1 reason:local mm shootdown (3)',
      'a-10 0 120 tlb_flush: pages:1 reason:remote ipi send (4)',
    ]),
  );
  expect(counts.flushes).toEqual({
    byReason: [0, 0, 0, 1, 3, 0],
    requests: 3,
    requestsWithoutCall: 2,
    callsQueued: 2,
  });
});

test('a call is blamed on the system call it happens in, on a fault, on a kernel thread, or on nothing that the trace shows', async () => {
  const counts = await countReplay(
    await excerpt([
      `a-10 0 100 csd_queue_cpu: cpu=1 ${QUEUE}`,
      'a-10 0 101 sys_madvise(start: 1000, len_in: 1000, behavior: 4)',
      `a-10 0 102 csd_queue_cpu: cpu=1 ${QUEUE}`,
      'a-10 0 103 sys_madvise -> 0x0',
      'a-10 0 104 page_fault_user: address=0x1000 ip=0x2000 error_code=0x7',
      `a-10 0 105 csd_queue_cpu: cpu=1 ${QUEUE}`,
      'a-10 0 106 sys_exit_group(error_code: 0)',
      `a-10 0 107 csd_queue_cpu: cpu=1 ${QUEUE}`,
      `khugepaged-90 2 108 csd_queue_cpu: cpu=1 ${QUEUE}`,
      'a-10 0 109 csd_queue_cpu: cpu=1 callsite=ttwu_queue_wakelist+0xdd/0x100 func=sched_ttwu_pending csd=00000000abcd1230',
    ]),
  );
  const causes = counts.causes.map(({ comm, origin }) => `${comm} ${origin.kind}: ${origin.name}`);
  expect(causes.toSorted((a, b) => (a < b ? -1 : 1))).toEqual([
    'a callsite: ttwu_queue_wakelist',
    'a fault: page fault (copy-on-write)',
    'a syscall: exit_group',
    'a syscall: madvise(MADV_DONTNEED)',
    'a untraced: not in a traced system call',
    'khugepaged kthread: khugepaged',
  ]);
});

test('a call sent before the trace sees the task is blamed on the system call that it then leaves', async () => {
  const counts = await countReplay(
    await excerpt([
      `rmmod-10 0 100 csd_queue_cpu: cpu=1 ${QUEUE}`,
      `cat-11 2 101 csd_queue_cpu: cpu=1 ${QUEUE}`,
      `cat-12 2 102 csd_queue_cpu: cpu=1 ${QUEUE}`,
      'rmmod-10 0 103 sys_delete_module -> 0x0',
      // This one enters a call first, so what it did before is not known.
      'cat-11 2 104 sys_munmap(addr: 1000, len: 1000)',
      'cat-11 2 105 sys_munmap -> 0x0',
      `rmmod-10 0 106 csd_queue_cpu: cpu=1 ${QUEUE}`,
    ]),
  );
  expect(
    counts.causes.map(({ comm, origin, calls, pids }) => [comm, origin.name, calls, pids]),
  ).toEqual([
    ['cat', 'not in a traced system call', 2, [11, 12]],
    ['rmmod', 'delete_module', 1, [10]],
    ['rmmod', 'not in a traced system call', 1, [10]],
  ]);
});

test('one request calls several CPUs; an interrupt that calls in between does not split it', async () => {
  const sync = (cpu: number): string =>
    `csd_queue_cpu: cpu=${cpu} callsite=smp_call_function+0x2c func=tlb_remove_table_smp_sync csd=00000000abcd1230`;
  const counts = await countReplay(
    await excerpt([
      `a-10 0 100 ${sync(1)}`,
      'a-10 0 101 csd_queue_cpu: cpu=3 callsite=irq_work_queue_on+0x5b func=nohz_full_kick_func csd=00000000abcd1240',
      'a-10 0 102 ipi_send_cpu: cpu=3 callsite=irq_work_queue_on+0x5b callback=generic_smp_call_function_single_interrupt+0x0',
      `a-10 0 103 ${sync(2)}`,
      `a-10 0 104 ${sync(3)}`,
      'a-10 0 105 ipi_send_cpumask: cpumask=0000000e callsite=smp_call_function+0x2c callback=g+0x0',
      `a-10 0 106 ${sync(3)}`,
    ]),
  );
  expect(counts.causes.map(({ func, requests, calls }) => [func, requests, calls])).toEqual([
    ['tlb_remove_table_smp_sync', 2, 4],
    ['nohz_full_kick_func', 1, 1],
  ]);
});

test('evidence B: an interrupt sent right behind a flush request is a flush, another is not', async () => {
  const send =
    'callsite=on_each_cpu_cond_mask+0x24 callback=generic_smp_call_function_single_interrupt+0x0';
  const counts = await countReplay(
    await excerpt([
      'a-10 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
      `a-10 0 101 ipi_send_cpumask: cpumask=0000000e ${send}`,
      `a-10 0 102 ipi_send_cpu: cpu=1 ${send}`,
      'a-10 0 103 ipi_send_cpu: cpu=1 callsite=try_to_wake_up+0x1 callback=0x0',
    ]),
  );
  expect(counts.evidence.level).toBe('B');
  // The last one is a reschedule: an interrupt, and no call.
  expect(counts.received).toEqual({ calls: 4, byKind: { 'user-flush': 3, other: 1 } });
  expect(counts.tlbRowBasis).toBe('at-least');
});

test('evidence C: two senders at once are ambiguous, one is certain, none is said to be none', async () => {
  const counts = await countReplay(
    await excerpt([
      'x-9 3 099 tlb_flush: pages:1 reason:remote shootdown (1)',
      'a-10 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
      'x-9 3 101 tlb_flush: pages:1 reason:remote shootdown (1)',
      'b-11 1 102 tlb_flush: pages:1 reason:remote ipi send (4)',
      'x-9 3 103 tlb_flush: pages:1 reason:remote shootdown (1)',
      'a-10 0 104 sys_munmap -> 0x0',
      'x-9 3 105 tlb_flush: pages:1 reason:remote shootdown (1)',
    ]),
  );
  expect(counts.evidence).toMatchObject({ level: 'C', matched: { one: 2, ambiguous: 1, none: 1 } });
  expect(counts.matrix.cells).toEqual([
    { from: 0, to: 3, calls: 1 },
    { from: 1, to: 3, calls: 1 },
  ]);
});

test('evidence D: interrupts are counted, nobody is named; no evidence at all is no answer', async () => {
  const interrupts = await countReplay(
    await excerpt([
      'x-9 3 100 call_function_entry: vector=252',
      'x-9 3 105 call_function_exit: vector=252',
    ]),
  );
  expect(interrupts.evidence.level).toBe('D');
  expect(interrupts.accounts[3]).toMatchObject({
    callInterrupts: 1,
    inInterrupts: { total: 5, longest: 5 },
    tlbRow: null,
  });
  expect(interrupts.whatIf).toEqual([
    expect.objectContaining({ calls: null, basis: 'no data in this trace' }),
  ]);

  const arm = await countReplay(
    await excerpt([
      'x-9 3 100 ipi_entry: (Function call interrupts)',
      'x-9 3 107 ipi_exit: (Function call interrupts)',
      'x-9 3 200 ipi_entry: (Rescheduling interrupts)',
    ]),
  );
  expect(arm.evidence.level).toBe('D');
  expect(arm.accounts[3]).toMatchObject({
    callInterrupts: 1,
    inInterrupts: { total: 7, longest: 7 },
  });

  const none = await countReplay(await excerpt(['x-9 3 100 sched_wakeup: comm=y pid=3']));
  expect(none.evidence.level).toBeNull();
  expect(none.accounts[3]).toMatchObject({
    callInterrupts: null,
    inInterrupts: null,
    tlbRow: null,
  });
});

test('flushes that are traced and never remote are an observation, not a gap', async () => {
  const counts = await countReplay(
    await excerpt(['x-9 3 100 tlb_flush: pages:1 reason:local mm shootdown (3)']),
  );
  expect(counts.evidence.level).toBe('C');
  expect(counts.received.calls).toBe(0);
});

test('a window counts what is inside it and remembers what began before it', async () => {
  const lines = [
    'a-10 0 100 sys_munmap(addr: 1000, len: 1000)',
    `a-10 0 200 csd_queue_cpu: cpu=1 ${QUEUE}`,
    `a-10 0 300 csd_queue_cpu: cpu=1 ${QUEUE}`,
    `a-10 0 400 csd_queue_cpu: cpu=1 ${QUEUE}`,
  ];
  const absolute = await countReplay(await excerpt(lines), {
    from: { value: 5_000_250, relative: false },
    to: { value: 5_000_350, relative: false },
  });
  expect(absolute.causes.map((cause) => [cause.origin.name, cause.calls])).toEqual([['munmap', 1]]);
  expect(absolute.window).toEqual({ first: 5_000_300, last: 5_000_300 });
  // 100 us is where the trace begins.
  const relative = await countReplay(await excerpt(lines), {
    from: { value: 200, relative: true },
  });
  expect(relative.received.calls).toBe(2);
});

test('a cpu list keeps the calls from and to those CPUs', async () => {
  const lines = [
    `a-10 0 200 csd_queue_cpu: cpu=1 ${QUEUE}`,
    `a-10 1 300 csd_queue_cpu: cpu=2 ${QUEUE}`,
    `a-10 2 400 csd_queue_cpu: cpu=3 ${QUEUE}`,
  ];
  const counts = await countReplay(await excerpt(lines), { only: [cpuId(1)] });
  expect(counts.matrix.cells).toEqual([
    { from: 0, to: 1, calls: 1 },
    { from: 1, to: 2, calls: 1 },
  ]);
  expect(counts.accounts.map((account) => account.cpu)).toEqual([1]);
});

test('handlers that ran and flushed nothing are told apart', async () => {
  const run = (us: number, flushes: boolean): readonly string[] => [
    `x-9 3 ${us} csd_function_entry: func=flush_tlb_func, csd=00000000abcd1230`,
    ...(flushes ? [`x-9 3 ${us + 1} tlb_flush: pages:1 reason:remote shootdown (1)`] : []),
    `x-9 3 ${us + 2} csd_function_exit: func=flush_tlb_func, csd=00000000abcd1230`,
  ];
  const local = [
    'x-9 3 400 csd_function_entry: func=flush_tlb_func, csd=0000000000000000',
    'x-9 3 401 csd_function_exit: func=flush_tlb_func, csd=0',
  ];
  const counts = await countReplay(
    await excerpt([...run(100, true), ...run(200, false), ...run(300, true), ...local]),
    { isolated: [cpuId(3)] },
  );
  expect(counts.accounts[0]).toMatchObject({ tlbRow: 3, idleFlushes: 1 });
});

test('what-if rows of the same calls never leave more than today, and bounds hold the exact rows between them', async () => {
  const of = (cpu: number, func: string): string =>
    `csd_queue_cpu: cpu=${cpu} callsite=f+0x1 func=${func} csd=00000000abcd1230`;
  const counts = await countReplay(
    await excerpt([
      `a-10 0 100 ${of(1, 'flush_tlb_func')}`,
      `a-10 0 110 ${of(1, 'do_flush_tlb_all')}`,
      `a-10 0 120 ${of(1, 'do_kernel_range_flush')}`,
      `a-10 0 130 ${of(1, 'tlb_remove_table_smp_sync')}`,
      `a-10 0 140 ${of(1, 'do_sync_core')}`,
    ]),
  );
  const row = (id: string): unknown =>
    counts.whatIf.find((candidate) => candidate.id === id)?.calls;
  expect(row('today')).toEqual({ min: 5, max: 5 });
  expect(row('no-table-sync')).toEqual({ min: 4, max: 4 });
  expect(row('invlpgb')).toEqual({ min: 2, max: 3 });
  expect(row('deferred-kernel-ipis')).toEqual({ min: 2, max: 5 });
});

test('a quiet window of a recording that names every call is an observation of none', async () => {
  const lines = [
    `a-10 0 100 csd_queue_cpu: cpu=1 ${QUEUE}`,
    'a-10 0 200 sched_wakeup: comm=y pid=3',
    `a-10 0 300 csd_queue_cpu: cpu=1 ${QUEUE}`,
  ];
  const from = { value: 50, relative: true };
  const quiet = await countReplay(await excerpt(lines), {
    from,
    to: { value: 150, relative: true },
  });
  expect(quiet.evidence.level).toBe('A');
  expect(quiet.received.calls).toBe(0);
  expect(quiet.events).toEqual({ sched_wakeup: 1 });
  // Nothing at all in a window inside the recording is an observation too; outside it is none.
  const nothing = await countReplay(await excerpt(lines), {
    from,
    to: { value: 60, relative: true },
  });
  expect(nothing.evidence.level).toBe('A');
  const after = await countReplay(await excerpt(lines), { from: { value: 900, relative: true } });
  expect(after.evidence).toMatchObject({ level: null, why: 'no event is in this window' });
});

test('a trace that holds fewer handlers than flushes queued says at least', async () => {
  const ran = [
    'x-9 1 150 csd_function_entry: func=flush_tlb_func, csd=00000000abcd1230',
    'x-9 1 151 csd_function_exit: func=flush_tlb_func, csd=00000000abcd1230',
  ];
  const queued = [
    `a-10 0 100 csd_queue_cpu: cpu=1 ${QUEUE}`,
    `a-10 0 200 csd_queue_cpu: cpu=1 ${QUEUE}`,
  ];
  const counts = await countReplay(await excerpt([...queued, ...ran]), { isolated: [cpuId(1)] });
  expect(counts.tlbRowBasis).toBe('at-least');
  expect(counts.accounts[0]?.tlbRow).toBe(1);
  expect(counts.notes.join()).toContain('1 user flushes queued to CPU 1 have no handler');
});

test('a fault on a page that is not there flushes nobody: what follows it is not blamed on it', async () => {
  const fault = (code: string): string => `page_fault_user: address=0x1 ip=0x2 error_code=${code}`;
  const lines = [
    `a-10 0 100 ${fault('0x14')}`,
    `a-10 0 101 csd_queue_cpu: cpu=1 ${QUEUE}`,
    `a-10 0 102 ${fault('0x5')}`,
    `a-10 0 103 csd_queue_cpu: cpu=2 ${QUEUE}`,
  ];
  const counts = await countReplay(await excerpt(lines));
  expect(
    counts.causes.map((cause) => cause.origin.kind).toSorted((a, b) => (a < b ? -1 : 1)),
  ).toEqual(['fault', 'untraced']);
});

test('calls of weaker evidence are told only when there is no better', async () => {
  const send = 'callsite=on_each_cpu_cond_mask+0x24 callback=g+0x0';
  const told = async (lines: readonly string[]): Promise<readonly string[]> => {
    const calls: string[] = [];
    const onCall = ({ evidence, to }: ObservedCall): void => void calls.push(`${evidence} ${to}`);
    await countReplay(await excerpt(lines), { onCall });
    return calls;
  };
  const sends = [
    `a-10 0 100 ipi_send_cpu: cpu=1 ${send}`,
    `a-10 0 101 ipi_send_cpu: cpu=2 ${send}`,
  ];
  expect(await told(sends)).toEqual(['B 1', 'B 2']);
  // Queue events that come later make the sends before them no calls of the report.
  const queue = `a-10 0 200 csd_queue_cpu: cpu=3 ${QUEUE}`;
  expect(await told([...sends, queue, ...sends])).toEqual(['A 3']);
});

test('a trace whose time goes backwards says so', async () => {
  const counts = await countReplay(
    await excerpt([
      `a-10 0 300 csd_queue_cpu: cpu=1 ${QUEUE}`,
      `a-10 0 100 csd_queue_cpu: cpu=1 ${QUEUE}`,
    ]),
  );
  expect(counts.window).toEqual({ first: 5_000_100, last: 5_000_300 });
  expect(counts.notes.join()).toContain('time goes backwards at 1 records');
});

test('evidence B: what was sent before the window does not make a later send a flush', async () => {
  const send = 'callsite=on_each_cpu_cond_mask+0x24 callback=g+0x0';
  const counts = await countReplay(
    await excerpt([
      'a-10 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
      // A tick that is kicked in between is no flush, and does not end the flush's sending.
      'a-10 0 101 ipi_send_cpu: cpu=3 callsite=irq_work_queue_on+0x5b callback=g+0x0',
      `a-10 0 102 ipi_send_cpu: cpu=1 ${send}`,
      `a-10 0 200 ipi_send_cpu: cpu=2 ${send}`,
    ]),
    { from: { value: 1, relative: true } },
  );
  const inWindow = await countReplay(
    await excerpt([
      'a-10 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
      `a-10 0 102 ipi_send_cpu: cpu=1 ${send}`,
      `a-10 0 200 ipi_send_cpu: cpu=2 ${send}`,
    ]),
    { from: { value: 50, relative: true } },
  );
  expect(counts.received.byKind).toEqual({ 'user-flush': 1, scheduler: 1, other: 1 });
  expect(inWindow.received.byKind).toEqual({ other: 1 });
});

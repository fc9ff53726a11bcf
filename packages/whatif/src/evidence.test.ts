/** Traces written by hand that tell less than all: what each kind of evidence may say. */
import { cpuId } from '@shootdown/machine';
import { expect, test } from 'vitest';
import { countReplay } from './count.ts';
import { excerpt } from './examples.testlib.ts';

const QUEUE = 'callsite=on_each_cpu_cond_mask+0x24/0x40 func=flush_tlb_func csd=00000000abcd1230';

test('evidence B: causes of one place are told apart by kind, and add up to what was received', async () => {
  const send = 'callsite=on_each_cpu_cond_mask+0x24 callback=g+0x0';
  const counts = await countReplay(
    await excerpt([
      'a-10 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
      `a-10 0 101 ipi_send_cpu: cpu=1 ${send}`,
      `a-10 0 102 ipi_send_cpu: cpu=1 ${send}`,
      'a-10 0 103 tlb_flush: pages:1 reason:remote ipi send (4)',
      // Its own part comes behind the send: with none before it, nobody was interrupted.
      'a-10 0 104 tlb_flush: pages:1 reason:local mm shootdown (3)',
      `a-10 0 105 ipi_send_cpu: cpu=1 ${send}`,
    ]),
  );
  expect(counts.causes.map(({ kind, calls }) => [kind, calls])).toEqual([
    ['other', 2],
    ['user-flush', 1],
  ]);
  expect(counts.received.byKind).toEqual({ 'user-flush': 1, other: 2 });
});

test('calls sent before csd_queue_cpu was recorded are missed, and that is said', async () => {
  const send = 'ipi_send_cpu: cpu=1 callsite=on_each_cpu_cond_mask+0x24 callback=g+0x0';
  const lines = [
    `a-10 0 100 ${send}`,
    `a-10 0 200 csd_queue_cpu: cpu=1 ${QUEUE}`,
    `a-10 0 201 ${send}`,
  ];
  const whole = await countReplay(await excerpt(lines));
  expect(whole.evidence.level).toBe('A');
  expect(whole.blind).toBe(1);
  expect(whole.notes.join()).toContain('1 function-call interrupts were sent before the first');
  expect(whole.whatIf[0]?.basis).toBe('counted from the trace');
  // A window in which only the sends are: the queue event behind it proves nothing about it.
  const early = await countReplay(await excerpt(lines), { to: { value: 50, relative: true } });
  expect(early.evidence.level).toBe('B');
  expect(early.received.calls).toBe(1);
});

test('evidence C: a switch of address space ends the waiting; the TLB row counts receipts only', async () => {
  const counts = await countReplay(
    await excerpt([
      'a-10 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
      'a-10 0 101 tlb_flush: pages:-1 reason:flush on task switch (0)',
      'x-9 3 102 tlb_flush: pages:-1 reason:flush on task switch (0)',
      'x-9 3 103 tlb_flush: pages:1 reason:remote shootdown (1)',
    ]),
    { isolated: [cpuId(3)] },
  );
  expect(counts.evidence.matched).toEqual({ one: 0, ambiguous: 0, none: 1 });
  expect(counts.accounts[0]?.tlbRow).toBe(1);
});

test('evidence C: a CPU that sends and receives at once is not its own sender', async () => {
  const counts = await countReplay(
    await excerpt([
      'a-10 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
      'b-11 1 101 tlb_flush: pages:1 reason:remote ipi send (4)',
      'b-11 1 102 tlb_flush: pages:1 reason:remote shootdown (1)',
    ]),
  );
  expect(counts.matrix.cells).toEqual([{ from: 0, to: 1, calls: 1 }]);
});

test('interrupts are paired once; lost names are nobody; a kernel fault is the call it happens in', async () => {
  const counts = await countReplay(
    await excerpt([
      'x-9 3 100 call_function_entry: vector=252',
      'x-9 3 105 call_function_exit: vector=252',
      'x-9 3 109 call_function_exit: vector=252',
      '<...>-77 3 110 sched_wakeup: comm=y pid=3',
      'a-10 0 200 sys_munmap(addr: 1000, len: 1000)',
      'a-10 0 201 page_fault_kernel: address=0x1 ip=0x2 error_code=0x7',
      `a-10 0 202 csd_queue_cpu: cpu=3 ${QUEUE}`,
      `a-10 0 203 csd_queue_cpu: cpu=3 ${QUEUE}`,
    ]),
    { isolated: [cpuId(3)] },
  );
  expect(counts.accounts[0]).toMatchObject({
    inInterrupts: { total: 5, longest: 5 },
    tasks: ['x-9'],
  });
  expect(counts.causes.map(({ origin, requests }) => [origin.name, requests])).toEqual([
    ['munmap', 2],
  ]);
});

test('arm has no TLB row, whatever else is in the trace', async () => {
  const counts = await countReplay(
    await excerpt([
      'a-10 0 100 ipi_raise: target_mask=00000000,00000008 (Function call interrupts)',
      'x-9 3 101 csd_function_entry: func=flush_tlb_func, csd=00000000abcd1230',
    ]),
  );
  expect(counts.evidence.level).toBe('B');
  expect(counts.tlbRowBasis).toBeNull();
});

test('text patching of other CPUs in the first second is no note about these', async () => {
  const patch = 'csd_queue_cpu: cpu=2 callsite=f+0x1 func=do_sync_core csd=00000000abcd1230';
  const lines = [`a-10 0 100 ${patch}`, `a-10 0 200 csd_queue_cpu: cpu=1 ${QUEUE}`];
  expect(
    (await countReplay(await excerpt(lines), { isolated: [cpuId(1)] })).notes.join(),
  ).not.toContain('patching');
  expect(
    (await countReplay(await excerpt(lines), { isolated: [cpuId(2)] })).notes.join(),
  ).toContain('1 of the 1 calls are text patching in the first second');
});

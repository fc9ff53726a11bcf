/** Calibration of hand-written traces, every number derived by hand. */
import { expect, test } from 'vitest';
import { calibrated, interval, type Shape, shootdown } from './shootdown.testlib.ts';

const each = (shapes: readonly Shape[]): readonly string[] =>
  shapes.flatMap((shape, i) => shootdown(100 + 1000 * i, shape));

const of = (flight: number, over: Partial<Shape> = {}): Shape => ({
  send: 4,
  flight,
  flush: 6,
  pages: 1,
  ...over,
});

test('lengths are those between the events, and quantiles are nearest ranks', async () => {
  const found = await calibrated(each([10, 50, 30, 20, 40].map((flight) => of(flight))));
  const us = (count: number, [min, p50, p90, max]: readonly number[]): unknown => ({
    count,
    min: (min ?? 0) * 1000,
    p50: (p50 ?? 0) * 1000,
    p90: (p90 ?? 0) * 1000,
    p99: (max ?? 0) * 1000,
    max: (max ?? 0) * 1000,
  });
  // Of five values the third is the median, and nine tenths are reached with the fifth.
  expect(interval(found, 'send-entry').lengths).toEqual(us(5, [10, 30, 50, 50]));
  // One before the sending to one behind the interrupt.
  expect(interval(found, 'queue-handler').lengths).toEqual(us(5, [12, 32, 52, 52]));
  expect(interval(found, 'send-own').lengths).toEqual(us(5, [4, 4, 4, 4]));
  // 1 to the handler, 6 of flushing, 1 and 1 to the exits.
  expect(interval(found, 'interrupt').lengths).toEqual(us(5, [9, 9, 9, 9]));
  expect(interval(found, 'handler').lengths).toEqual(us(5, [7, 7, 7, 7]));
  expect(interval(found, 'remote-flush').lengths).toEqual(us(5, [6, 6, 6, 6]));
  expect(interval(found, 'remote-flush').byPages.map(({ pages }) => pages)).toEqual([1]);
  // From asking to the handler's exit: 2 to the sending, the flight, 1 + 6 + 1.
  expect(interval(found, 'wait-last').lengths).toEqual(us(5, [20, 40, 60, 60]));
  expect(interval(found, 'wait-return')).toMatchObject({
    lengths: null,
    why: 'no flush_tlb_mm_range_ret events in this trace',
  });
});

test('entries follow from the medians: what was measured, less what the table has inside it', async () => {
  const pages = [1, 11, 21].flatMap((count) =>
    Array.from({ length: 5 }, () => of(9, { pages: count, flush: 2 + count * 3 })),
  );
  const full = Array.from({ length: 5 }, () => of(9, { pages: -1, flush: 40 }));
  const { entries, missing } = await calibrated(each([...pages, ...full]));
  expect(entries.map(({ name, ns, samples }) => [name, ns, samples])).toEqual([
    ['sendIpi', 4000, 20],
    // 9000 - 4000 - 120 of irqEntry.
    ['ipiFlight', 4880, 20],
    // 2 us and 3 us more per page.
    ['invlpg', 3000, 15],
    // 40 us, less the 2 us that a flush of no page would take.
    ['writeCr3', 38_000, 5],
  ]);
  expect(missing).toEqual([
    { name: 'irqEntry', reason: expect.stringContaining('no event tells it apart') },
    { name: 'load', reason: 'no cycle-level time: instructions are not traced' },
  ]);
});

test('what scatters more than it is long is no cost', async () => {
  const shapes = [1, 9, 1, 9, 2, 8].map((flush, i) => of(9, { flush, pages: i < 3 ? 1 : 2 }));
  const { missing } = await calibrated(each([...shapes, ...shapes]));
  expect(missing.find(({ name }) => name === 'invlpg')?.reason).toContain(
    'not told from the scatter',
  );
});

test('no events are no data, each with the events that are missing', async () => {
  const { intervals, entries, missing } = await calibrated(['a-1 0 100 sys_munmap -> 0x0']);
  expect(intervals.every(({ lengths, why }) => lengths === null && why !== null)).toBe(true);
  expect(entries).toEqual([]);
  expect(missing.find(({ name }) => name === 'invlpg')?.reason).toBe(
    'no flush_tlb_func or csd_function_entry events in this trace',
  );
  expect(missing.find(({ name }) => name === 'ipiFlight')?.reason).toBe(
    'no ipi_send_cpu or ipi_send_cpumask events in this trace',
  );
});

test('sends that share an interrupt are counted, not measured', async () => {
  const send = 'ipi_send_cpu: cpu=2 callsite=f+0x1 callback=generic_smp_call_function+0x0';
  const found = await calibrated([
    `a-1 0 100 ${send}`,
    `b-2 1 103 ${send}`,
    'c-3 2 110 call_function_single_entry: vector=251',
    `a-1 0 200 ${send}`,
    'c-3 2 204 call_function_single_entry: vector=251',
  ]);
  expect(interval(found, 'send-entry')).toMatchObject({
    lengths: { count: 1, min: 4000 },
    leftOut: { shared: 1 },
  });
});

test('a send to several CPUs is met by the other vector', async () => {
  const mask = 'ipi_send_cpumask: cpumask=00000006 callsite=f+0x1 callback=g+0x0';
  const found = await calibrated([
    `a-1 0 100 ${mask}`,
    'b-2 1 101 call_function_single_entry: vector=251',
    'b-2 1 104 call_function_entry: vector=252',
    'c-3 2 107 call_function_entry: vector=252',
    'a-1 0 200 ipi_send_cpu: cpu=2 callsite=resched+0x1 callback=0x0',
    'c-3 2 201 call_function_single_entry: vector=251',
  ]);
  expect(interval(found, 'send-entry').lengths).toMatchObject({ count: 2, min: 4000, max: 7000 });
});

test('a handler that finds nothing to flush has a length, and no flush', async () => {
  const found = await calibrated([
    'b-2 1 100 csd_function_entry: func=flush_tlb_func, csd=0000000000000aa8',
    'b-2 1 103 csd_function_exit: func=flush_tlb_func, csd=0000000000000aa8',
    'b-2 1 150 tlb_flush: pages:1 reason:remote shootdown (1)',
  ]);
  expect(interval(found, 'handler').lengths).toMatchObject({ count: 1, min: 3000 });
  expect(interval(found, 'remote-flush').lengths).toBeNull();
});

test('probes on the functions are nearer, and see flushes without a call', async () => {
  const found = await calibrated([
    'a-1 0 100 tlb_flush: pages:1 reason:remote ipi send (4)',
    'a-1 0 101 csd_queue_cpu: cpu=1 callsite=f+0x1 func=flush_tlb_func csd=0000000000000aa8',
    'b-2 1 110 csd_function_entry: func=flush_tlb_func, csd=0000000000000aa8',
    'b-2 1 112 flush_tlb_func: (flush_tlb_func+0x4/0x210) mm=0x1',
    'b-2 1 115 tlb_flush: pages:1 reason:remote shootdown (1)',
    'b-2 1 116 csd_function_exit: func=flush_tlb_func, csd=0000000000000aa8',
    'a-1 0 120 flush_tlb_mm_range_ret: (zap+0x1 <- flush_tlb_mm_range)',
    'a-1 0 200 flush_tlb_func: (flush_tlb_func+0x4/0x210) mm=0x1',
    'a-1 0 209 tlb_flush: pages:-1 reason:local mm shootdown (3)',
    // Asks, and finds nobody: no wait.
    'a-1 0 300 tlb_flush: pages:1 reason:remote ipi send (4)',
    'a-1 0 301 flush_tlb_mm_range_ret: (zap+0x1 <- flush_tlb_mm_range)',
  ]);
  expect(interval(found, 'remote-flush').lengths).toMatchObject({ count: 1, min: 3000 });
  expect(interval(found, 'local-flush').byPages).toMatchObject([
    { pages: -1, lengths: { min: 9000 } },
  ]);
  expect(interval(found, 'wait-return').lengths).toMatchObject({ count: 1, min: 20_000 });
  expect(interval(found, 'wait-last').lengths).toMatchObject({ count: 1, min: 16_000 });
});

test('a switch of address space is measured if nothing else comes between', async () => {
  const to =
    'sched_switch: prev_comm=a prev_pid=1 prev_prio=120 prev_state=S ==> next_comm=b next_pid=2 next_prio=120';
  const found = await calibrated([
    `a-1 0 100 ${to}`,
    'a-1 0 102 tlb_flush: pages:-1 reason:flush on task switch (0)',
    `a-1 0 200 ${to}`,
    'a-1 0 201 tlb_flush: pages:0 reason:flush on task switch (0)',
    `a-1 0 300 ${to}`,
    'b-2 0 301 reschedule_entry: vector=253',
    'b-2 0 302 tlb_flush: pages:-1 reason:flush on task switch (0)',
  ]);
  expect(
    interval(found, 'switch').byPages.map(({ pages, lengths }) => [pages, lengths.p50]),
  ).toEqual([
    [-1, 2000],
    [0, 1000],
  ]);
});

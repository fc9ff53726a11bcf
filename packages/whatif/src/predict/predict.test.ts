/** Traces written by hand: what a call, a fault or a switch makes the kernel flush. */
import { native } from '@shootdown/backend-native';
import { expect, test } from 'vitest';
import { excerpt } from '../examples.testlib.ts';
import { type Prediction, predictFlushes } from './predict.ts';
import { Predictor } from './predictor.ts';
import { lruCaches, mmFunctions } from '@shootdown/linux-mm';

/** A program that has begun in the trace, on CPU 0. */
const EXEC = [
  'wl-10 0 10 sys_execve(filename: 1, argv: 2, envp: 3)',
  'wl-10 0 11 sys_execve -> 0x0',
];

const mapped = (pages: number, addr = 0x10000000): readonly string[] => [
  `wl-10 0 20 sys_mmap(addr: ${addr.toString(16)}, len: ${(pages * 4096).toString(16)}, prot: 3, flags: 100022, fd: ffffffff, off: 0)`,
  `wl-10 0 21 sys_mmap -> 0x${addr.toString(16)}`,
];

const fault = (at: number, page: number, code: number, who = 'wl-10 0'): string =>
  `${who} ${at} page_fault_user: address=0x${(0x10000000 + page * 4096).toString(16)} ip=0x400000 error_code=0x${code.toString(16)}`;

const touched = (pages: number): readonly string[] =>
  Array.from({ length: pages }, (_, page) => fault(30 + page, page, 6));

const local = (at: number, pages: number, who = 'wl-10 0'): string =>
  `${who} ${at} tlb_flush: pages:${pages} reason:local mm shootdown (3)`;
const send = (at: number, pages: number, who = 'wl-10 0'): string =>
  `${who} ${at} tlb_flush: pages:${pages} reason:remote ipi send (4)`;

async function predict(lines: readonly string[]): Promise<Prediction> {
  return predictFlushes(await excerpt(lines), { backend: native(), kernel: '6.12.117' });
}

const ALL_RIGHT = (flushes: number): object => ({
  recorded: flushes,
  predicted: flushes,
  matched: flushes,
});

test.each([
  [1, 1],
  [33, 33],
  [34, -1],
])('MADV_DONTNEED of %d touched pages is a flush of %d', async (pages, flushed) => {
  const { kinds } = await predict([
    ...EXEC,
    ...mapped(pages),
    ...touched(pages),
    `wl-10 0 100 sys_madvise(start: 10000000, len_in: ${(pages * 4096).toString(16)}, behavior: 4)`,
    local(101, flushed),
    'wl-10 0 102 sys_madvise -> 0x0',
  ]);
  expect(kinds.flush).toMatchObject(ALL_RIGHT(1));
  expect(kinds.exact).toMatchObject(ALL_RIGHT(1));
});

test('what nobody has touched is not flushed', async () => {
  const { kinds } = await predict([
    ...EXEC,
    ...mapped(4),
    'wl-10 0 100 sys_madvise(start: 10000000, len_in: 4000, behavior: 4)',
    'wl-10 0 102 sys_madvise -> 0x0',
  ]);
  expect(kinds.flush.predicted).toBe(0);
});

test('munmap that frees upper tables is a flush of everything, even for one page', async () => {
  const { kinds } = await predict([
    ...EXEC,
    ...mapped(1),
    ...touched(1),
    'wl-10 0 100 sys_munmap(addr: 10000000, len: 1000)',
    local(101, -1),
    'wl-10 0 102 sys_munmap -> 0x0',
  ]);
  expect(kinds.flush).toMatchObject(ALL_RIGHT(1));
});

test('a write to a page that is present and that no call has mapped is a copy: a page of a file', async () => {
  const { kinds } = await predict([...EXEC, fault(30, 0, 7), local(31, 1), fault(40, 1, 6)]);
  expect(kinds.flush).toMatchObject(ALL_RIGHT(1));
});

test('a read maps the zero page, and the write after it is a copy', async () => {
  const { kinds } = await predict([
    ...EXEC,
    ...mapped(1),
    fault(30, 0, 4),
    fault(40, 0, 7),
    local(41, 1),
  ]);
  expect(kinds.flush).toMatchObject(ALL_RIGHT(1));
});

test('fork flushes everything; the first of the two to write copies, and the other keeps the page', async () => {
  const { kinds, differences } = await predict([
    ...EXEC,
    ...mapped(1),
    ...touched(1),
    'wl-10 0 100 sys_clone(clone_flags: 1200011, newsp: 0, parent_tidptr: 0, child_tidptr: 0, tls: 0)',
    local(101, -1),
    'wl-10 0 102 sys_clone -> 0xb',
    fault(110, 0, 7),
    local(111, 1),
    'wl-10 0 120 sched_switch: prev_comm=wl prev_pid=10 prev_prio=120 prev_state=S ==> next_comm=wl next_pid=11 next_prio=120',
    'wl-10 0 121 tlb_flush: pages:-1 reason:flush on task switch (0)',
    'wl-11 0 122 sys_clone -> 0x0',
    fault(130, 0, 7, 'wl-11 0'),
  ]);
  expect(differences).toEqual([]);
  expect(kinds.flush).toMatchObject(ALL_RIGHT(2));
  expect(kinds.switch).toMatchObject(ALL_RIGHT(1));
});

/** A thread that is started, runs on CPU 1, and spins there. */
const THREAD = [
  'wl-10 0 40 sys_clone3(uargs: 7ffc9003f440, size: 58)',
  'wl-10 0 41 sys_clone3 -> 0xb',
  '<idle>-0 1 42 sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=wl next_pid=11 next_prio=120',
  '<idle>-0 1 43 tlb_flush: pages:-1 reason:flush on task switch (0)',
];
const ASLEEP =
  'wl-11 1 50 sched_switch: prev_comm=wl prev_pid=11 prev_prio=120 prev_state=S ==> next_comm=swapper/1 next_pid=0 next_prio=120';

const DONTNEED = 'wl-10 0 100 sys_madvise(start: 10000000, len_in: 1000, behavior: 4)';

test('a CPU that runs a thread of the process receives a flush, a lazy one does not', async () => {
  const begin = [...EXEC, ...mapped(1), ...touched(1), ...THREAD];
  const awake = await predict([
    ...begin,
    DONTNEED,
    send(101, 1),
    local(102, 1),
    'wl-11 1 103 tlb_flush: pages:1 reason:remote shootdown (1)',
    'wl-10 0 104 sys_madvise -> 0x0',
  ]);
  expect(awake.differences).toEqual([]);
  expect(awake.kinds).toMatchObject({ exact: ALL_RIGHT(1), received: ALL_RIGHT(1) });
  const lazy = await predict([
    ...begin,
    ASLEEP,
    DONTNEED,
    send(101, 1),
    local(102, 1),
    'wl-10 0 104 sys_madvise -> 0x0',
  ]);
  expect(lazy.differences).toEqual([]);
  expect(lazy.kinds).toMatchObject({ exact: ALL_RIGHT(1), received: ALL_RIGHT(0) });
});

test('gathers that overlap flush everything, also where there was nothing to flush', async () => {
  const { kinds, differences } = await predict([
    ...EXEC,
    ...mapped(1),
    ...THREAD,
    DONTNEED,
    'wl-11 1 101 sys_madvise(start: 10000000, len_in: 1000, behavior: 4)',
    send(102, -1),
    local(103, -1),
    'wl-11 1 103 tlb_flush: pages:-1 reason:remote shootdown (1)',
    'wl-10 0 104 sys_madvise -> 0x0',
    'wl-11 1 105 sys_madvise -> 0x0',
  ]);
  expect(kinds.flush.matched).toBe(1);
  expect(differences.every(({ cause }) => cause === 'gathers overlap')).toBe(true);
});

test('whoever is older than the trace is counted apart, and never as right', async () => {
  const { kinds, differences } = await predict([
    ...mapped(1),
    ...touched(1),
    DONTNEED,
    local(101, 1),
    'wl-10 0 102 sys_madvise -> 0x0',
  ]);
  expect(kinds.flush).toEqual({ recorded: 1, undecidable: 1, predicted: 0, matched: 0 });
  expect(differences).toMatchObject([{ cause: 'process existed before the trace', missed: 1 }]);
});

test('what a kernel thread flushes is counted apart', async () => {
  const { kinds, differences } = await predict([local(10, -1, 'khugepaged-30 2')]);
  expect(kinds.flush).toEqual({ recorded: 1, undecidable: 1, predicted: 0, matched: 0 });
  expect(differences).toMatchObject([{ cause: 'kernel thread' }]);
});

test('between marks: what is before and after is done, and not counted', async () => {
  const lines = [
    ...EXEC,
    ...mapped(1),
    ...touched(1),
    DONTNEED,
    local(101, 1),
    'wl-10 0 102 sys_madvise -> 0x0',
    fault(110, 0, 6),
    'wl-10 0 111 tracing_mark_write: BEGIN here',
    'wl-10 0 120 sys_madvise(start: 10000000, len_in: 1000, behavior: 4)',
    local(121, 1),
    'wl-10 0 122 sys_madvise -> 0x0',
    'wl-10 0 123 tracing_mark_write: END here',
    fault(130, 0, 6),
    'wl-10 0 140 sys_madvise(start: 10000000, len_in: 1000, behavior: 4)',
    'wl-10 0 142 sys_madvise -> 0x0',
  ];
  const marks = { from: 'BEGIN', to: 'END' };
  const options = { backend: native(), kernel: '6.12.117', marks } as const;
  const { kinds } = await predictFlushes(await excerpt(lines), options);
  expect(kinds.flush).toMatchObject(ALL_RIGHT(1));
});

test('a process that has ended is forgotten: memory is bounded by what lives', async () => {
  const begin = [...EXEC, ...mapped(4), ...touched(4)];
  const children = Array.from({ length: 50 }, (_, n) => {
    const at = 100 + n * 10;
    const pid = 20 + n;
    const swap = (from: number, to: number): string =>
      `prev_comm=wl prev_pid=${from} prev_prio=120 prev_state=S ==> next_comm=wl next_pid=${to} next_prio=120`;
    return [
      `wl-10 0 ${at} sys_fork()`,
      `wl-10 0 ${at + 1} sys_fork -> 0x${pid.toString(16)}`,
      `wl-10 0 ${at + 2} sched_switch: ${swap(10, pid)}`,
      `wl-${pid} 0 ${at + 3} sys_exit_group(error_code: 0)`,
      `wl-${pid} 0 ${at + 4} sched_switch: ${swap(pid, 10)}`,
    ];
  });
  const trace = await excerpt([...begin, ...children.flat()]);
  const functions = { ...mmFunctions, ...lruCaches };
  const parts = { backend: native(), kernel: '6.12.117', functions, marks: null } as const;
  const predictor = new Predictor(trace.header, parts);
  for await (const batch of trace.batches()) for (const record of batch) predictor.record(record);
  predictor.end();
  expect(predictor.tasks).toBe(1);
  expect(predictor.warnings).toEqual([]);
});

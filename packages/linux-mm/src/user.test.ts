/** User programs: threads, sleep, CPUs, and what the trace says of their system calls. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { completion, enqueueBeforeStart, type Kthread, newTaskStruct } from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import { mapTouched, RO, Scene } from './callers.testlib.ts';
import { runProgram, testKernel } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import { Errno } from './mm.ts';
import { User } from './user.ts';
import { madvise } from './workloads/madvise.ts';
import {
  BASE,
  type Choice,
  emptyMm,
  listOf,
  numberOf,
  setUpWorkload,
} from './workloads/workload.ts';

test('threads share memory and end when they are joined', () => {
  const scene = new Scene();
  const told: string[] = [];
  scene.run(function* (user) {
    const { k, mm } = user;
    yield* call(user.mmap({ addr: BASE, length: 3 * PAGE_SIZE }));
    const started = [];
    for (const cpu of [1, 2]) {
      started.push(
        yield* call(
          user.thread(cpu, function* (other) {
            expect(other.mm).toBe(mm);
            expect(k.machine.current?.id).toBe(cpu);
            yield* call(other.touch(BASE + cpu * PAGE_SIZE, 1));
            told.push(`thread ${cpu}`);
          }),
        ),
      );
    }
    for (const one of started) yield* call(user.join(one));
    told.push('joined');
    // A second time does not wait.
    for (const one of started) yield* call(user.join(one));
    const { pgfault } = k.stats.vmstat;
    yield* call(user.touch(BASE + PAGE_SIZE, 2));
    expect(k.stats.vmstat.pgfault).toBe(pgfault);
    expect(new Set(started.map(({ task }) => task.tgid)).size).toBe(1);
    expect(new Set(started.map(({ task }) => task.pid)).size).toBe(2);
  });
  expect(told.toSorted()).toEqual(['joined', 'thread 1', 'thread 2']);
  expect(told.at(-1)).toBe('joined');
  expect(scene.wrong).toEqual([]);
});

test('whoever sleeps shorter is there first, on one CPU as on several', () => {
  for (const cpus of [
    [0, 0, 0],
    [1, 2, 3],
  ]) {
    const scene = new Scene();
    const order: number[] = [];
    const times: number[] = [];
    scene.run(function* (user) {
      const started = [];
      for (const [n, cpu] of cpus.entries())
        started.push(
          yield* call(
            user.thread(cpu, function* (other) {
              const from = scene.k.machine.time;
              yield* call(other.nanosleep(300_000 - 100_000 * n));
              order.push(n);
              times.push(scene.k.machine.time - from);
            }),
          ),
        );
      for (const one of started) yield* call(user.join(one));
    });
    expect(order).toEqual([2, 1, 0]);
    for (const [n, time] of times.entries()) {
      expect(time).toBeGreaterThanOrEqual(100_000 * (n + 1));
      expect(time).toBeLessThan(100_000 * (n + 1) + 20_000);
    }
    expect(scene.wrong).toEqual([]);
  }
});

test('pin moves a task, and its address space goes with it', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    const here = (): number | undefined => k.machine.current?.id;
    const { mm } = user;
    yield* call(mapTouched(user, BASE, 1));
    expect(here()).toBe(0);
    yield* call(user.pin(2));
    expect(here()).toBe(2);
    expect(k.percpu[2]?.current.mm).toBe(mm);
    expect(k.percpu[0]?.current.mm).toBe(null);
    yield* call(user.touch(BASE, 1));
    // Where it is already.
    yield* call(user.pin(2));
    expect(here()).toBe(2);
    yield* call(user.pin(0));
    expect(here()).toBe(0);
  });
  expect(scene.wrong).toEqual([]);
});

test('who waits for something that has happened already goes on, and counts', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    const twice = completion(scene.k.machine, 'twice');
    const seen: string[] = [];
    const waiter = yield* call(
      user.thread(1, function* (other) {
        yield* call(other.waitFor(twice, 2));
        seen.push('twice');
      }),
    );
    yield* call(user.signal(twice));
    yield* call(user.waitFor(twice, 1));
    yield* call(user.compute(100_000));
    seen.push('once');
    yield* call(user.signal(twice));
    yield* call(user.join(waiter));
    expect(seen).toEqual(['once', 'twice']);
  });
  expect(scene.wrong).toEqual([]);
});

test('the trace has every system call with its arguments and what it gives', () => {
  const { k, records } = testKernel({ record: true });
  let pid = 0;
  runProgram(k, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 4 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 2));
    yield* call(user.mprotect(BASE, PAGE_SIZE, RO));
    yield* call(user.madvise(BASE, PAGE_SIZE, Madvise.DONTNEED));
    yield* call(user.mremap(BASE + 2 * PAGE_SIZE, PAGE_SIZE, BASE + 2 ** 21));
    yield* call(user.munmap(BASE + 1, PAGE_SIZE));
    yield* call(user.mprotect(BASE + 2 ** 30, PAGE_SIZE, RO));
    yield* call(user.mremap(BASE + 2 ** 30, PAGE_SIZE, BASE));
    yield* call(user.mmap({ addr: BASE, length: PAGE_SIZE }));
    yield* call(user.vmsplice(BASE + 2 ** 30, 1));
    yield* call(user.schedYield());
    const child = yield* call(user.fork((other) => other.compute(1)));
    pid = child.task.pid;
    yield* call(user.munmap(BASE, 4 * PAGE_SIZE));
  });
  const calls = records.flatMap(({ event, task }) => {
    const one = event as { kind: string; syscall?: string; values?: unknown; ret?: number };
    if ((task as { pid: number }).pid === pid) return [];
    if (one.kind === 'sys_enter') return [[one.syscall, one.values]];
    return one.kind === 'sys_exit' ? [one.ret] : [];
  });
  expect(calls).toEqual([
    ['mmap', [BASE, 16_384]],
    BASE,
    ['mprotect', [BASE, 4096, 1]],
    0,
    ['madvise', [BASE, 4096, 4]],
    0,
    ['mremap', [BASE + 8192, 4096, 4096, 3, BASE + 2 ** 21]],
    BASE + 2 ** 21,
    ['munmap', [BASE + 1, 4096]],
    Errno.EINVAL,
    ['mprotect', [BASE + 2 ** 30, 4096, 1]],
    Errno.ENOMEM,
    ['mremap', [BASE + 2 ** 30, 4096, 4096, 3, BASE]],
    Errno.EFAULT,
    ['mmap', [BASE, 4096]],
    Errno.EEXIST,
    ['vmsplice', [0, 1]],
    Errno.EFAULT,
    ['sched_yield', []],
    0,
    ['clone', []],
    pid,
    ['munmap', [BASE, 16_384]],
    0,
  ]);
});

test('madvise refuses what Linux refuses', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    const flags = { read: true, write: true, shared: false, hugetlb: false, hugepage: false };
    yield* call(mapTouched(user, BASE, 2));
    const raw = { ...flags, pfnmap: true };
    yield* call(user.mmap({ addr: BASE + 3 * PAGE_SIZE, length: PAGE_SIZE, flags: raw }));
    const advise = (page: number, pages: number, what: 4 | 14 | 21 = 4): Kthread<number> =>
      user.madvise(BASE + page * PAGE_SIZE, pages * PAGE_SIZE, what);
    expect(yield* call(user.madvise(BASE + 1, PAGE_SIZE, 4))).toBe(Errno.EINVAL);
    expect(yield* call(user.madvise(BASE, -PAGE_SIZE, 4))).toBe(Errno.EINVAL);
    expect(yield* call(advise(0, 0))).toBe(0);
    expect(yield* call(advise(0, 2))).toBe(0);
    expect(yield* call(advise(1, 2))).toBe(Errno.ENOMEM);
    expect(yield* call(advise(2, 1))).toBe(Errno.ENOMEM);
    expect(yield* call(advise(3, 1))).toBe(Errno.EINVAL);
    expect(yield* call(advise(3, 1, 21))).toBe(Errno.EINVAL);
    expect(yield* call(advise(1, 3))).toBe(Errno.EINVAL);
    expect(yield* call(advise(1, 2, 14))).toBe(Errno.ENOMEM);
    expect(user.mm.vmas.map((vma) => vma.flags.hugepage)).toEqual([false, true, false]);
    yield* call(user.munmap(BASE, 4 * PAGE_SIZE));
  });
  expect(scene.wrong).toEqual([]);
});

test('a kernel thread has no user memory, and is told so', () => {
  const { k } = testKernel();
  const body = (): Kthread<number> => new User(k).mmap({ length: PAGE_SIZE });
  enqueueBeforeStart(k, newTaskStruct(k, { comm: 'kthread', mm: null, cpu: 1, body }));
  const run = (): unknown => runProgram(k, (user) => user.compute(1));
  expect(run).toThrow(expect.objectContaining({ code: 'ERR_COROUTINE' }));
});

test('a parameter is a number or a list of numbers, and not the other', () => {
  const values = { pages: 3, list: [1, 2] };
  expect(numberOf({ values }, 'pages')).toBe(3);
  expect(listOf({ values }, 'list')).toEqual([1, 2]);
  const wrong = expect.objectContaining({ code: 'ERR_WORKLOAD' });
  expect(() => numberOf({ values }, 'list')).toThrow(wrong);
  expect(() => listOf({ values }, 'pages')).toThrow(wrong);
  expect(() => numberOf({ values }, 'none')).toThrow(wrong);
});

const CHOICE: Choice = { threads: 2, values: { iterations: 1, list: [1] } };

test.each([
  { what: 'no thread', choice: { ...CHOICE, threads: 0 }, code: 'ERR_WORKLOAD' },
  { what: 'half a thread', choice: { ...CHOICE, threads: 1.5 }, code: 'ERR_WORKLOAD' },
  { what: 'more threads than CPUs', choice: { ...CHOICE, threads: 5 }, code: 'ERR_CPU_RANGE' },
  {
    what: 'a CPU that is isolated and lazy',
    choice: { ...CHOICE, isolated: [2], lazyCpus: [2] },
    code: 'ERR_CPU_RANGE',
  },
  { what: 'CPU 0 isolated', choice: { ...CHOICE, isolated: [0] }, code: 'ERR_CPU_RANGE' },
  { what: 'CPU 0 lazy', choice: { ...CHOICE, lazyCpus: [0] }, code: 'ERR_CPU_RANGE' },
  { what: 'a CPU that there is not', choice: { ...CHOICE, lazyCpus: [4] }, code: 'ERR_CPU_RANGE' },
  {
    what: 'no CPU left for the threads',
    choice: { ...CHOICE, threads: 3, isolated: [2], lazyCpus: [3] },
    code: 'ERR_CPU_RANGE',
  },
])('a workload with $what is refused: $code', ({ choice, code }) => {
  const { k } = testKernel();
  const run = (): unknown => {
    setUpWorkload(k, madvise, choice);
    return runProgram(k, (user) => user.compute(1));
  };
  expect(run).toThrow(expect.objectContaining({ code }));
});

test('an address space is made before anything runs, with a root table of its own', () => {
  const { k } = testKernel();
  const [one, two] = [emptyMm(k), emptyMm(k)];
  expect(one.pgd).not.toBe(two.pgd);
  expect([one.users.value, one.count.value, one.vmas.length]).toEqual([1, 1, 0]);
});

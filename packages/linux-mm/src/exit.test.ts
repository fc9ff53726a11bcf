/** exit: who tears an address space down, by which flush, and how long its root table lives. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { KERNEL_COSTS, type Kthread, startCpus } from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import { expect, test } from 'vitest';
import { findings, mapHuge, mapping, mapTouched, MIB2, Scene } from './callers.testlib.ts';
import { testKernel } from './kernel.testlib.ts';
import { newProcess } from './user.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

test('the last flush is local, on a CPU that is lazy by then: a switch to init_mm, no reason 3', () => {
  const { k } = testKernel({ kernel: '6.12.117' });
  const mm = emptyMm(k);
  newProcess(k, { comm: 'test', cpu: 0, mm }, (user) => mapTouched(user, BASE, 100));
  startCpus(k);
  runByClock(k.machine, { costs: KERNEL_COSTS });
  // The first switch to it was a flush. init_mm has its ASID since the CPU was started.
  expect(Object.fromEntries(k.stats.flushes)).toEqual({ '0:-1': 1, '0:0': 1 });
  expect(k.stats.calRow).toEqual(new Float64Array(4));
  expect(mm.cpumask.value.members()).toEqual([]);
  expect(findings(k)).toEqual([]);
});

test('CPUs where threads of it have ended are lazy in it still: they are interrupted', () => {
  const { k } = testKernel({ kernel: '6.12.117' });
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    for (const cpu of [1, 2])
      yield* call(user.join(yield* call(user.thread(cpu, (other) => other.read(BASE, 1)))));
    yield* call(user.compute(100_000));
    expect(user.mm.cpumask.value.members()).toEqual([0, 1, 2]);
  });
  startCpus(k);
  runByClock(k.machine, { costs: KERNEL_COSTS });
  expect(Array.from(k.stats.calRow)).toEqual([0, 1, 1, 0]);
  const { flushes } = k.stats;
  // Who is interrupted leaves the mm instead of flushing.
  expect([flushes.get('4:-1'), flushes.get('3:-1'), flushes.get('1:-1')]).toEqual([
    1,
    undefined,
    undefined,
  ]);
  expect(findings(k)).toEqual([]);
});

test('a thread that ends leaves the address space to the others', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    const { mm } = user;
    const thread = yield* call(
      user.thread(1, function* (other) {
        expect(mm.users.value).toBe(2);
        yield* call(other.touch(BASE, 1));
      }),
    );
    const seen = yield* call(
      scene.during(
        (function* (): Kthread {
          yield* call(user.join(thread));
          yield* call(user.compute(100_000));
        })(),
      ),
    );
    expect(seen.events).toEqual([]);
    expect(seen.flushes).toEqual({});
    expect(mm.users.value).toBe(1);
    expect(mapping(k, mm, BASE)).toBe('rw');
    yield* call(user.touch(BASE, 1));
  });
  expect(scene.wrong).toEqual([]);
});

test('whoever of the threads ends last tears it down, the first one or another', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 3));
    yield* call(mapHuge(user, BASE + MIB2));
    yield* call(
      user.thread(1, function* (other) {
        yield* call(other.compute(1_000_000));
        expect(other.mm.users.value).toBe(1);
        yield* call(other.touch(BASE, 3));
        yield* call(other.fork((child) => child.touch(BASE, 1), 2));
      }),
    );
  });
  expect(scene.wrong).toEqual([]);
  expect(scene.events.filter((event) => event === 'free-page').length).toBeGreaterThan(3);
  expect(k.warnings.size).toBe(0);
});

test('the root table lives until no CPU borrows it', () => {
  const { k } = testKernel({ kernel: '6.12.117', cpus: 2 });
  const mm = emptyMm(k);
  const other = emptyMm(k);
  const seen: unknown[] = [];
  const look = (): void => {
    seen.push([mm.users.value, mm.count.value, k.pages.pages.has(mm.pgd)]);
  };
  newProcess(k, { comm: 'first', cpu: 0, mm }, function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    look();
  });
  newProcess(k, { comm: 'second', cpu: 1, mm: other }, function* (user) {
    yield* call(user.compute(1_000_000));
    // It has ended, and CPU 0 idles on it.
    look();
    yield* call(user.pin(0));
    look();
  });
  startCpus(k);
  runByClock(k.machine, { costs: KERNEL_COSTS });
  expect(seen).toEqual([
    [1, 1, true],
    [0, 1, true],
    [0, 0, false],
  ]);
  expect(other.pgd).not.toBe(mm.pgd);
  expect(findings(k)).toEqual([]);
});

test('memory that nobody has touched needs no flush at all', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 100 * PAGE_SIZE }));
  });
  expect(scene.events).toEqual([]);
  expect(scene.wrong).toEqual([]);
});

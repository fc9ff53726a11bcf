/** perf's page-size walk. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import {
  currentTask,
  type Kthread,
  newTaskStruct,
  prepareToSleep,
  schedule,
  wakeUp,
} from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import { GIB, mapHuge, mapTouched, MIB2, NONE, Scene } from './callers.testlib.ts';
import { Madvise } from './madvise.ts';
import type { MmKernel } from './mm.ts';
import { perfGetPageSize } from './perf.ts';
import { BASE } from './workloads/workload.ts';

test('the size of the page that an address is in, 0 where none is', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    const size = (addr: number): Kthread<number> => k.fn.perfGetPageSize(k, addr);
    yield* call(mapTouched(user, BASE, 2));
    yield* call(mapHuge(user, BASE + MIB2));
    yield* call(user.mmap({ addr: BASE + 2 * MIB2, length: PAGE_SIZE }));
    expect(yield* call(size(BASE))).toBe(4096);
    expect(yield* call(size(BASE + PAGE_SIZE + 8))).toBe(4096);
    expect(yield* call(size(BASE + MIB2 + 5 * PAGE_SIZE))).toBe(2_097_152);
    // Mapped, and not touched; no table; nothing of that level.
    expect(yield* call(size(BASE + 2 * MIB2))).toBe(0);
    expect(yield* call(size(BASE + 3 * MIB2))).toBe(0);
    expect(yield* call(size(BASE + GIB))).toBe(0);
    expect(yield* call(size(0))).toBe(0);
    // PROT_NONE is a page all the same; swap is none.
    yield* call(user.mprotect(BASE, PAGE_SIZE, NONE));
    expect(yield* call(size(BASE))).toBe(4096);
    yield* call(user.madvise(BASE + PAGE_SIZE, PAGE_SIZE, Madvise.PAGEOUT));
    expect(yield* call(size(BASE + PAGE_SIZE))).toBe(0);
    expect(k.machine.cpu(0).irqsOn).toBe(true);
  });
  expect(scene.wrong).toEqual([]);
});

/** A task does not return: it sleeps for good. */
function* thenSleep(k: MmKernel, body: Kthread): Kthread {
  yield* call(body);
  yield* call(prepareToSleep(k));
  yield* call(schedule(k));
}

test('for a kernel thread it is the kernel’s own address space', () => {
  const scene = new Scene();
  const { k } = scene;
  const seen: number[] = [];
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    const { mm } = user;
    const body = function* (): Kthread {
      expect(currentTask(k).activeMm).toBe(mm);
      seen.push(yield* call(perfGetPageSize(k, BASE)));
    };
    const kthread = newTaskStruct(k, {
      comm: 'kthread',
      mm: null,
      cpu: 0,
      body: () => thenSleep(k, body()),
    });
    yield* call(wakeUp(k, kthread));
    yield* call(user.schedYield());
    expect(seen).toEqual([0]);
  });
  expect(scene.wrong).toEqual([]);
});

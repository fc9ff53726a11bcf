/** Batches of new LRU pages: who looks shared because of them, and who empties them. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { composeKernel, KERNEL_COSTS, startCpus } from '@shootdown/mmu-gather';
import { Machine } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import { runByClock } from '@shootdown/sim';
import { expect, test } from 'vitest';
import { lruCaches } from './lru.ts';
import type { MmKernel } from './mm.ts';
import { mmFunctions } from './mmFunctions.ts';
import { newProcess, type User } from './user.ts';
import { ANON_RW } from './vma.ts';
import { BASE, emptyMm } from './workloads/workload.ts';
import type { Kthread } from '@shootdown/mmu-gather';

/** How many flushes of one page the writes of a parent are whose child has written first. */
function copies(made: number, pages: number, caches: boolean): number {
  const machine = new Machine({ cpus: 2 });
  const functions = caches ? { ...mmFunctions, ...lruCaches } : mmFunctions;
  const k: MmKernel = composeKernel({ machine, backend: native(), functions, kernel: '6.12.117' });
  let before = 0;
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user: User): Kthread {
    yield* call(user.mmap({ addr: BASE, length: pages * PAGE_SIZE, flags: ANON_RW }));
    yield* call(user.pin(made));
    yield* call(user.touch(BASE, pages));
    yield* call(user.pin(0));
    const child = yield* call(user.fork((other) => other.touch(BASE, pages)));
    yield* call(user.join(child));
    before = k.stats.flushes.get('3:1') ?? 0;
    yield* call(user.touch(BASE, pages));
  });
  startCpus(k);
  runByClock(machine, { costs: KERNEL_COSTS });
  expect(Array.from(k.warnings)).toEqual([]);
  return (k.stats.flushes.get('3:1') ?? 0) - before;
}

test('a page that waits in the batch of another CPU is copied although nobody shares it', () => {
  expect(copies(1, 4, true)).toBe(4);
});

test('the batch of the own CPU is emptied first, so the page is reused', () => {
  expect(copies(0, 4, true)).toBe(0);
});

test('a full batch empties itself', () => {
  expect(copies(1, 31, true)).toBe(0);
  expect(copies(1, 33, true)).toBe(2);
});

test('a kernel without batches reuses every page', () => {
  expect(copies(1, 4, false)).toBe(0);
});

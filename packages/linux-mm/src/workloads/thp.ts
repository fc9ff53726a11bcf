/**
 * Huge pages made, protected, split and taken away, while the other threads read the first half of
 * the memory.
 */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { HPAGE_PMD_NR, HPAGE_PMD_SIZE, type Kthread } from '@shootdown/mmu-gather';
import { Madvise } from '../madvise.ts';
import type { User } from '../user.ts';
import { readAround } from './mprotect.ts';
import {
  BASE,
  numberOf,
  startHelpers,
  startProgram,
  stopHelpers,
  type Workload,
  RO,
  RW,
} from './workload.ts';

export const thp: Workload = {
  name: 'thp',
  title: 'huge pages: collapse, mprotect, split, MADV_DONTNEED, while the other threads read',
  parameters: [{ name: 'iterations', help: 'how often each', fallback: 2 }],
  frames: () => 8 * HPAGE_PMD_NR,
  setUp(setting) {
    startProgram(setting, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: 2 * HPAGE_PMD_SIZE }));
      yield* call(user.madvise(BASE, 2 * HPAGE_PMD_SIZE, Madvise.NOHUGEPAGE));
      yield* call(user.touch(BASE, 2 * HPAGE_PMD_NR));
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) =>
          readAround(helper, BASE, HPAGE_PMD_NR, until),
        ),
      );
      for (let i = 0; i < numberOf(setting, 'iterations'); i++) {
        yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.HUGEPAGE));
        for (const [name, body] of Object.entries(PHASES)) {
          setting.phases.begin(name);
          yield* call(body(user));
          setting.phases.end();
          if (name === 'dontneed 512')
            yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.HUGEPAGE));
        }
        yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.NOHUGEPAGE));
        yield* call(user.touch(BASE, HPAGE_PMD_NR));
      }
      yield* call(stopHelpers(user, helpers));
    });
  },
};

const PHASES: Readonly<Record<string, (user: User) => Kthread>> = {
  *collapse(user) {
    yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.COLLAPSE));
  },
  *'huge mprotect'(user) {
    yield* call(user.mprotect(BASE, HPAGE_PMD_SIZE, RO));
    yield* call(user.mprotect(BASE, HPAGE_PMD_SIZE, RW));
    yield* call(user.touch(BASE, 1));
  },
  *'split by mprotect 1 page'(user) {
    yield* call(user.mprotect(BASE + 17 * PAGE_SIZE, PAGE_SIZE, RO));
    yield* call(user.mprotect(BASE + 17 * PAGE_SIZE, PAGE_SIZE, RW));
  },
  *'dontneed 512'(user) {
    yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.DONTNEED));
    yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.NOHUGEPAGE));
    yield* call(user.touch(BASE, HPAGE_PMD_NR));
  },
  *'collapse, then zap the huge page'(user) {
    yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.COLLAPSE));
    yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.DONTNEED));
  },
};

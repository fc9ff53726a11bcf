/** GUP-fast by one thread against mprotect, madvise, munmap and collapse by another. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { HPAGE_PMD_SIZE, type Kthread } from '@shootdown/mmu-gather';
import { Madvise } from '../madvise.ts';
import type { User } from '../user.ts';
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

export const gup: Workload = {
  name: 'gup',
  title: 'a thread that gets pages without a lock (vmsplice), against who changes the mapping',
  parameters: [
    { name: 'pages', help: 'pages that are got and changed', fallback: 8 },
    { name: 'getters', help: 'threads that get pages; the others spin', fallback: 1 },
    { name: 'iterations', help: 'how often each', fallback: 6 },
  ],
  frames: () => 8 * 512,
  setUp(setting) {
    const pages = numberOf(setting, 'pages');
    const getters = numberOf(setting, 'getters');
    startProgram(setting, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: 2 * HPAGE_PMD_SIZE }));
      yield* call(user.touch(BASE, 512));
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until, id) =>
          id > getters ? helper.spin(until) : gets(helper, pages, until),
        ),
      );
      for (const [name, body] of Object.entries(PHASES)) {
        setting.phases.begin(name);
        for (let i = 0; i < numberOf(setting, 'iterations'); i++) yield* call(body(user, pages));
        setting.phases.end();
      }
      yield* call(stopHelpers(user, helpers));
    });
  },
};

function* gets(user: User, pages: number, until: { readonly value: boolean }): Kthread {
  while (!until.value) {
    yield* call(user.vmsplice(BASE, pages));
    // Emptying the pipe again.
    yield* call(user.compute(SPLICE_NS));
  }
}

/** splice() of a few pages to /dev/null: assumption. */
const SPLICE_NS = 1000;

type Phase = (user: User, pages: number) => Kthread;

const PHASES: Readonly<Record<string, Phase>> = {
  *'gup+mprotect'(user, pages) {
    yield* call(user.mprotect(BASE, pages * PAGE_SIZE, RO));
    yield* call(user.mprotect(BASE, pages * PAGE_SIZE, RW));
    yield* call(user.touch(BASE, pages));
  },
  *'gup+madvise'(user, pages) {
    yield* call(user.touch(BASE, pages));
    yield* call(user.madvise(BASE, pages * PAGE_SIZE, Madvise.DONTNEED));
  },
  *'gup+munmap free-pt'(user, pages) {
    yield* call(user.munmap(BASE, HPAGE_PMD_SIZE));
    yield* call(user.mmap({ addr: BASE, length: HPAGE_PMD_SIZE }));
    yield* call(user.touch(BASE, pages));
  },
  *'gup+collapse'(user) {
    yield* call(user.munmap(BASE, HPAGE_PMD_SIZE));
    yield* call(user.mmap({ addr: BASE, length: HPAGE_PMD_SIZE }));
    yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.NOHUGEPAGE));
    yield* call(user.touch(BASE, 512));
    yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.HUGEPAGE));
    yield* call(user.madvise(BASE, HPAGE_PMD_SIZE, Madvise.COLLAPSE));
  },
};

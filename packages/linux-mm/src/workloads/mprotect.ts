/** Read-only and back, again and again, while the other threads read. */
import { call, type Cell, PAGE_SIZE } from '@shootdown/machine';
import type { Kthread } from '@shootdown/mmu-gather';
import type { User } from '../user.ts';
import {
  BASE,
  listOf,
  numberOf,
  startHelpers,
  startProgram,
  stopHelpers,
  type Workload,
  RO,
  RW,
} from './workload.ts';

/** Reads `pages` pages round and round, 100 ns apart, until `until` holds. */
export function* readAround(
  user: User,
  addr: number,
  pages: number,
  until: Cell<boolean>,
): Kthread {
  while (!until.value) {
    yield* call(user.read(addr, pages));
    yield* call(user.compute(100));
  }
}

export const mprotect: Workload = {
  name: 'mprotect',
  title: 'mprotect to read-only and back, while the other threads read',
  parameters: [
    { name: 'list', help: 'pages of the ranges', fallback: [1, 2, 8, 32, 33, 34, 64] },
    { name: 'iterations', help: 'how often each', fallback: 4 },
  ],
  frames: (setting) => 2 * Math.max(...listOf(setting, 'list')),
  setUp(setting) {
    const list = listOf(setting, 'list');
    const most = Math.max(...list);
    startProgram(setting, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: most * PAGE_SIZE }));
      yield* call(user.touch(BASE, most));
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) => readAround(helper, BASE, most, until)),
      );
      for (const writes of [0, 1])
        for (const pages of list) {
          setting.phases.begin(`mprotect pages=${pages} write_between=${writes}`);
          for (let i = 0; i < numberOf(setting, 'iterations'); i++) {
            yield* call(user.mprotect(BASE, pages * PAGE_SIZE, RO));
            yield* call(user.mprotect(BASE, pages * PAGE_SIZE, RW));
            if (writes === 1) yield* call(user.touch(BASE, pages));
          }
          setting.phases.end();
        }
      yield* call(stopHelpers(user, helpers));
    });
  },
};

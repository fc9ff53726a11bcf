/** MADV_PAGEOUT of pages that were written to: reclaim's batched flush, page by page. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { Madvise } from '../madvise.ts';
import {
  BASE,
  listOf,
  numberOf,
  startHelpers,
  startProgram,
  stopHelpers,
  type Workload,
} from './workload.ts';

/** Bytes from one region to the next. */
const REGION = 64 * 2 ** 20;

export const pageout: Workload = {
  name: 'pageout',
  title: 'touch and MADV_PAGEOUT of pages, while the other threads spin in user mode',
  parameters: [
    { name: 'list', help: 'pages each time, a phase for each', fallback: [1, 8, 33, 64, 512] },
    { name: 'iterations', help: 'how often', fallback: 100 },
  ],
  frames: (setting) => listOf(setting, 'list').reduce((sum, pages) => sum + pages, 0) * 2,
  setUp(setting) {
    const { phases } = setting;
    startProgram(setting, function* (user) {
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) => helper.spin(until)),
      );
      for (const [n, pages] of listOf(setting, 'list').entries()) {
        const start = BASE + (n + 1) * REGION;
        const length = pages * PAGE_SIZE;
        yield* call(user.mmap({ addr: start, length }));
        yield* call(user.touch(start, pages));
        phases.begin(`pageout pages=${pages}`);
        for (let i = 0; i < numberOf(setting, 'iterations'); i++) {
          yield* call(user.touch(start, pages));
          yield* call(user.madvise(start, length, Madvise.PAGEOUT));
        }
        phases.end();
      }
      yield* call(stopHelpers(user, helpers));
    });
  },
};

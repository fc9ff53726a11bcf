/** Touch and MADV_DONTNEED, again and again, while the other threads spin. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { Madvise } from '../madvise.ts';
import {
  BASE,
  numberOf,
  startHelpers,
  startProgram,
  stopHelpers,
  type Workload,
} from './workload.ts';

export const madvise: Workload = {
  name: 'madvise',
  title: 'touch and MADV_DONTNEED of a few pages, while the other threads spin in user mode',
  parameters: [
    { name: 'pages', help: 'pages each time', fallback: 1 },
    { name: 'iterations', help: 'how often', fallback: 50 },
  ],
  frames: (setting) => numberOf(setting, 'pages') * 2,
  setUp(setting) {
    const pages = numberOf(setting, 'pages');
    const length = pages * PAGE_SIZE;
    startProgram(setting, function* (user) {
      yield* call(user.mmap({ addr: BASE, length }));
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) => helper.spin(until)),
      );
      yield* call(user.touch(BASE, pages));
      setting.phases.begin(`madvise pages=${pages}`);
      for (let i = 0; i < numberOf(setting, 'iterations'); i++) {
        yield* call(user.touch(BASE, pages));
        yield* call(user.madvise(BASE, length, Madvise.DONTNEED));
      }
      setting.phases.end();
      yield* call(stopHelpers(user, helpers));
    });
  },
};

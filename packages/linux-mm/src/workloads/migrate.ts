/** Pages go to and fro between two NUMA nodes: migration's one flush for a batch. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { mbind } from '../mempolicy.ts';
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

export const migrate: Workload = {
  name: 'migrate',
  title: 'mbind to one node and back again, while the other threads spin in user mode',
  parameters: [
    { name: 'list', help: 'pages each time, a phase for each', fallback: [1, 8, 33, 64, 512] },
    { name: 'iterations', help: 'how often', fallback: 100 },
  ],
  // All of them, on either node.
  frames: (setting) => listOf(setting, 'list').reduce((sum, pages) => sum + pages, 0) * 4,
  nodes: 2,
  setUp(setting) {
    const { k, phases } = setting;
    startProgram(setting, function* (user) {
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) => helper.spin(until)),
      );
      for (const [n, pages] of listOf(setting, 'list').entries()) {
        const start = BASE + (n + 1) * REGION;
        const length = pages * PAGE_SIZE;
        yield* call(user.mmap({ addr: start, length }));
        yield* call(user.touch(start, pages));
        phases.begin(`migrate pages=${pages}`);
        for (let i = 0; i < numberOf(setting, 'iterations'); i++)
          yield* call(mbind(k, user.mm, start, length, (i + 1) % 2));
        phases.end();
      }
      yield* call(stopHelpers(user, helpers));
    });
  },
};

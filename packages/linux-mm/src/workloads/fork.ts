/** fork and copy-on-write, three ways, while the other threads spin. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { completion, type Kthread } from '@shootdown/mmu-gather';
import type { User } from '../user.ts';
import {
  BASE,
  numberOf,
  type Setting,
  startHelpers,
  startProgram,
  stopHelpers,
  type Workload,
} from './workload.ts';

/** Who writes: the child before it exits, the parent while the child lives, nobody before it exits. */
const KINDS = [0, 1, 2] as const;

export const fork: Workload = {
  name: 'fork',
  title: 'fork and copy-on-write: the child writes, the parent writes, or neither',
  parameters: [
    { name: 'pages', help: 'pages that are written', fallback: 4 },
    { name: 'iterations', help: 'how often each', fallback: 6 },
  ],
  frames: (setting) => 8 * numberOf(setting, 'pages') + 64,
  setUp(setting) {
    const pages = numberOf(setting, 'pages');
    startProgram(setting, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: pages * PAGE_SIZE }));
      yield* call(user.touch(BASE, pages));
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) => helper.spin(until)),
      );
      for (const kind of KINDS) {
        setting.phases.begin(`fork kind=${kind} pages=${pages}`);
        for (let i = 0; i < numberOf(setting, 'iterations'); i++)
          yield* call(once(setting, user, kind, pages, i));
        setting.phases.end();
      }
      yield* call(stopHelpers(user, helpers));
    });
  },
};

function* once(
  { k, threads }: Setting,
  user: User,
  kind: (typeof KINDS)[number],
  pages: number,
  i: number,
): Kthread {
  const written = completion(k.machine, `written ${kind} ${i}`);
  // It starts on its parent's CPU, to which that is pinned, and moves to one where a thread spins.
  const cpu = threads > 1 ? 1 + (i % (threads - 1)) : 0;
  const child = yield* call(
    user.fork(function* (forked) {
      yield* call(forked.pin(cpu));
      if (kind === 0) yield* call(forked.touch(BASE, pages));
      if (kind === 1) yield* call(forked.waitFor(written, 1));
    }),
  );
  if (kind === 1) {
    yield* call(user.touch(BASE, pages));
    yield* call(user.signal(written));
  }
  yield* call(user.join(child));
  yield* call(user.touch(BASE, pages));
}

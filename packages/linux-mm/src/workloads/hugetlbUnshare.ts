/** Processes that map one hugetlb file with shared page tables, and leave one after the other. */
import { call, UsageError } from '@shootdown/machine';
import { completion, HPAGE_PMD_NR, PMD_SIZE, PUD_SIZE } from '@shootdown/mmu-gather';
import type { Kthread } from '@shootdown/mmu-gather';
import { newHugetlbFile } from '../hugetlbFile.ts';
import type { User } from '../user.ts';
import { ANON_RW } from '../vma.ts';
import {
  BASE,
  numberOf,
  startHelpers,
  startProgram,
  stopHelpers,
  type Workload,
} from './workload.ts';

const SHARED_HUGETLB = { ...ANON_RW, shared: true, hugetlb: true } as const;

/**
 * The main process leaves first, with its threads spinning in user mode; the others, of one thread
 * each, follow. A phase for each: `remaining` is how many use the tables afterwards.
 */
export const hugetlbUnshare: Workload = {
  name: 'hugetlb-unshare',
  title: 'processes that share page tables of a hugetlb file unmap it, one after the other',
  parameters: [
    { name: 'sharers', help: 'processes', fallback: 2 },
    { name: 'tables', help: 'page tables that they share, of 1 GiB each', fallback: 1 },
    { name: 'pages', help: 'huge pages that are touched in each', fallback: 4 },
  ],
  frames: (setting) => numberOf(setting, 'tables') * numberOf(setting, 'pages') * HPAGE_PMD_NR,
  setUp(setting) {
    const { k, phases, threads } = setting;
    const sharers = numberOf(setting, 'sharers');
    const tables = numberOf(setting, 'tables');
    const pages = numberOf(setting, 'pages');
    const needed = threads + sharers - 1;
    if (needed > k.machine.count)
      throw new UsageError(
        'ERR_CPU_RANGE',
        `${threads} threads and ${sharers - 1} more processes run on a CPU each, and the machine ` +
          `has ${k.machine.count}: use fewer of them or ${needed} CPUs`,
      );
    if (pages > PUD_SIZE / PMD_SIZE)
      throw new UsageError(
        'ERR_WORKLOAD',
        `parameter pages is ${pages}: a page table of 1 GiB maps ${PUD_SIZE / PMD_SIZE} huge pages at most`,
      );
    const length = tables * PUD_SIZE;
    const file = newHugetlbFile(k, 'segment');
    const mapped = completion(k.machine, 'mapped');
    const left = completion(k.machine, 'left');

    function* join(user: User): Kthread {
      yield* call(user.mmap({ addr: BASE, length, flags: SHARED_HUGETLB, file }));
      for (let table = 0; table < tables; table++)
        for (let page = 0; page < pages; page++)
          yield* call(user.access(BASE + table * PUD_SIZE + page * PMD_SIZE, true));
      yield* call(user.signal(mapped));
    }

    function* leave(user: User, remaining: number): Kthread {
      phases.begin(`unshare sharers=${sharers} remaining=${remaining}`);
      yield* call(user.munmap(BASE, length));
      phases.end();
      yield* call(user.signal(left));
    }

    const follower = (id: number) =>
      function* (user: User): Kthread {
        // The first one's tables are there to be shared.
        yield* call(user.waitFor(mapped, 1));
        yield* call(join(user));
        yield* call(user.waitFor(left, id));
        yield* call(leave(user, sharers - 1 - id));
      };

    startProgram(setting, function* (user) {
      const started = [];
      for (let id = 1; id < sharers; id++)
        started.push(yield* call(user.fork(follower(id), threads - 1 + id)));
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) => helper.spin(until)),
      );
      yield* call(join(user));
      yield* call(user.waitFor(mapped, sharers));
      yield* call(leave(user, sharers - 1));
      for (const one of started) yield* call(user.join(one));
      yield* call(stopHelpers(user, helpers));
    });
  },
};

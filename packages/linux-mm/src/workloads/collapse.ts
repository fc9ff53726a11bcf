/**
 * MADV_COLLAPSE of a large range of small pages: for every 2 MiB a page table is unhooked, and every
 * CPU of the machine is interrupted so that no walker is left in it.
 */
import { call } from '@shootdown/machine';
import {
  complete,
  completion,
  enqueueBeforeStart,
  HPAGE_PMD_NR,
  HPAGE_PMD_SIZE,
  type Kthread,
  type MmStruct,
  newTaskStruct,
  waitForCompletion,
} from '@shootdown/mmu-gather';
import { doExit } from '../exit.ts';
import type { MmKernel } from '../mm.ts';
import type { User } from '../user.ts';
import { Madvise } from '../madvise.ts';
import { populate } from './populate.ts';
import {
  BASE,
  emptyMm,
  numberOf,
  startHelpers,
  startProgram,
  stopHelpers,
  type Workload,
} from './workload.ts';

export const collapse: Workload = {
  name: 'collapse',
  title: 'MADV_COLLAPSE of populated memory; the other threads spin',
  threads: 1,
  parameters: [
    {
      name: 'size',
      help: 'how much to collapse',
      fallback: 64 * 2 ** 20,
      least: HPAGE_PMD_SIZE,
      unit: 'bytes',
    },
    {
      name: 'khugepaged',
      help: '1: the kernel thread khugepaged does it, on the last CPU, while the program sleeps',
      fallback: 0,
      least: 0,
    },
  ],
  // The small pages, as many again in huge ones, and a table for each of those.
  frames: (setting) => hugePages(numberOf(setting, 'size')) * (2 * HPAGE_PMD_NR + 2),
  setUp(setting) {
    const { k } = setting;
    const count = hugePages(numberOf(setting, 'size'));
    const mm = emptyMm(k);
    populate(k, mm, BASE, count * HPAGE_PMD_NR);
    const scan = numberOf(setting, 'khugepaged') === 0 ? null : khugepaged(k, mm, count);
    startProgram(
      setting,
      function* (user) {
        const helpers = yield* call(
          startHelpers(setting, user, (helper, until) => helper.spin(until)),
        );
        setting.phases.begin('collapse');
        if (scan === null)
          yield* call(user.madvise(BASE, count * HPAGE_PMD_SIZE, Madvise.COLLAPSE));
        else yield* call(scan(user));
        setting.phases.end();
        yield* call(stopHelpers(user, helpers));
      },
      mm,
    );
  },
};

/**
 * Starts the kernel thread; gives what the program does instead of asking for the collapse itself: it
 * has the scan begin, and sleeps until it is over.
 */
function khugepaged(k: MmKernel, mm: MmStruct, count: number): (user: User) => Kthread {
  const begin = completion(k.machine, 'khugepaged_wait');
  const over = completion(k.machine, 'khugepaged_scan');
  const cpu = k.machine.count - 1;
  const body = function* (): Kthread {
    yield* call(waitForCompletion(k, begin, 1));
    for (let n = 0; n < count; n++)
      yield* call(k.fn.collapseHugePage(k, mm, BASE + n * HPAGE_PMD_SIZE));
    yield* call(complete(k, over));
    yield* call(doExit(k));
  };
  enqueueBeforeStart(k, newTaskStruct(k, { comm: 'khugepaged', mm: null, cpu, body }));
  return function* (user) {
    yield* call(user.signal(begin));
    yield* call(user.waitFor(over, 1));
  };
}

const hugePages = (bytes: number): number => Math.floor(bytes / HPAGE_PMD_SIZE);

/**
 * Map, touch and munmap ranges of several sizes, three times over: with neighbours that keep the page
 * tables, with one that keeps only the PMD table, and with none.
 */
import { call, PAGE_SIZE } from '@shootdown/machine';
import type { Kthread } from '@shootdown/mmu-gather';
import type { User } from '../user.ts';
import {
  BASE,
  listOf,
  numberOf,
  type Setting,
  startHelpers,
  startProgram,
  stopHelpers,
  type Workload,
} from './workload.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/**
 * Which neighbours a range has. 1: pages before and behind it in the same page table, so no table is
 * freed while it is small. 2: a page 32 MiB on, which keeps the PMD table. 0: none.
 */
const ANCHORS = [1, 2, 0] as const;

/** The phases. */
export function* munmapPhases(setting: Setting, user: User): Kthread {
  for (const [group, anchor] of ANCHORS.entries())
    for (const [index, pages] of listOf(setting, 'list').entries()) {
      const region = BASE + group * 4 * GIB + (index + 1) * 64 * MIB;
      yield* call(onePhase(setting, user, region, anchor, pages));
    }
}

function* onePhase(
  setting: Setting,
  user: User,
  region: number,
  anchor: (typeof ANCHORS)[number],
  pages: number,
): Kthread {
  const far = region + 32 * MIB;
  if (anchor === 2) yield* call(mapAndTouch(user, far, 1));
  if (anchor === 1) {
    yield* call(mapAndTouch(user, region, 1));
    yield* call(mapAndTouch(user, region + (32 + pages) * PAGE_SIZE, 1));
  }
  const start = region + (anchor === 1 ? 16 * PAGE_SIZE : 0);
  const gapNs = 1000 * numberOf(setting, 'gap-us');
  setting.phases.begin(`munmap pages=${pages} anchor=${anchor}`);
  for (let i = 0; i < numberOf(setting, 'iterations'); i++) {
    yield* call(mapAndTouch(user, start, pages));
    if (gapNs > 0) yield* call(user.nanosleep(gapNs));
    yield* call(user.munmap(start, pages * PAGE_SIZE));
  }
  setting.phases.end();
  // The anchors of kind 1 stay: unmapping one would free tables, and that reaches lazy CPUs too.
  if (anchor === 2) yield* call(user.munmap(far, PAGE_SIZE));
}

function* mapAndTouch(user: User, addr: number, pages: number): Kthread {
  yield* call(user.mmap({ addr, length: pages * PAGE_SIZE }));
  yield* call(user.touch(addr, pages));
}

/** Frames that the phases need: the largest range twice over, and tables. */
export const munmapFrames = (setting: Pick<Setting, 'values'>): number =>
  2 * Math.max(...listOf(setting, 'list')) + 64 * listOf(setting, 'list').length;

const ITERATIONS = { name: 'iterations', help: 'how often each', fallback: 5 } as const;
const GAP = {
  name: 'gap-us',
  help: 'microseconds asleep between touching and unmapping',
  fallback: 0,
  least: 0,
} as const;

export const munmap: Workload = {
  name: 'munmap',
  title: 'munmap of ranges, with and without page tables, while the other threads spin',
  parameters: [
    { name: 'list', help: 'pages of the ranges', fallback: [1, 8, 32, 33, 34, 512, 2048] },
    ITERATIONS,
    GAP,
  ],
  frames: munmapFrames,
  setUp(setting) {
    startProgram(setting, function* (user) {
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) => helper.spin(until)),
      );
      yield* call(munmapPhases(setting, user));
      yield* call(stopHelpers(user, helpers));
    });
  },
};

export const lazy: Workload = {
  name: 'lazy',
  title: 'munmap of ranges while the other threads sleep, so that their CPUs are in lazy TLB mode',
  parameters: [
    { name: 'list', help: 'pages of the ranges', fallback: [1, 8, 33, 34, 512] },
    { ...ITERATIONS, fallback: 10 },
    GAP,
    { name: 'sleep-us', help: 'microseconds that a thread sleeps at a time', fallback: 20_000 },
    { name: 'spinners', help: 'how many of the threads spin instead', fallback: 0, least: 0 },
  ],
  frames: munmapFrames,
  setUp(setting) {
    const sleepUs = numberOf(setting, 'sleep-us');
    const spinners = numberOf(setting, 'spinners');
    startProgram(setting, function* (user) {
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until, id) =>
          id <= spinners ? helper.spin(until) : sleeps(helper, 1000 * (sleepUs + 37 * id), until),
        ),
      );
      yield* call(user.nanosleep(50_000_000));
      yield* call(munmapPhases(setting, user));
      yield* call(stopHelpers(user, helpers));
    });
  },
};

function* sleeps(user: User, ns: number, until: { readonly value: boolean }): Kthread {
  while (!until.value) yield* call(user.nanosleep(ns));
}

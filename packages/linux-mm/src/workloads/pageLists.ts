/**
 * Workloads that do one thing to pages, again and again, while the other threads spin in user mode: a
 * phase for each number of pages.
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

/** What is done to the pages. */
export interface OverPages extends Pick<Workload, 'name' | 'title' | 'nodes'> {
  /** Page frames for a page, on all nodes together. */
  readonly framesPerPage: number;
  /** Once, to pages that were touched before. */
  readonly once: (user: User, pages: PageRange, iteration: number) => Kthread<unknown>;
}

/** Pages that follow each other. */
export interface PageRange {
  readonly start: number;
  readonly pages: number;
  /** Bytes. */
  readonly length: number;
}

/** The workload that does it. */
export const overPages = ({ framesPerPage, once, ...what }: OverPages): Workload => ({
  ...what,
  parameters: [
    { name: 'list', help: 'pages each time, a phase for each', fallback: [1, 8, 33, 64, 512] },
    { name: 'iterations', help: 'how often', fallback: 100 },
  ],
  frames: (setting) =>
    listOf(setting, 'list').reduce((sum, pages) => sum + pages, 0) * framesPerPage,
  setUp(setting) {
    const { phases } = setting;
    startProgram(setting, function* (user) {
      const helpers = yield* call(
        startHelpers(setting, user, (helper, until) => helper.spin(until)),
      );
      for (const range of regions(setting)) {
        yield* call(user.mmap({ addr: range.start, length: range.length }));
        yield* call(user.touch(range.start, range.pages));
        phases.begin(`${what.name} pages=${range.pages}`);
        for (let i = 0; i < numberOf(setting, 'iterations'); i++) yield* call(once(user, range, i));
        phases.end();
      }
      yield* call(stopHelpers(user, helpers));
    });
  },
});

/** Regions begin at multiples of this many bytes. */
const ALIGNMENT = 64 * 2 ** 20;

/** A region for each number of the list; what lies between them keeps them from being merged. */
function regions(setting: Setting): readonly PageRange[] {
  let end = BASE;
  return listOf(setting, 'list').map((pages) => {
    const start = (Math.floor(end / ALIGNMENT) + 1) * ALIGNMENT;
    const length = pages * PAGE_SIZE;
    end = start + length;
    return { start, pages, length };
  });
}

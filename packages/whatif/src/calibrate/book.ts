/** The books of the intervals: what was measured, and what was left out and why. */
import { Histogram } from './histogram.ts';
import type { Times } from './clock.ts';
import { INTERVAL_IDS, type IntervalId, INTERVALS } from './intervals.ts';

/** Flushes are kept by so many numbers of pages; a kernel flushes 33 at most one by one. */
const MAX_PAGE_COUNTS = 128;

/** Why an interval that began was not measured. */
export type LeftOut = 'negative' | 'lost' | 'shared' | 'unfinished';

/** The book of one interval; lengths in steps of the trace's clock. */
export class Tally {
  readonly all: Histogram = new Histogram();
  /** By pages, for flushes; -1 is everything. */
  readonly byPages: Map<number, Histogram> = new Map();
  readonly leftOut: Record<LeftOut, number> = { negative: 0, lost: 0, shared: 0, unfinished: 0 };

  /** Adds an interval; a negative one is counted, not measured. */
  add(length: number, pages?: number): void {
    if (length < 0) {
      this.leftOut.negative++;
      return;
    }
    this.all.add(length);
    if (pages === undefined) return;
    let histogram = this.byPages.get(pages);
    if (histogram === undefined) {
      if (this.byPages.size >= MAX_PAGE_COUNTS) return;
      this.byPages.set(pages, (histogram = new Histogram()));
    }
    histogram.add(length);
  }
}

/** The books of all intervals of one trace. */
export class Book {
  readonly tallies: Readonly<Record<IntervalId, Tally>>;
  readonly #times: Times;

  constructor(times: Times) {
    this.#times = times;
    this.tallies = Object.fromEntries(INTERVAL_IDS.map((id) => [id, new Tally()])) as Record<
      IntervalId,
      Tally
    >;
  }

  /** Adds an interval between two times of the clock, unless the clock cannot measure it. */
  add(id: IntervalId, from: number, to: number, pages?: number): void {
    if (!this.#measures(id)) return;
    this.tallies[id].add(to - from, pages);
  }

  /** Counts an interval that is not used. */
  leaveOut(id: IntervalId, why: LeftOut): void {
    if (this.#measures(id)) this.tallies[id].leftOut[why]++;
  }

  #measures(id: IntervalId): boolean {
    return this.#times.perCpu === null || !INTERVALS[id].acrossCpus;
  }
}

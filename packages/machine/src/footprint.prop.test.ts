/**
 * Footprints are complete: from outside, two transitions whose footprints do not conflict can be
 * swapped without anybody being able to tell. An explorer prunes schedules by that. The laws are
 * tried on random worlds, and on the small ones in which single parts of a footprint are needed;
 * what was tried is counted, since a law about pairs that never meet holds of anything.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { findings, type Finding, lies } from './commutation.testlib.ts';
import type { Family } from './instructions.testlib.ts';
import { build, picks, type Plan, plans } from './programs.testlib.ts';
import { follow, take } from './schedule.testlib.ts';
import { SHAPES } from './shapes.testlib.ts';

/**
 * Runs `plan` by `numbers`, and tries every pair of transitions that are enabled at the end, and
 * where most are enabled.
 */
function lookAt(plan: Plan, numbers: readonly number[]): readonly Finding[] {
  const world = build(plan);
  const enabled: number[] = [];
  const taken = follow(world, numbers, (count) => enabled.push(count));
  const busiest = enabled.indexOf(Math.max(...enabled));
  const after = (length: number): readonly Finding[] =>
    findings(() => {
      const again = build(plan);
      for (const next of taken.slice(0, length)) take(again, next);
      return again;
    });
  return busiest === -1 ? after(taken.length) : [...after(busiest), ...after(taken.length)];
}

/** How often each pair was met: `a and b`, or `a and b in conflict`. */
class Tally {
  private readonly met = new Map<string, number>();

  count(all: readonly Finding[]): void {
    for (const { names, conflict } of all) {
      const key = conflict && names.includes(' and ') ? `${names} in conflict` : names;
      this.met.set(key, (this.met.get(key) ?? 0) + 1);
    }
  }

  /** Those of `keys` that were never met. */
  missing(keys: readonly string[]): readonly string[] {
    return keys.filter((key) => !this.met.has(key));
  }
}

/** Has to be met in both ways. */
const both = (...names: readonly string[]): readonly string[] =>
  names.flatMap((name) => [name, `${name} in conflict`]);

/** What some families do to each other, and the pairs that must have been met. */
interface Encounter {
  readonly about: string;
  readonly families: readonly Family[];
  readonly runs: number;
  readonly pairs: readonly string[];
}

const ENCOUNTERS: readonly Encounter[] = [
  {
    about: 'variables and store buffers',
    families: ['memory'],
    runs: 900,
    pairs: [
      ...both(
        'drain and drain',
        'drain and load',
        'drain and locked',
        'drain and wait',
        'load and locked',
        'locked and locked',
        'locked and wait',
        'store and store',
      ),
      'drain changes load',
      'drain enables locked',
      'drain enables move',
      'drain enables wait',
      'locked enables wait',
      'store enables drain',
      'store ends move',
    ],
  },
  {
    about: 'masks and cells that code makes',
    families: ['masks'],
    runs: 900,
    pairs: [
      ...both(
        'clearBit and testBit',
        'drain and testBit',
        'locked and setBit',
        'locked and testAndClearBit',
        'setBit and setBit',
        'setBit and testAndSetBit',
      ),
      'drain changes load',
      'testAndSetBit changes testAndSetBit',
    ],
  },
  {
    about: 'interrupts and calls',
    families: ['memory', 'interrupts', 'calls'],
    runs: 1200,
    pairs: [
      ...both('csdEnqueue and csdEnqueue', 'deliver and sendIpi'),
      'csdFill ends deliver',
      'csdFill enables drain',
      'deliver ends move',
      'drain enables csdEnqueue',
      'drain enables csdLock',
      'drain enables csdWait',
      'drain enables deliver',
      'drain enables iret',
      'iret enables deliver',
      'irqFlag enables deliver',
      'irqFlag ends deliver',
      'move ends deliver',
      'sendIpi enables deliver',
      'vmEntry enables deliver',
      'vmEntry enables move',
    ],
  },
  {
    about: 'page tables and translation caches',
    families: ['tables', 'invalidations', 'broadcasts'],
    runs: 1600,
    pairs: [
      ...both(
        'access and access',
        'access and apply',
        'access and drain',
        'access and invpcid',
        'access and locked',
        'access and writeCr3',
        'apply and invlpg',
        'apply and locked',
        'apply and writeCr3',
        'drain and drain',
        'drain and load',
        'invpcid and locked',
      ),
      'access changes access',
      'access enables drain',
      'apply enables tlbsync',
      'drain changes access',
      'drain enables frameUsers',
      'drain enables pageFault',
      'invlpgb enables apply',
      'tlbi enables apply',
      'writeCr3 changes apply',
    ],
  },
  {
    about: 'tasks and choices',
    families: ['memory', 'interrupts', 'tasks'],
    runs: 700,
    pairs: [...both('deliver and sendIpi', 'locked and locked'), 'sendIpi enables deliver'],
  },
];

describe('two transitions of different CPUs without a conflict can be swapped', () => {
  test.each(ENCOUNTERS)('$about', ({ families, runs, pairs }) => {
    const tally = new Tally();
    fc.assert(
      fc.property(plans(families), picks(14), (plan, numbers) => {
        const all = lookAt(plan, numbers);
        tally.count(all);
        expect(lies(all)).toEqual([]);
      }),
      { numRuns: runs },
    );
    expect(tally.missing(pairs)).toEqual([]);
  });

  test.each(SHAPES)('$about', ({ plan, pairs }) => {
    const tally = new Tally();
    fc.assert(
      fc.property(picks(40), (numbers) => {
        const all = lookAt(plan, numbers);
        tally.count(all);
        expect(lies(all)).toEqual([]);
      }),
      { numRuns: 100 },
    );
    expect(tally.missing(pairs)).toEqual([]);
  });
});

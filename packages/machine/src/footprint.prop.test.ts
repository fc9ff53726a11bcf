/**
 * Footprints are complete: from outside, two transitions whose footprints do not conflict can be
 * swapped without anybody being able to tell. An explorer prunes schedules by that. What was tried
 * is counted, since a law about pairs that never meet holds of anything.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { findings, type Finding, lies, Tally } from './commutation.testlib.ts';
import type { Family } from './instructions.testlib.ts';
import { build, picks, type Plan, plans } from './programs.testlib.ts';
import { follow, take } from './schedule.testlib.ts';

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
      ...both('drain and drain', 'load and locked', 'locked and locked', 'store and store'),
      'locked enables wait',
      'store enables drain',
      'store ends move',
    ],
  },
  {
    about: 'masks and cells that code makes',
    families: ['masks'],
    runs: 700,
    pairs: [...both('setBit and setBit'), 'testAndSetBit changes testAndSetBit'],
  },
  {
    about: 'interrupts and calls',
    families: ['memory', 'interrupts', 'calls'],
    runs: 800,
    pairs: [
      ...both('deliver and sendIpi'),
      'csdFill enables drain',
      'deliver ends move',
      'drain enables csdEnqueue',
      'iret enables deliver',
      'move ends deliver',
      'sendIpi enables deliver',
    ],
  },
  {
    about: 'page tables and translation caches',
    families: ['tables', 'invalidations', 'broadcasts'],
    runs: 1000,
    pairs: [
      ...both(
        'access and access',
        'access and apply',
        'access and drain',
        'access and locked',
        'apply and invlpg',
        'apply and writeCr3',
        'drain and drain',
      ),
      'access enables drain',
      'invlpgb enables apply',
      'tlbi enables apply',
    ],
  },
  {
    about: 'tasks and choices',
    families: ['memory', 'interrupts', 'tasks'],
    runs: 500,
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
});

/** pte_needs_flush() against the list of flags, for every pair of flags that are modelled. */
import { describe, expect, test } from 'vitest';
import { makePte, Pte, PTE_NX } from '@shootdown/machine';
import { pteNeedsFlush } from './pteFlags.ts';

/** What arch/x86/include/asm/tlbflush.h says of each flag of an entry that stays present. */
const RULE = {
  write: 'on change',
  user: 'on change',
  accessed: 'never',
  dirty: 'when cleared',
  huge: 'on change',
  global: 'on change',
  nx: 'on change',
} as const;

type Flag = keyof typeof RULE;
const FLAGS = Object.keys(RULE) as readonly Flag[];
const BITS: Readonly<Record<Flag, number>> = { ...Pte, nx: PTE_NX };

/** Every set of flags. */
const SETS: readonly (readonly Flag[])[] = Array.from({ length: 2 ** FLAGS.length }, (_, set) =>
  FLAGS.filter((_flag, index) => Math.floor(set / 2 ** index) % 2 === 1),
);

const entry = (flags: readonly Flag[], present: boolean, frame = 7): number =>
  makePte(frame, present ? Pte.present : 0) + flags.reduce((sum, flag) => sum + BITS[flag], 0);

const expected = (old: readonly Flag[], now: readonly Flag[]): boolean =>
  FLAGS.some((flag) => {
    const [had, has] = [old.includes(flag), now.includes(flag)];
    if (RULE[flag] === 'on change') return had !== has;
    return RULE[flag] === 'when cleared' && had && !has;
  });

/** Pairs of flag sets of which pteNeedsFlush says something else than `says`. */
function wrongPairs(
  says: (old: readonly Flag[], now: readonly Flag[]) => boolean,
  oldPresent: boolean,
  nowPresent: boolean,
): readonly string[] {
  return SETS.flatMap((old) =>
    SETS.filter(
      (now) => pteNeedsFlush(entry(old, oldPresent), entry(now, nowPresent)) !== says(old, now),
    ).map((now) => `${old.join()} -> ${now.join()}`),
  );
}

describe('an entry that changes', () => {
  test('and stays present is flushed as the list says of its flags', () => {
    expect(wrongPairs(expected, true, true)).toEqual([]);
  });

  test('that was not present is not cached: never', () => {
    expect(wrongPairs(() => false, false, true)).toEqual([]);
    expect(wrongPairs(() => false, false, false)).toEqual([]);
    expect(pteNeedsFlush(entry([], false, 7), entry([], true, 8))).toBe(false);
  });

  test('that is not present any more is flushed: always', () => {
    expect(wrongPairs(() => true, true, false)).toEqual([]);
  });

  test('to another page is flushed: always', () => {
    for (const flags of SETS)
      expect(pteNeedsFlush(entry(flags, true, 7), entry(flags, true, 8))).toBe(true);
  });

  test.each<[string, readonly Flag[], readonly Flag[], boolean]>([
    ['made read-only', ['user', 'write', 'dirty'], ['user', 'dirty'], true],
    ['made writable', ['user'], ['user', 'write'], true],
    ['set dirty', ['user', 'write'], ['user', 'write', 'dirty'], false],
    ['cleaned', ['user', 'write', 'dirty'], ['user', 'write'], true],
    ['used', ['user'], ['user', 'accessed'], false],
    ['made old', ['user', 'accessed'], ['user'], false],
    ['made executable', ['user', 'nx'], ['user'], true],
    ['left as it is', ['user', 'write'], ['user', 'write'], false],
  ])('%s', (_, old, now, needs) => {
    expect(pteNeedsFlush(entry(old, true), entry(now, true))).toBe(needs);
  });
});

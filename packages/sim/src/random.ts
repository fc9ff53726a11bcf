/** Seeded randomness: pure-rand's xoroshiro128+, the generator fast-check uses. */
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { UsageError } from '@shootdown/machine';

/** Gives integers from 0 to `below - 1`. */
export type Random = (below: number) => number;

/** The same `seed`, an integer, gives the same numbers. @throws UsageError ERR_OPTION */
export function random(seed: number): Random {
  if (!Number.isSafeInteger(seed))
    throw new UsageError('ERR_OPTION', `a seed is an integer, not ${seed}`);
  const generator = xoroshiro128plus(seed);
  return (below) => (below <= 1 ? 0 : uniformInt(generator, 0, below - 1));
}

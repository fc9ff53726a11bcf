/**
 * Seeded randomness: pure-rand's Mersenne twister, because its initialisation spreads the seed. The
 * first numbers of its xoroshiro128+ are nearly the same for neighbouring seeds, and seeds are 1, 2, 3.
 */
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { mersenne } from 'pure-rand/generator/mersenne';
import { UsageError } from '@shootdown/machine';

/** Gives integers from 0 to `below - 1`. */
export type Random = (below: number) => number;

/** The same `seed`, an integer, gives the same numbers. @throws UsageError ERR_OPTION */
export function random(seed: number): Random {
  if (!Number.isSafeInteger(seed))
    throw new UsageError('ERR_OPTION', `a seed is an integer, not ${seed}`);
  const generator = mersenne(seed);
  return (below) => (below <= 1 ? 0 : uniformInt(generator, 0, below - 1));
}

/** The benchmark of kernel code runs, small. Nothing is asserted about time. */
import { expect, test } from 'vitest';
import { CPUS, kernelBench } from './kernelBench.ts';

test('every CPU but none too many flushes in each round, and every page faults', async () => {
  const measured = await kernelBench({ flushes: 1024, faults: 1024, runs: 1 });
  // One flush function for each CPU and round; the rounds come to 1024 in all.
  const flushes = CPUS.map((cpus) => cpus * Math.ceil(1024 / cpus));
  // Two rounds of 512 pages, of which the first finds the pages touched already.
  const faults = CPUS.map(() => 1024);
  expect(measured.map(({ amount }) => amount)).toEqual([...flushes, ...faults]);
});

/** The benchmark of validation runs, small. Nothing is asserted about time. */
import { expect, test } from 'vitest';
import { validateBench } from './validateBench.ts';

test('every row goes through all records', async () => {
  const measured = await validateBench({ repeats: 1, runs: 1 });
  const [first] = measured;
  expect(first?.amount).toBeGreaterThan(10_000);
  expect(new Set(measured.map(({ amount }) => amount)).size).toBe(1);
});

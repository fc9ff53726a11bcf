/** The benchmark against trace-cmd runs, small. Nothing is asserted about time. */
import { expect, test } from 'vitest';
import { datBench } from './traceBench.ts';

const TINY = { textMegabytes: 1, datRepeats: 2, runs: 1 };

test('the trace.dat benchmarks read every repetition, and trace-cmd reads the same file', async () => {
  const measured = await datBench(TINY);
  expect(measured.map(({ amount }) => amount)).toEqual([2 * 6908, 2 * 6908, 2 * 6908]);
});

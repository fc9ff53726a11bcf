/** The benchmarks run, small: a benchmark that nobody runs rots. Nothing is asserted about time. */
import { expect, test } from 'vitest';
import { table } from './measure.ts';
import { datBench, type Size, textBench } from './traceBench.ts';

const TINY: Size = { textMegabytes: 1, datRepeats: 2, runs: 1 };

test('the text benchmarks run', async () => {
  const measured = await textBench(TINY);
  expect(measured.map(({ unit }) => unit)).toEqual(['MB', 'MB', 'MB', 'MB', 'MB']);
  expect(table(measured)).toContain('readline');
});

test('the trace.dat benchmarks read every repetition, and trace-cmd reads the same file', async () => {
  const measured = await datBench(TINY);
  expect(measured.map(({ amount }) => amount)).toEqual([2 * 6908, 2 * 6908, 2 * 6908]);
});

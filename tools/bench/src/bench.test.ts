/** The benchmarks run, small: a benchmark that nobody runs rots. Nothing is asserted about time. */
import { expect, test } from 'vitest';
import { table } from './measure.ts';
import { type Size, textBench } from './traceBench.ts';

const TINY: Size = { textMegabytes: 1, datRepeats: 2, runs: 1 };

test('the text benchmarks run', async () => {
  const measured = await textBench(TINY);
  expect(measured.map(({ unit }) => unit)).toEqual(['MB', 'MB', 'MB', 'MB', 'MB']);
  expect(table(measured)).toContain('readline');
});

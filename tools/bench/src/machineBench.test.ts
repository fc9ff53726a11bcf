/** The benchmarks of the machine run, small. Nothing is asserted about time. */
import { expect, test } from 'vitest';
import { machineBenches } from './machineBench.ts';
import { machineBytes } from './machineMemory.ts';
import { table } from './measure.ts';

test('the machine benchmarks do the work they are measured by', async () => {
  const benches = await machineBenches({ ops: 3_000, ipis: 70, broadcasts: 2, runs: 1 });
  const [ops, ipis, queue] = benches;
  expect(ops?.cases.map(({ amount }) => amount)).toEqual(Array.from({ length: 12 }, () => 3_000));
  expect(ipis?.cases.map(({ amount }) => amount)).toEqual([2 * 4095, 4095, 70, 70, 70]);
  expect(queue?.cases.map(({ amount }) => amount)).toEqual([3_000, 3_000, 300, 30]);
  for (const { cases } of benches) expect(table(cases)).toMatch(/ x$/m);
});

test('the memory of a machine grows with its CPUs and not with their square', () => {
  // The first time code is compiled as well.
  machineBytes(512);
  const [few, many] = [machineBytes(512), machineBytes(4096)];
  expect(many / few).toBeGreaterThan(2);
  expect(many / few).toBeLessThan(32);
});

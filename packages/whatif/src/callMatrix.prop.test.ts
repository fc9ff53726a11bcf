import { cpuId } from '@shootdown/machine';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CallMatrix } from './callMatrix.ts';

const cpu = fc.integer({ min: 0, max: 40 }).map(cpuId);

test('every call is in its cell', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(cpu, cpu)), (calls) => {
      const matrix = new CallMatrix();
      const exact = new Map<string, number>();
      for (const [from, to] of calls) {
        matrix.add(from, to);
        exact.set(`${from} ${to}`, (exact.get(`${from} ${to}`) ?? 0) + 1);
      }
      const { group, cells } = matrix.cells();
      expect(group).toBe(1);
      expect(new Map(cells.map((cell) => [`${cell.from} ${cell.to}`, cell.calls]))).toEqual(exact);
    }),
  );
});

test('1024 CPUs that all call each other are handed out in groups, and no call is lost', () => {
  const matrix = new CallMatrix();
  for (let from = 0; from < 1024; from++) {
    for (let to = 0; to < 1024; to++) matrix.add(cpuId(from), cpuId(to));
  }
  const { group, cells } = matrix.cells();
  // 1024 x 1024 cells are four times too many: pairs of CPUs.
  expect(group).toBe(2);
  expect(cells).toHaveLength(512 * 512);
  expect(cells.every((cell) => cell.calls === 4 && cell.from % 2 === 0)).toBe(true);
});

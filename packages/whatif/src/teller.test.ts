import { cpuId } from '@shootdown/machine';
import { expect, test } from 'vitest';
import type { ObservedCall } from './result.ts';
import { Teller } from './teller.ts';

const call = (evidence: 'A' | 'B' | 'C', time: number): ObservedCall => ({
  evidence,
  time,
  from: null,
  to: cpuId(1),
  comm: 'a',
  pid: 1,
  origin: 'munmap',
  func: 'f',
  kind: 'other',
});

test('more weaker calls than are held are all told, in order', () => {
  const told: number[] = [];
  const teller = new Teller(({ time }) => void told.push(time));
  const many = (1 << 17) + 3;
  for (let i = 0; i < many; i++) teller.tell('B', call('B', i));
  teller.tell('C', call('C', -1));
  teller.release();
  expect(told).toHaveLength(many);
  expect(told.every((time, i) => time === i)).toBe(true);
});

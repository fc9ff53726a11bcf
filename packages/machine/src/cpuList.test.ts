import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatCpuList, parseCpuList } from './cpuList.ts';
import { UsageError } from './errors.ts';

// The examples of the kernel's own documentation of cpu lists (admin-guide/kernel-parameters, "cpu
// lists").
test.each([
  [
    '1,2,10-20,100-2000:2/25',
    2001,
    [1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
    [100, 101, 125, 126, 150, 151],
  ],
])('the list %s of the kernel documentation', (list, cpus, first, group) => {
  const parsed = parseCpuList(list, cpus);
  expect(parsed.slice(0, 13)).toEqual(first);
  expect(parsed.slice(13, 19)).toEqual(group);
});

test.each([
  ['6-7,9', null, [6, 7, 9]],
  ['0-31:2/4', 32, [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29]],
  ['all', 4, [0, 1, 2, 3]],
  ['N', 8, [7]],
  ['2-N', 5, [2, 3, 4]],
  [' 3 , 1 ', null, [1, 3]],
  ['3,3,2-3', null, [2, 3]],
])('%s of %s CPUs', (list, cpus, expected) => {
  expect(parseCpuList(list, cpus)).toEqual(expected);
});

test.each([
  '',
  'x',
  '7-6',
  '1-',
  '-1',
  '0-3:0/4',
  '0-3:5/4',
  '1;2',
  '0x3',
  '8192',
  '99999999999999999999',
])("'%s' is refused as a cpu list", (list) => {
  expect(() => parseCpuList(list, null)).toThrowError(
    expect.objectContaining({ code: 'ERR_CPU_LIST' }) as UsageError,
  );
});

test('a CPU that the machine does not have is refused by its number', () => {
  expect(() => parseCpuList('99', 8)).toThrowError('there is no CPU 99 here, the CPUs are 0-7');
});

test('all and N need to know how many CPUs there are', () => {
  for (const list of ['all', 'N'])
    expect(() => parseCpuList(list, null)).toThrowError('need to know how many CPUs');
});

test('formatting and parsing are inverse', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 300 }), { minLength: 1 }), (cpus) => {
      expect(parseCpuList(formatCpuList(cpus), null)).toEqual(cpus.toSorted((a, b) => a - b));
    }),
  );
});

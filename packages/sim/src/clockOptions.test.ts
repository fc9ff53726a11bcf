/** What can be asked of a run: chances of failure, an end, and what makes no sense. */
import { compute, mayFail, nop, type UsageError } from '@shootdown/machine';
import { expect, test } from 'vitest';
import { Clock } from './clock.ts';
import { Story } from './clock.testlib.ts';
import type { ClockOptions } from './clockOptions.ts';

test.each([
  [0, true],
  [1, false],
])('an allocation that fails with chance %d', (chance, well) => {
  const story = new Story();
  const results: boolean[] = [];
  story.on(0, function* () {
    for (let i = 0; i < 50; i++) results.push(yield* mayFail('alloc_cpumask_var'));
  });
  story.run({ failures: { alloc_cpumask_var: chance } });
  expect(new Set(results)).toEqual(new Set([well]));
});

test('an allocation that fails with chance one half fails now and then, by the seed', () => {
  const tried = (seed: number): string => {
    const story = new Story();
    let results = '';
    story.on(0, function* () {
      for (let i = 0; i < 50; i++) results += (yield* mayFail('kmalloc')) ? '+' : '-';
    });
    story.run({ failures: { kmalloc: 0.5 }, seed });
    return results;
  };
  expect(tried(1)).toMatch(/\+.*-|-.*\+/);
  expect(tried(1)).toBe(tried(1));
  expect(tried(1)).not.toBe(tried(2));
});

test.each([
  [5, 1, false],
  [6, 2, false],
  [9, 3, true],
])('a run until %i ns has %i of three Ops', (untilNs, ops, ended) => {
  const story = new Story();
  story.on(0, function* () {
    for (let i = 0; i < 3; i++) yield* nop(); // at 3, 6, 9
  });
  expect(story.run({ untilNs })).toEqual({ timeNs: 3 * ops, ops, interrupts: 0, ended });
});

test.each<[string, ClockOptions]>([
  ['a socket has 1 CPU or more, not 0', { cpusPerSocket: 0 }],
  ['untilNs is a time from 0, not NaN', { untilNs: Number.NaN }],
  ['the chance that kmalloc fails is from 0 to 1, not 2', { failures: { kmalloc: 2 } }],
  ['the plan names move 1, which is none', { plan: [{ atNs: 0, move: 1 }] }],
  ["'preempted' is planned for 0.5 ns", { plan: [{ atNs: 0.5, move: 0 }] }],
  [
    "'preempted' is planned more often than the 1 times it may happen",
    { plan: [1, 2].map((atNs) => ({ atNs, move: 0 })) },
  ],
  ['a seed is an integer', { seed: 0.5 }],
])('it is refused that %s', (message, options) => {
  const { machine } = new Story({
    environment: [{ name: 'preempted', cpu: 0, kind: 'host', times: 1 }],
  });
  expect(() => new Clock(machine, options)).toThrowError(
    expect.objectContaining({
      code: 'ERR_OPTION',
      message: expect.stringContaining(message) as string,
    }) as UsageError,
  );
});

test('a run that passes what the clock can tell apart is refused', () => {
  const story = new Story().on(0, function* () {
    yield* compute(2 ** 40 + 1);
  });
  expect(() => story.run()).toThrowError(/set untilNs below that/);
});

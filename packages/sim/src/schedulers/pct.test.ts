import { atomicUpdate, type Coroutine, Machine, smpMb, type UsageError } from '@shootdown/machine';
import { expect, test } from 'vitest';
import { schedule, type Scheduler } from '../scheduler.ts';
import { pct } from './pct.ts';

/**
 * The order in which three CPUs write their letters, each between some fences. Locked instructions
 * only, so that a CPU is one thread of PCT.
 */
function order(scheduler: Scheduler, texts: readonly string[], fences: number): string {
  const machine = new Machine({ cpus: texts.length });
  const log = machine.cell('log', '');
  function* writes(text: string): Coroutine {
    for (let i = 0; i < fences; i++) yield* smpMb();
    for (const letter of text) yield* atomicUpdate(log, (old) => old + letter);
    for (let i = 0; i < fences; i++) yield* smpMb();
  }
  for (const [id, text] of texts.entries()) machine.run(id, writes(text));
  schedule(machine, scheduler);
  return log.value;
}

const SEEDS = 6000;

/** How often `wanted` comes out of runs of `steps` steps. */
function frequency(
  wanted: string,
  texts: readonly string[],
  fences: number,
  depth: number,
): number {
  const steps = texts.length * 2 * fences + texts.join('').length;
  let found = 0;
  for (let seed = 0; seed < SEEDS; seed++)
    if (order(pct({ seed, depth, steps }), texts, fences) === wanted) found++;
  return found / SEEDS;
}

// Burckhardt et al., ASPLOS 2010: at least 1 / (n k^(d-1)), for n threads, k steps and depth d.
test('PCT finds a bug of depth 2, a write between two others, as often as its bound says', () => {
  const k = 2 * 2 * 5 + 3;
  // Just the bound: the first CPU begins, 1 in 2, and falls behind after its first letter, 1 in k.
  expect(frequency('aba', ['aa', 'b'], 5, 2)).toBeGreaterThan(0.8 / (2 * k));
});

test('PCT finds a bug of depth 4, where the second to fall behind must come back first', () => {
  const k = 5;
  expect(frequency('abcba', ['aa', 'bb', 'c'], 0, 4)).toBeGreaterThan(1 / (3 * k ** 3));
});

test('a bug that needs one change more is not found', () => {
  expect(frequency('aba', ['aa', 'b'], 5, 1)).toBe(0);
});

test.each([
  [0, 10],
  [1.5, 10],
  [3, 0],
])('PCT takes no depth %d with %d steps', (depth, steps) => {
  expect(() => pct({ seed: 1, depth, steps })).toThrowError(
    expect.objectContaining({ code: 'ERR_OPTION' }) as UsageError,
  );
});

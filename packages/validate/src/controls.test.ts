/** Negative controls: each broken rule lowers the score, and the first difference names it. */
import { expect, test } from 'vitest';
import { BROKEN_RULES, brokenBackend } from './broken.testlib.ts';
import { SHIPPED, validateRun } from './recordings.testlib.ts';

test('unbroken, nothing differs', async () => {
  const { differenceCount, scores } = await validateRun(SHIPPED, { kernel: '6.12.117' });
  expect(differenceCount).toBe(0);
  const never = Object.entries(scores).filter(([, { equal }]) => equal === 0);
  // Nothing was collapsed yet where it is cut.
  expect(never.map(([kind]) => kind)).toEqual(['broadcast']);
});

test.each(BROKEN_RULES)('$name: seen as $seenIn', async (rule) => {
  const broken = await validateRun(SHIPPED, { kernel: '6.12.117', backend: brokenBackend(rule) });
  const sound = await validateRun(SHIPPED, { kernel: '6.12.117' });
  const [first] = broken.differences;
  expect(first?.kind).toBe(rule.seenIn);
  const score = broken.scores[rule.seenIn];
  expect(score.different + score.learnedDifferent).toBeGreaterThan(0);
  expect(score.equal).toBeLessThan(sound.scores[rule.seenIn].equal);
});

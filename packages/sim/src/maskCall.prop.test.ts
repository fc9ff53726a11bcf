/** Calls done at once against the same calls step by step, on random worlds (maskCall.testlib.ts). */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { callPlans, runCalls } from './maskCall.testlib.ts';

test('a call that is done at once is the call step by step, byte for byte', () => {
  let done = 0;
  let refused = 0;
  fc.assert(
    fc.property(callPlans, (plan) => {
      const atOnce = runCalls(plan, true);
      expect(atOnce.told).toEqual(runCalls(plan, false).told);
      done += atOnce.done;
      refused += atOnce.refused;
    }),
    { numRuns: 400 },
  );
  // Both really happened.
  expect(done).toBeGreaterThan(200);
  expect(refused).toBeGreaterThan(200);
});

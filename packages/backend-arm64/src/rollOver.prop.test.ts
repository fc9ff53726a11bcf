/** Roll-overs under random programs: with so few ASIDs that there is one every few switches. */
import fc from 'fast-check';
import type { TlbBackend } from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import { arm64 } from './arm64.ts';
import { type Arm64, arm64Of } from './context.ts';
import { complaints, runAtRandom, takingTurns } from './programs.testlib.ts';

/** One more than there are CPUs: as few as can be. */
const ASIDS = 3;

/** A backend whose ASIDs but the first few are always taken, and whose state `change` changes. */
function scarce(change: (state: Arm64) => void = () => {}): TlbBackend {
  const backend = arm64({ features: { asidBits: 8 } });
  return {
    ...backend,
    boot(k, editions) {
      const state = backend.boot(k, editions) as Arm64;
      const { asidMap } = state;
      asidMap.clear = () => {
        for (let asid = 1; asid < 256; asid++)
          if (asid <= ASIDS) asidMap.delete(asid);
          else asidMap.add(asid);
      };
      asidMap.clear();
      change(state);
      return state;
    },
  };
}

const seeds = fc.nat(1_000_000);

test('no mm uses what another left behind, and no flush misses an mm whose ASID changes', () => {
  const sums = { accesses: 0, pages: 0, rollOvers: 0 };
  fc.assert(
    fc.property(takingTurns, seeds, (what, seed) => {
      const ran = runAtRandom(what, seed, { backend: scarce() });
      sums.accesses += ran.seen.accesses;
      sums.pages += ran.seen.pagesFreed;
      sums.rollOvers += arm64Of(ran.k).generation.value - 1;
      expect(complaints(ran)).toEqual([]);
    }),
    { numRuns: 200 },
  );
  expect(Math.min(sums.accesses, sums.pages, sums.rollOvers)).toBeGreaterThan(300);
});

/** Whether some run of `backend` uses a page that is not its own. */
function isFound(backend: TlbBackend): boolean {
  return fc
    .sample(fc.tuple(takingTurns, seeds), { numRuns: 500, seed: 5 })
    .some(([what, seed]) => complaints(runAtRandom(what, seed, { backend })).length > 0);
}

test('without the flush at the first switch of a generation one does', () => {
  const neverPending = scarce(({ cpus }) => {
    for (const cpu of cpus)
      Object.defineProperty(cpu, 'flushPending', { get: () => false, set: () => {} });
  });
  expect(isFound(neverPending)).toBe(true);
});

test('and without reserving what CPUs run', () => {
  const nothingReserved = scarce(({ cpus }) => {
    for (const cpu of cpus) Object.defineProperty(cpu, 'reserved', { get: () => 0, set: () => {} });
  });
  expect(isFound(nothingReserved)).toBe(true);
});

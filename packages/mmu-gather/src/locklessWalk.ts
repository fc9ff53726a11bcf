/**
 * What a walker of page tables without a lock says about itself before it begins and when it has
 * ended. Mainline says nothing: interrupts off is all there is. Series that interrupt only CPUs that
 * walk replace both (series/targetedSync.ts).
 *
 * Who calls: GUP-fast and perf's page-size walk.
 */
import type { Kernel, Kthread } from './kernel.ts';
import type { MmStruct } from './mmStruct.ts';

const NO_STEPS: readonly never[] = [];

/** A walk of `mm` begins; gives what `ptWalkLocklessEnd` is to be given. Mainline: nothing. */
export function* ptWalkLocklessStart(_k: Kernel, _mm: MmStruct): Kthread<MmStruct | null> {
  yield* NO_STEPS;
  return null;
}

/** The walk has ended. Mainline: nothing. */
export function* ptWalkLocklessEnd(_k: Kernel, _before: MmStruct | null): Kthread {}

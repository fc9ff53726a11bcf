/**
 * Invalidations that a CPU broadcasts (INVLPGB, TLBI): each target applies its own copy when it can.
 */
import type { Cpu } from './cpu.ts';
import { assert } from './errors.ts';
import { type Footprint, postedId, storeId } from './footprint.ts';
import type { Machine } from './machine.ts';

/**
 * Whether `cpu` can apply the oldest invalidation that was broadcast to it. Any store that went
 * through a translation holds it up, not only one through what is taken: a buffered store does not
 * know the size of its page.
 */
export function applicable({ axioms }: Machine, { invalidations, buffer }: Cpu): boolean {
  if (invalidations.length === 0) return false;
  return !axioms.applyDrains || !buffer.some(({ translated }) => translated);
}

/** Declares `applicable` and taking the invalidation off the list. */
export function touchApply({ axioms }: Machine, cpu: Cpu, into: Footprint): void {
  const [oldest] = cpu.invalidations;
  assert(oldest !== undefined, 'an invalidation that is applied waits');
  into.write(postedId(oldest.from.id, cpu.id, oldest.ordinal));
  // The drain of the last such store enables it. The next one is an access, which the translation
  // caches are in the footprint of, as they are here.
  if (axioms.applyDrains && cpu.buffer.lastTranslated !== -1)
    into.read(storeId(cpu.id, cpu.buffer.lastTranslated));
}

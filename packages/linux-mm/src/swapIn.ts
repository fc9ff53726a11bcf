/**
 * Bringing a page back from swap.
 *
 * Follows do_swap_page() of mm/memory.c. Not modelled: the swap cache, read-ahead, contents.
 */
import { call, makePte, readWord, writeWord } from '@shootdown/machine';
import {
  allocPages,
  type Kernel,
  type Kthread,
  putPage,
  spinUnlock,
  work,
} from '@shootdown/mmu-gather';
import { lockFault, type VmFault } from './fault.ts';
import type { FaultResult } from './mm.ts';
import { flagsFor } from './pteOf.ts';
import { addRmap } from './rmap.ts';
import { freeSwap } from './swap.ts';

/** @kernel mm/memory.c do_swap_page */
export function* doSwapPage(k: Kernel, vmf: VmFault, seen: number): Kthread<FaultResult> {
  const { vma, address, pte, write } = vmf;
  const page = yield* call(allocPages(k, { gfp: 'GFP_KERNEL', purpose: 'do_swap_page' }));
  if (page === null) return 'oom';
  yield* work('swapIn');
  const lock = yield* call(lockFault(k, vmf));
  const same = lock !== null && (yield* readWord(pte)) === seen;
  if (same) {
    page.anonExclusive = true;
    yield* call(addRmap(page, vma.mm, address));
    yield* writeWord(pte, makePte(page.pfn, flagsFor(vma, write)));
    yield* call(freeSwap(k, seen));
  }
  if (lock !== null) yield* spinUnlock(lock);
  if (!same) yield* call(putPage(k, page));
  return lock === null ? 'retry' : 'done';
}

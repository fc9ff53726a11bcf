/** mm_count: who needs the page tables to exist, beside those who use the address space. */
import { assert, atomicUpdate, call } from '@shootdown/machine';
import type { Kernel, Kthread } from '../kernel.ts';
import type { MmStruct } from '../mmStruct.ts';
import { freePgd } from './pgtable.ts';

/** mmgrab. */
export function* mmgrab(mm: MmStruct | null): Kthread {
  assert(mm !== null, 'a task that runs has an address space, if only a borrowed one');
  yield* atomicUpdate(mm.count, (count) => count + 1);
}

/** mmdrop: the last one frees the root table. By then no CPU has it loaded. */
export function* mmdrop(k: Kernel, mm: MmStruct): Kthread {
  if ((yield* atomicUpdate(mm.count, (count) => count - 1)) === 1) yield* call(freePgd(k, mm));
}

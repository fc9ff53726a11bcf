/**
 * perf's page-size walk: a sample says how large the page is that an address is in. Runs in the NMI
 * of the counter, in the middle of anything, and walks without a lock, interrupts off.
 *
 * Follows perf_get_pgtable_size() of kernel/events/core.c.
 */
import {
  call,
  isLeaf,
  levelSize,
  localIrqRestore,
  localIrqSave,
  Pte,
  pteHas,
  ptePfn,
  readWord,
} from '@shootdown/machine';
import { currentTask, entryOf, isTable, type Kernel, type Kthread } from '@shootdown/mmu-gather';
import type { MmKernel } from './mm.ts';

/**
 * Bytes of the page that maps `addr` for the current task; 0 if none does.
 *
 * @kernel kernel/events/core.c perf_get_page_size
 */
export function* perfGetPageSize(k: MmKernel, addr: number): Kthread<number> {
  const flags = yield* localIrqSave();
  // A kernel thread has no mm: then it is the kernel's.
  const mm = currentTask(k).mm ?? k.initMm;
  const before = yield* call(k.fn.ptWalkLocklessStart(k, mm));
  const size = yield* call(pageSize(k, mm.pgd, addr));
  yield* call(k.fn.ptWalkLocklessEnd(k, before));
  yield* localIrqRestore(flags);
  return size;
}

function* pageSize(k: Kernel, root: number, addr: number): Kthread<number> {
  let table = root;
  for (let level = k.machine.levels as number; level > 0; level--) {
    const entry = yield* readWord(entryOf(table, addr, level));
    if (!pteHas(entry, Pte.present)) return 0;
    if (isLeaf(entry, level)) return levelSize(level);
    if (!isTable(entry, level)) return 0;
    table = ptePfn(entry);
  }
  return 0;
}

/**
 * mbind with MPOL_MF_MOVE: the pages of a range go to one node.
 *
 * Follows mm/mempolicy.c. Not modelled: the policy itself, so pages that are faulted in later come
 * from where pages always come from; MPOL_MF_STRICT; lru_cache_disable(), whose work items run on
 * every CPU; huge pages, which stay; and that since 6.7 mmap_lock is not held while pages move. Here
 * it is held for reading, because nobody may copy or move a migration entry without anon_vma.
 */
import {
  call,
  PAGE_SIZE,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readOnce,
  readWord,
} from '@shootdown/machine';
import {
  allocPages,
  downgradeWrite,
  downWrite,
  entryOf,
  isVmHugetlb,
  type Kernel,
  type Kthread,
  Level,
  type MmStruct,
  type Page,
  pageOf,
  pageToNid,
  spinUnlock,
  upRead,
  upWrite,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { migratePages } from './migrate.ts';
import { Errno } from './mm.ts';
import { pageAlign } from './mmap.ts';
import { pteOffsetMapLock, walkPageRange } from './pagewalk.ts';
import { isMapped, vmasIn } from './vma.ts';
import { isolateLru, putbackLru } from './vmscan.ts';

/** What mbind() is asked to do: the policy, and the flags. */
export const MPOL_BIND: number = 2;
export const MPOL_MF_MOVE: number = 2;

/**
 * mbind(start, length, MPOL_BIND, 1 << node, MPOL_MF_MOVE): 0, also where pages have not moved;
 * -EINVAL for what is no range or no node, -EFAULT where something in it is not mapped.
 *
 * @kernel mm/mempolicy.c do_mbind
 */
export function* doMbindMove(
  k: Kernel,
  mm: MmStruct,
  start: number,
  length: number,
  node: number,
): Kthread<number> {
  const end = start + pageAlign(length);
  if (start < 0 || start % PAGE_SIZE !== 0 || end < start) return Errno.EINVAL;
  if (end === start) return 0;
  if (k.pages.zones[node] === undefined) return Errno.EINVAL;
  yield* downWrite(mm.mmapLock);
  if (!isMapped(mm, start, end)) {
    yield* upWrite(mm.mmapLock);
    return Errno.EFAULT;
  }
  const pages = yield* call(queuePagesRange(k, mm, start, end, node));
  yield* downgradeWrite(mm.mmapLock);
  yield* call(
    migratePages(
      k,
      pages,
      (kernel) => allocPages(kernel, { gfp: 'GFP_KERNEL', purpose: 'mbind', node, thisNode: true }),
      'MIGRATE_SYNC',
    ),
  );
  yield* upRead(mm.mmapLock);
  // putback_movable_pages()
  for (const page of pages) yield* call(putbackLru(k, page));
  return 0;
}

/**
 * Takes the pages of a range that are not on `node` off their lists.
 *
 * @kernel mm/mempolicy.c queue_pages_range
 */
function* queuePagesRange(
  k: Kernel,
  mm: MmStruct,
  start: number,
  end: number,
  node: number,
): Kthread<Page[]> {
  const pages: Page[] = [];
  for (const vma of vmasIn(mm, start, end)) {
    // vma_migratable()
    if (isVmHugetlb(vma) || vma.flags.pfnmap) continue;
    const from = Math.max(start, vma.start);
    const to = Math.min(end, vma.end);
    yield* call(
      walkPageRange(k, mm, from, to, (pmd, first, last) =>
        queueFoliosPteRange(k, pmd, first, last, node, pages),
      ),
    );
  }
  return pages;
}

/** @kernel mm/mempolicy.c queue_folios_pte_range */
function* queueFoliosPteRange(
  k: Kernel,
  pmd: PhysAddr,
  start: number,
  end: number,
  node: number,
  pages: Page[],
): Kthread {
  const locked = yield* call(pteOffsetMapLock(k, pmd));
  if (locked === null) return;
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const pte = yield* readWord(entryOf(locked.table, addr, Level.pte));
    if (!pteHas(pte, Pte.present) || ptePfn(pte) === ZERO_PFN) continue;
    const page = pageOf(k, ptePfn(pte));
    // queue_folio_required(); and migrate_folio_add(): what others map is left alone.
    if (pageToNid(k, page.pfn) === node) continue;
    if ((yield* readOnce(page.mappings)).length > 1) continue;
    if (yield* call(isolateLru(k, page))) pages.push(page);
  }
  yield* spinUnlock(locked.lock);
}

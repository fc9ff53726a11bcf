/**
 * Taking a page out of every page table that maps it, for reclaim and for migration. The entry is
 * cleared under its page-table lock and replaced by one that says where the page is now: in swap, or
 * on its way. Who faults on the first reads it back, who faults on the other waits for the page lock,
 * which the caller holds, with a reference of its own.
 *
 * Follows mm/rmap.c. Not modelled: anon_vma, so the caller keeps mmap_lock, for reading at least, of
 * every mm that maps the page: no table goes, no entry is copied or moved meanwhile. Nor huge pages,
 * pages of files, mlock, pins apart from other references (folio_try_share_anon_rmap_pte), and that a
 * swap or migration entry says whether the page was exclusive: the page itself says so.
 */
import {
  assert,
  call,
  makePte,
  type PhysAddr,
  Pte,
  pteHas,
  ptePfn,
  readOnce,
  readWord,
  writeWord,
} from '@shootdown/machine';
import {
  entryOf,
  findEntry,
  getPage,
  isMigrationPte,
  type Kernel,
  type Kthread,
  Level,
  type Mapping,
  migrationPte,
  type Page,
  ptepGetAndClear,
  putPage,
  type SpinLock,
  spinUnlock,
  swapOffset,
  swapPte,
} from '@shootdown/mmu-gather';
import { ptepClearFlush } from './fault.ts';
import { pteOffsetMapLock } from './pagewalk.ts';
import { clearFlag, setFlag } from './pteOf.ts';
import { addRmap, removeRmap } from './rmap.ts';
import { freeSwap, swapDuplicate } from './swap.ts';
import { setTlbUbcFlushPending, shouldDeferFlush, type TtuFlags } from './tlbUbc.ts';

/** An entry, and the page-table lock that is held for it. */
interface LockedPte {
  readonly pte: PhysAddr;
  readonly lock: SpinLock;
}

/** The entry for `addr` with its lock held; null where there is no table for it. */
function* lockPte(k: Kernel, { mm, addr }: Mapping): Kthread<LockedPte | null> {
  const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
  const locked = pmd === null ? null : yield* call(pteOffsetMapLock(k, pmd));
  if (locked === null) return null;
  return { pte: entryOf(locked.table, addr, Level.pte), lock: locked.lock };
}

/** The entry that maps `page` there, locked; null: it does no longer. */
function* pageVmaMappedWalk(k: Kernel, page: Page, where: Mapping): Kthread<LockedPte | null> {
  const locked = yield* call(lockPte(k, where));
  if (locked === null) return null;
  const entry = yield* readWord(locked.pte);
  if (pteHas(entry, Pte.present) && ptePfn(entry) === page.pfn) return locked;
  yield* spinUnlock(locked.lock);
  return null;
}

/** Clears an entry and flushes it, now or with the batch; gives what was there. */
function* nukePte(
  k: Kernel,
  { mm, addr }: Mapping,
  pte: PhysAddr,
  flags: TtuFlags,
): Kthread<number> {
  if (!(yield* call(shouldDeferFlush(k, mm, flags))))
    return yield* call(ptepClearFlush(k, mm, addr, pte));
  const pteval = yield* call(ptepGetAndClear(k, mm, addr, pte));
  yield* call(setTlbUbcFlushPending(k, mm, pteval, addr));
  return pteval;
}

/** folio_remove_rmap_pte, and the reference that the entry had. */
function* discard(k: Kernel, page: Page, { mm, addr }: Mapping): Kthread {
  yield* call(removeRmap(page, mm, addr));
  yield* call(putPage(k, page));
}

/**
 * Replaces every entry that maps `page`, which has a place in swap, by one that names it. Look at
 * `page.mappings` for whether it went.
 *
 * @kernel mm/rmap.c try_to_unmap
 */
export function* tryToUnmap(k: Kernel, page: Page, flags: TtuFlags): Kthread {
  for (const where of yield* readOnce(page.mappings))
    if (!(yield* call(tryToUnmapOne(k, page, where, flags)))) return;
}

/**
 * False: somebody uses the page otherwise, and the entry is as it was.
 *
 * @kernel mm/rmap.c try_to_unmap_one
 */
export function* tryToUnmapOne(
  k: Kernel,
  page: Page,
  where: Mapping,
  flags: TtuFlags,
): Kthread<boolean> {
  const { swapEntry } = page;
  assert(swapEntry !== null, 'a page gets its place in swap before it is unmapped');
  const locked = yield* call(pageVmaMappedWalk(k, page, where));
  if (locked === null) return true;
  const { pte, lock } = locked;
  const pteval = yield* call(nukePte(k, where, pte, flags));
  yield* call(swapDuplicate(k, swapEntry));
  // The entry was cleared by a locked instruction before the count is read. Pairs with GUP-fast, which
  // takes its reference by one and then reads the entry again: one of the two notices the other.
  if (yield* call(isHeldOtherwise(page))) {
    yield* call(freeSwap(k, swapPte(swapEntry)));
    yield* writeWord(pte, pteval);
    yield* spinUnlock(lock);
    return false;
  }
  yield* writeWord(pte, swapPte(swapEntry));
  yield* call(discard(k, page, where));
  yield* spinUnlock(lock);
  return true;
}

/** Whether anybody has a reference beside the entries that map `page` and the caller. */
export function* isHeldOtherwise(page: Page): Kthread<boolean> {
  const count = yield* readOnce(page.refcount);
  return count !== (yield* readOnce(page.mappings)).length + 1;
}

/** A migration entry that was put somewhere, and the entry that was there before. */
export interface MigrationEntry extends Mapping {
  readonly pteval: number;
}

/**
 * Replaces every entry that maps `page` by a migration entry; gives which.
 *
 * @kernel mm/rmap.c try_to_migrate
 */
export function* tryToMigrate(
  k: Kernel,
  page: Page,
  flags: TtuFlags,
): Kthread<readonly MigrationEntry[]> {
  const entries: MigrationEntry[] = [];
  for (const where of yield* readOnce(page.mappings)) {
    const entry = yield* call(tryToMigrateOne(k, page, where, flags));
    if (entry !== null) entries.push(entry);
  }
  return entries;
}

/**
 * Null: the entry maps the page no longer.
 *
 * @kernel mm/rmap.c try_to_migrate_one
 */
export function* tryToMigrateOne(
  k: Kernel,
  page: Page,
  where: Mapping,
  flags: TtuFlags,
): Kthread<MigrationEntry | null> {
  const locked = yield* call(pageVmaMappedWalk(k, page, where));
  if (locked === null) return null;
  const { pte, lock } = locked;
  const pteval = yield* call(nukePte(k, where, pte, flags));
  yield* writeWord(pte, migrationPte(page.pfn, pteHas(pteval, Pte.write)));
  yield* call(discard(k, page, where));
  yield* spinUnlock(lock);
  return { ...where, pteval };
}

/**
 * Has the entries map `dst`, or `src` again if it did not move.
 *
 * @kernel mm/migrate.c remove_migration_ptes
 */
export function* removeMigrationPtes(
  k: Kernel,
  entries: readonly MigrationEntry[],
  src: Page,
  dst: Page,
): Kthread {
  for (const entry of entries) yield* call(removeMigrationPte(k, entry, src, dst));
}

/** @kernel mm/migrate.c remove_migration_pte */
function* removeMigrationPte(k: Kernel, entry: MigrationEntry, src: Page, dst: Page): Kthread {
  const locked = yield* call(lockPte(k, entry));
  if (locked === null) return;
  const { pte, lock } = locked;
  const now = yield* readWord(pte);
  // Zapped meanwhile: then nothing is to be mapped there.
  if (isMigrationPte(now) && swapOffset(now) === src.pfn) {
    yield* call(getPage(dst));
    yield* call(addRmap(dst, entry.mm, entry.addr));
    yield* writeWord(pte, mappedAgain(dst, entry.pteval, pteHas(now, Pte.write)));
  }
  yield* spinUnlock(lock);
}

/** As the page was mapped, accessed and dirty bits included; writable if the entry still says so. */
const mappedAgain = ({ pfn }: Page, before: number, write: boolean): number =>
  (write ? setFlag : clearFlag)(makePte(pfn, before - makePte(ptePfn(before), 0)), Pte.write);

/** Whether nothing maps `page`: folio_mapped, the other way round. */
export function* isUnmapped(page: Page): Kthread<boolean> {
  return (yield* readOnce(page.mappings)).length === 0;
}

/**
 * Moving pages to other frames, in the phases that it has since 6.3: every page of a batch is
 * unmapped, one flush makes all CPUs forget all of them, and only then are they copied and mapped
 * again. Before the flush a CPU may still write to the old page, so nothing is copied before it.
 *
 * Follows mm/migrate.c. Not modelled: before 6.3 each page has a flush of its own; huge pages, pages
 * of files, writeback, swap-cache pages, memory that is short for other reasons than having no frame
 * left, and the trace events.
 */
import { call, readOnce } from '@shootdown/machine';
import {
  type Kernel,
  type Kthread,
  type Page,
  putPage,
  spinLock,
  spinUnlock,
  work,
} from '@shootdown/mmu-gather';
import { Errno } from './mm.ts';
import { tryToUnmapFlush } from './tlbUbc.ts';
import {
  isHeldOtherwise,
  isUnmapped,
  type MigrationEntry,
  removeMigrationPtes,
  tryToMigrate,
} from './unmap.ts';
import { trylockPage } from './vmscan.ts';

/** Pages of one batch: NR_MAX_BATCHED_MIGRATION. */
const NR_MAX_BATCHED_MIGRATION = 512;
/** How often a batch is tried. */
const NR_MAX_MIGRATE_PAGES_RETRY = 10;
const NR_MAX_MIGRATE_ASYNC_RETRY = 3;
const NR_MAX_MIGRATE_SYNC_RETRY = NR_MAX_MIGRATE_PAGES_RETRY - NR_MAX_MIGRATE_ASYNC_RETRY;

/** enum migrate_mode: whether it may wait for a page lock, and then flushes page by page. */
export type MigrateMode = 'MIGRATE_ASYNC' | 'MIGRATE_SYNC';

/** new_folio_t: a page to move `src` to; null without memory. */
export type NewFolio = (k: Kernel, src: Page) => Kthread<Page | null>;

/** A page that is unmapped and goes to `dst`; both are locked. */
export interface MovingPage {
  readonly src: Page;
  readonly dst: Page;
  /** Where `src` was mapped. */
  readonly entries: readonly MigrationEntry[];
}

/** How a batch went. */
export interface BatchResult {
  /** -ENOMEM; else how many are left. */
  readonly rc: number;
  /** What has not moved: mapped as before, still isolated. */
  readonly left: readonly Page[];
}

/**
 * Moves isolated pages, with mmap_lock, for reading at least, of every mm that maps them; gives how
 * many have not moved, or -ENOMEM. `from` keeps those: the caller puts them back.
 *
 * @kernel mm/migrate.c migrate_pages
 */
export function* migratePages(
  k: Kernel,
  from: Page[],
  getNewFolio: NewFolio,
  mode: MigrateMode,
): Kthread<number> {
  const kept: Page[] = [];
  let failed = 0;
  while (from.length > 0 && failed >= 0) {
    const folios = from.splice(0, NR_MAX_BATCHED_MIGRATION);
    const { rc, left } = yield* call(
      mode === 'MIGRATE_ASYNC'
        ? migratePagesBatch(k, folios, getNewFolio, mode, NR_MAX_MIGRATE_PAGES_RETRY)
        : migratePagesSync(k, folios, getNewFolio),
    );
    k.stats.vmstat.pgmigrate_success += folios.length - left.length;
    kept.push(...left);
    failed = rc < 0 ? rc : failed + rc;
  }
  from.unshift(...kept);
  return failed;
}

/**
 * As a batch first, without waiting; what that leaves, one by one.
 *
 * @kernel mm/migrate.c migrate_pages_sync
 */
function* migratePagesSync(
  k: Kernel,
  from: readonly Page[],
  getNewFolio: NewFolio,
): Kthread<BatchResult> {
  const all = yield* call(
    migratePagesBatch(k, from, getNewFolio, 'MIGRATE_ASYNC', NR_MAX_MIGRATE_ASYNC_RETRY),
  );
  if (all.rc < 0) return all;
  const left: Page[] = [];
  let rest = all.left;
  for (const src of all.left) {
    rest = rest.slice(1);
    const one = yield* call(
      migratePagesBatch(k, [src], getNewFolio, 'MIGRATE_SYNC', NR_MAX_MIGRATE_SYNC_RETRY),
    );
    left.push(...one.left);
    if (one.rc < 0) return { rc: one.rc, left: [...left, ...rest] };
  }
  return { rc: left.length, left };
}

/**
 * One batch: unmap all, flush once, move all.
 *
 * @kernel mm/migrate.c migrate_pages_batch
 */
export function* migratePagesBatch(
  k: Kernel,
  from: readonly Page[],
  getNewFolio: NewFolio,
  mode: MigrateMode,
  passes: number,
): Kthread<BatchResult> {
  const moving: MovingPage[] = [];
  let left = from;
  let rc = 0;
  for (let pass = 0; pass < passes && left.length > 0 && rc === 0; pass++) {
    const again: Page[] = [];
    for (const [at, src] of left.entries()) {
      const result = yield* call(migrateFolioUnmap(k, src, getNewFolio, mode));
      if (typeof result === 'object') moving.push(result);
      else if (result === Errno.EAGAIN) again.push(src);
      else if (result === Errno.ENOMEM) {
        // What is unmapped moves; the rest stays where it is.
        rc = result;
        again.push(...left.slice(at));
        break;
      }
    }
    left = again;
  }
  if (moving.length === 0 && rc < 0) return { rc, left };
  yield* call(tryToUnmapFlush(k));
  let unmoved: readonly MovingPage[] = moving;
  for (let pass = 0; pass < passes && unmoved.length > 0; pass++) {
    const again: MovingPage[] = [];
    for (const one of unmoved)
      if ((yield* call(migrateFolioMove(k, one))) === Errno.EAGAIN) again.push(one);
    unmoved = again;
  }
  for (const { src, dst, entries } of unmoved) {
    yield* call(undoSrc(k, src, entries));
    yield* call(undoDst(k, dst));
  }
  left = [...left, ...unmoved.map(({ src }) => src)];
  return { rc: rc < 0 ? rc : left.length, left };
}

/** migrate_folio_undo_src: the page is mapped again as it was. */
function* undoSrc(k: Kernel, src: Page, entries: readonly MigrationEntry[]): Kthread {
  yield* call(removeMigrationPtes(k, entries, src, src));
  yield* spinUnlock(src.lock);
}

/** migrate_folio_undo_dst: the frame that it would have moved to goes back. */
function* undoDst(k: Kernel, dst: Page): Kthread {
  yield* spinUnlock(dst.lock);
  yield* call(putPage(k, dst));
}

/**
 * Unmaps a page, with a page for it to go to; 0: it was freed meanwhile; -EAGAIN, -ENOMEM: it is
 * mapped as before.
 *
 * @kernel mm/migrate.c migrate_folio_unmap
 */
export function* migrateFolioUnmap(
  k: Kernel,
  src: Page,
  getNewFolio: NewFolio,
  mode: MigrateMode,
): Kthread<MovingPage | number> {
  if ((yield* readOnce(src.refcount)) === 1) {
    // Ours is the only reference left.
    yield* call(putPage(k, src));
    return 0;
  }
  const dst = yield* call(getNewFolio(k, src));
  if (dst === null) return Errno.ENOMEM;
  if (!(yield* call(trylockPage(src)))) {
    if (mode === 'MIGRATE_ASYNC') {
      yield* call(putPage(k, dst));
      return Errno.EAGAIN;
    }
    yield* spinLock(src.lock);
  }
  // Nobody else knows it yet.
  yield* spinLock(dst.lock);
  const entries = yield* call(tryToMigrate(k, src, { batchFlush: mode === 'MIGRATE_ASYNC' }));
  if (yield* call(isUnmapped(src))) return { src, dst, entries };
  yield* call(undoSrc(k, src, entries));
  yield* call(undoDst(k, dst));
  return Errno.EAGAIN;
}

/**
 * Moves an unmapped page, after the flush; 0, or -EAGAIN: nothing has happened, because somebody
 * else has a reference and may use the old page.
 *
 * @kernel mm/migrate.c migrate_folio_move
 */
export function* migrateFolioMove(k: Kernel, { src, dst, entries }: MovingPage): Kthread<number> {
  // __migrate_folio(). With no entry left GUP-fast finds no new reference.
  if (yield* call(isHeldOtherwise(src))) return Errno.EAGAIN;
  yield* work('copyPage');
  // folio_migrate_flags(), and what the kernel has in the migration entry.
  dst.anonExclusive = src.anonExclusive;
  yield* call(removeMigrationPtes(k, entries, src, dst));
  yield* spinUnlock(dst.lock);
  // The entries that map it have references of their own.
  yield* call(putPage(k, dst));
  // Who faulted meanwhile has waited for this lock, and finds the new page.
  yield* spinUnlock(src.lock);
  yield* call(putPage(k, src));
  return 0;
}

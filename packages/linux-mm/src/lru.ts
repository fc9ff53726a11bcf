/**
 * Batches of pages that are new to the LRU lists. A page waits in the batch of the CPU that made it
 * until the batch is full, and the batch has a reference to it meanwhile. So a page that nobody
 * shares any more can look shared, and a write to it is a copy: whoever could reuse it empties the
 * batch of its own CPU and cannot empty another's.
 *
 * Follows mm/swap.c. A kernel has them if it is composed with `lruCaches`. Not modelled: the lists,
 * batches for other moves, pages of files, which fill the same batches.
 */
import { atomicUpdate, call, type Cell } from '@shootdown/machine';
import {
  getPage,
  type Kernel,
  type Kthread,
  type Page,
  putPage,
  smpProcessorId,
} from '@shootdown/mmu-gather';
import type { MmFunctions } from './mm.ts';

/** PAGEVEC_SIZE: pages of a batch; it doubled in 6.9. */
const PAGEVEC_SIZE = 31;
const PAGEVEC_SIZE_6_1 = 15;

type Batch = Cell<readonly Page[]>;

/** lru_add of every CPU. */
const BATCHES = new WeakMap<Kernel, readonly Batch[]>();

function batchesOf(k: Kernel): readonly Batch[] {
  let batches = BATCHES.get(k);
  if (batches === undefined) {
    batches = k.machine.cpus.map(({ id }) => k.machine.cell(`lru_add[${id}]`, NO_PAGES));
    BATCHES.set(k, batches);
  }
  return batches;
}

const NO_PAGES: readonly Page[] = [];

function* drain(k: Kernel, batch: Batch | undefined): Kthread {
  if (batch === undefined) return;
  for (const page of yield* atomicUpdate(batch, () => NO_PAGES)) yield* call(putPage(k, page));
}

/** @kernel mm/swap.c folio_add_lru */
function* folioAddLru(k: Kernel, page: Page): Kthread {
  const batch = batchesOf(k)[smpProcessorId(k)];
  if (batch === undefined || page.order > 0) return;
  yield* call(getPage(page));
  const before = yield* atomicUpdate(batch, (pages) => [...pages, page]);
  const size = k.release.startsWith('6.1.') ? PAGEVEC_SIZE_6_1 : PAGEVEC_SIZE;
  if (before.length + 1 >= size) yield* call(drain(k, batch));
}

/** lru_add_drain: the batch of this CPU. */
const lruAddDrain = (k: Kernel): Kthread => drain(k, batchesOf(k)[smpProcessorId(k)]);

/** lru_add_drain_all. Not modelled: that every CPU empties its own, by a work item. */
function* lruAddDrainAll(k: Kernel): Kthread {
  for (const batch of batchesOf(k)) yield* call(drain(k, batch));
}

/** The batches, to replace `noLruCaches`. */
export const lruCaches: Pick<MmFunctions, 'folioAddLru' | 'lruAddDrain' | 'lruAddDrainAll'> = {
  folioAddLru,
  lruAddDrain,
  lruAddDrainAll,
};

function* nothing(): Kthread {}

/** Pages are on their lists at once. */
export const noLruCaches: typeof lruCaches = {
  folioAddLru: nothing,
  lruAddDrain: nothing,
  lruAddDrainAll: nothing,
};

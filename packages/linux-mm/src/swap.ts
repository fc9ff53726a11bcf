/**
 * Swap: what an entry of a page that was written out says, and how often it is referred to.
 *
 * Not modelled: the swap cache and its lookups without a lock, and contents. A device never fails
 * and is never full.
 */
import { atomicFetchAdd, atomicUpdate, type Cell } from '@shootdown/machine';
import { type Kernel, type Kthread, swapOffset } from '@shootdown/mmu-gather';

interface SwapInfo {
  /** The slot that was given out last. */
  readonly last: Cell<number>;
  /** swap_map: entries that refer to a slot. */
  readonly users: Map<number, Cell<number>>;
}

const SWAP = new WeakMap<Kernel, SwapInfo>();

function swapOf(k: Kernel): SwapInfo {
  let swap = SWAP.get(k);
  if (swap === undefined) {
    swap = { last: k.machine.cell('swap.last', 0), users: new Map() };
    SWAP.set(k, swap);
  }
  return swap;
}

/** folio_alloc_swap: a slot nobody uses. */
export function* allocSwap(k: Kernel): Kthread<number> {
  const swap = swapOf(k);
  const slot = (yield* atomicFetchAdd(swap.last, 1)) + 1;
  swap.users.set(slot, k.machine.cell(`swap_map[${slot}]`, 0));
  return slot;
}

const usersOf = (k: Kernel, slot: number): Cell<number> => {
  const { users } = swapOf(k);
  let cell = users.get(slot);
  if (cell === undefined) {
    cell = k.machine.cell(`swap_map[${slot}]`, 0);
    users.set(slot, cell);
  }
  return cell;
};

/** swap_duplicate: one entry more refers to `slot`. */
export function* swapDuplicate(k: Kernel, slot: number): Kthread {
  yield* atomicUpdate(usersOf(k, slot), (count) => count + 1);
}

/** free_swap_and_cache: the entry `pte` refers to its slot no longer. */
export function* freeSwap(k: Kernel, pte: number): Kthread {
  const slot = swapOffset(pte);
  if ((yield* atomicUpdate(usersOf(k, slot), (count) => count - 1)) === 1)
    swapOf(k).users.delete(slot);
}

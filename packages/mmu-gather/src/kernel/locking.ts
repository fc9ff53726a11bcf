/**
 * Locks. Taking one is a single guarded step, so that no schedule contains spinning.
 *
 * Not modelled: sleeping on a contended lock. A waiter keeps its CPU, with interrupts on, as under
 * optimistic spinning; nor fairness, so a writer may wait for readers that came later.
 */
import {
  atomicUpdate,
  atomicWhen,
  type Cell,
  type Machine,
  type Op,
  smpStoreRelease,
} from '@shootdown/machine';

/** spinlock_t: whether it is held. */
export type SpinLock = Cell<boolean>;

/** DEFINE_SPINLOCK. */
export const newSpinLock = (machine: Machine, name: string): SpinLock => machine.cell(name, false);

const isFree = (held: boolean): boolean => !held;
const held = (): boolean => true;

/** spin_lock: an acquire, and on x86 a locked instruction. */
export const spinLock = (lock: SpinLock): Op<boolean> => atomicWhen(lock, isFree, held);

/** spin_unlock: a release. */
export const spinUnlock = (lock: SpinLock): Op<void> => smpStoreRelease(lock, false);

/** struct rw_semaphore: how many readers hold it, or `WRITER`. */
export type RwSem = Cell<number>;

const WRITER = -1;

/** init_rwsem. */
export const newRwSem = (machine: Machine, name: string): RwSem => machine.cell(name, 0);

/** down_read. */
export const downRead = (sem: RwSem): Op<number> =>
  atomicWhen(
    sem,
    (holders) => holders !== WRITER,
    (holders) => holders + 1,
  );

/** up_read. */
export const upRead = (sem: RwSem): Op<number> => atomicUpdate(sem, (holders) => holders - 1);

/** down_write. */
export const downWrite = (sem: RwSem): Op<number> =>
  atomicWhen(
    sem,
    (holders) => holders === 0,
    () => WRITER,
  );

/** up_write. */
export const upWrite = (sem: RwSem): Op<void> => smpStoreRelease(sem, 0);

/** downgrade_write: readers may enter, writers may not yet. */
export const downgradeWrite = (sem: RwSem): Op<void> => smpStoreRelease(sem, 1);

/** Whether anybody holds it for writing: for assertions only. */
export const isWriteLocked = (sem: RwSem): boolean => sem.value === WRITER;

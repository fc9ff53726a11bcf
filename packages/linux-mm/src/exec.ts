/**
 * exec: a task exchanges its address space for a fresh one.
 *
 * Follows exec_mmap() of fs/exec.c. Not modelled: what is in the new one, and the flushes of moving
 * its stack to where it stays.
 */
import { assert, call, localIrqDisable, localIrqEnable } from '@shootdown/machine';
import {
  currentTask,
  downRead,
  type Kernel,
  type Kthread,
  mmdrop,
  type MmStruct,
  smpProcessorId,
  upRead,
} from '@shootdown/mmu-gather';
import { mmput } from './exit.ts';

/**
 * The running task goes on in `mm`, which is new. Nobody sees the CPU without the one or the other:
 * from task.mm to the switch interrupts are off.
 *
 * @kernel fs/exec.c exec_mmap
 */
export function* execMmap(k: Kernel, mm: MmStruct): Kthread {
  const task = currentTask(k);
  const { mm: old, activeMm } = task;
  assert(activeMm !== null, 'a task that runs has an address space, if only a borrowed one');
  if (old !== null) yield* downRead(old.mmapLock);
  yield* localIrqDisable();
  task.activeMm = mm;
  task.mm = mm;
  // activate_mm()
  yield* call(k.backend.switchMm(k, smpProcessorId(k), mm));
  yield* localIrqEnable();
  if (old === null) return yield* call(mmdrop(k, activeMm));
  yield* upRead(old.mmapLock);
  yield* call(mmput(k, old));
}

/**
 * exit: a thread leaves its address space, and the last one tears it down.
 *
 * Follows kernel/exit.c and exit_mmap() of mm/mmap.c.
 */
import { assert, atomicUpdate, call, localIrqDisable, localIrqEnable } from '@shootdown/machine';
import {
  currentTask,
  downRead,
  downWrite,
  type Kernel,
  type Kthread,
  mmdrop,
  mmgrab,
  type MmStruct,
  prepareToSleep,
  rcuBarrier,
  schedule,
  smpProcessorId,
  tlbGatherMmuFullmm,
  upRead,
  upWrite,
} from '@shootdown/mmu-gather';
import { freePgtables } from './freePgtables.ts';
import { unlinkVmas } from './vmaChanges.ts';
import { unmapVmas } from './zap.ts';

/** @kernel kernel/exit.c do_exit */
export function* doExit(k: Kernel): Kthread<never> {
  const task = currentTask(k);
  task.inKernel = true;
  task.syscall = 'exit';
  yield* call(exitMm(k));
  yield* call(rcuBarrier(k));
  yield* call(prepareToSleep(k));
  yield* call(schedule(k));
  assert(false, 'who has exited is never woken');
}

/**
 * The address space is borrowed from here on, as by a kernel thread: so the flush that tears it down
 * finds this CPU lazy.
 *
 * @kernel kernel/exit.c exit_mm
 */
export function* exitMm(k: Kernel): Kthread {
  const task = currentTask(k);
  const { mm } = task;
  if (mm === null) return;
  yield* downRead(mm.mmapLock);
  yield* call(mmgrab(mm));
  yield* localIrqDisable();
  task.mm = null;
  yield* call(k.backend.enterLazyTlb(k, smpProcessorId(k)));
  yield* localIrqEnable();
  yield* upRead(mm.mmapLock);
  yield* call(mmput(k, mm));
}

/** mmput: the last user tears the address space down. */
export function* mmput(k: Kernel, mm: MmStruct): Kthread {
  if ((yield* atomicUpdate(mm.users, (users) => users - 1)) !== 1) return;
  yield* call(exitMmap(k, mm));
  yield* call(mmdrop(k, mm));
}

/** @kernel mm/mmap.c exit_mmap */
export function* exitMmap(k: Kernel, mm: MmStruct): Kthread {
  const gone = [...mm.vmas];
  yield* downRead(mm.mmapLock);
  const tlb = yield* call(tlbGatherMmuFullmm(k, mm));
  yield* call(unmapVmas(k, tlb, gone, 0, Infinity));
  yield* upRead(mm.mmapLock);
  yield* downWrite(mm.mmapLock);
  yield* call(freePgtables(k, tlb, gone, { floor: 0, ceiling: Infinity }));
  yield* call(k.fn.tlbFinishMmu(k, tlb));
  yield* call(unlinkVmas(mm, gone));
  yield* upWrite(mm.mmapLock);
}

/**
 * In and out of the kernel: system calls and what happens on the way back to user mode.
 */
import { call, localIrqDisable, localIrqEnable } from '@shootdown/machine';
import {
  currentTask,
  type Kernel,
  type Kthread,
  rcuCore,
  schedule,
  smpProcessorId,
  thisCpu,
  traceSysEnter,
  traceSysExit,
  work,
} from '@shootdown/mmu-gather';

/** One system call: its name, and its arguments by name as a recording shows them. */
export interface Syscall {
  readonly name: string;
  readonly args: Readonly<Record<string, number>>;
}

/** Runs `body` as a system call of the current task; gives what it returns. */
export function* systemCall(
  k: Kernel,
  { name, args }: Syscall,
  body: () => Kthread<number>,
): Kthread<number> {
  yield* call(enterFromUserMode(k));
  const task = currentTask(k);
  task.syscall = name;
  traceSysEnter(k, name, Object.keys(args), Object.values(args));
  yield* work('syscall');
  const result = yield* call(body());
  traceSysExit(k, name, result);
  task.syscall = null;
  yield* call(exitToUserMode(k));
  return result;
}

/** From here on an interrupt does not take the CPU away. */
export function* enterFromUserMode(k: Kernel): Kthread {
  const { enterFromUserMode: own } = k.backend;
  // An interrupt before that finds user mode, and switches page tables itself.
  if (own !== undefined) yield* call(own(k, smpProcessorId(k)));
  currentTask(k).inKernel = true;
}

/** exit_to_user_mode_loop: what has come up meanwhile is done before user code goes on. */
export function* exitToUserMode(k: Kernel): Kthread {
  yield* call(rcuCore(k));
  const { exitToUserMode: own } = k.backend;
  if (own === undefined) {
    while (thisCpu(k).needResched) yield* call(schedule(k));
    // No step in between: an interrupt from here on finds user mode.
    currentTask(k).inKernel = false;
    return;
  }
  yield* localIrqDisable();
  while (thisCpu(k).needResched) {
    yield* localIrqEnable();
    yield* call(schedule(k));
    yield* localIrqDisable();
  }
  yield* call(own(k, smpProcessorId(k)));
  currentTask(k).inKernel = false;
  yield* localIrqEnable();
}

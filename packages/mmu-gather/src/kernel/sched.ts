/**
 * Tasks, and what decides which of them a CPU runs: as much of kernel/sched/core.c as decides what a
 * CPU has loaded. A CPU without a task idles with the last address space borrowed: lazy TLB.
 *
 * Not modelled: time slices, priorities, load balancing, preemption of the kernel itself. Whoever is
 * woken takes the CPU from a task that is in user mode, and waits for one that is in the kernel.
 */
import {
  atomicUpdate,
  call,
  type CpuId,
  cpuId,
  localIrqDisable,
  localIrqEnable,
  localIrqRestore,
  localIrqSave,
  armTimer,
  newTask,
  sendIpi,
  CpuMask,
  switchTo,
  type Task,
} from '@shootdown/machine';
import type { Kernel, Kthread } from '../kernel.ts';
import type { MmStruct } from '../mmStruct.ts';
import type { TlbBatch } from '../tlb.ts';
import { mmdrop, mmgrab } from './mmCount.ts';
import {
  currentTask,
  type PerCpu,
  perCpu,
  type RunQueue,
  smpProcessorId,
  thisCpu,
} from './percpu.ts';
import { traceSchedSwitch } from './trace.ts';

/** RESCHEDULE_VECTOR. */
export const RESCHEDULE_VECTOR = 253;
/** LOCAL_TIMER_VECTOR. */
export const LOCAL_TIMER_VECTOR = 236;

/** struct task_struct. */
export interface TaskStruct {
  readonly pid: number;
  readonly tgid: number;
  readonly comm: string;
  /** Null: a kernel thread, or a task that is exiting. */
  mm: MmStruct | null;
  /** What it runs on, also when that is borrowed; null while a kernel thread is switched out. */
  activeMm: MmStruct | null;
  /** Its CPU: every task is pinned. */
  cpu: CpuId;
  /** Its stack; null before it has ever run on an idle CPU. */
  thread: Task | null;
  /** In the kernel on its own behalf: an interrupt does not take the CPU from it. */
  inKernel: boolean;
  /** The system call it is in, or null. */
  syscall: string | null;
  /** tlb_ubc: flushes that its unmapping has put off. */
  tlbUbc: (TlbBatch & { flushRequired: boolean; writable: boolean }) | null;
}

/** What to start. */
export interface NewTask {
  readonly comm: string;
  readonly mm: MmStruct | null;
  readonly cpu: number;
  /** The process, if it is a thread of one. */
  readonly tgid?: number | undefined;
  /** What it runs; entered with interrupts on, in the kernel. */
  readonly body: (task: TaskStruct) => Kthread<unknown>;
}

/** copy_process, without anything that another CPU could see. */
export function newTaskStruct(k: Kernel, { comm, mm, cpu, tgid, body }: NewTask): TaskStruct {
  const pid = k.ids.pid++;
  const task: TaskStruct = {
    pid,
    tgid: tgid ?? pid,
    comm,
    mm,
    activeMm: mm,
    cpu: cpuId(cpu),
    thread: null,
    inKernel: true,
    syscall: null,
    tlbUbc: null,
  };
  task.thread = newTask(comm, task, scheduleTail(k, task, body));
  return task;
}

function* scheduleTail(
  k: Kernel,
  task: TaskStruct,
  body: (task: TaskStruct) => Kthread<unknown>,
): Kthread {
  yield* call(finishTaskSwitch(k));
  yield* localIrqEnable();
  yield* call(body(task));
}

/** wake_up_new_task: puts a new task on its CPU's queue. Before any CPU runs: without a step. */
export function enqueueBeforeStart(k: Kernel, task: TaskStruct): void {
  const { rq } = perCpu(k, task.cpu);
  rq.value = { ...rq.value, queue: [...rq.value.queue, task] };
}

/** Has every CPU with something to run do so. Call it once, before a driver runs the machine. */
export function startCpus(k: Kernel): void {
  for (const { id, rq, idle } of k.percpu)
    if (rq.value.queue.length > 0) k.machine.run(id, schedule(k), idle.comm, idle);
}

/** The queue after `curr` has given the CPU up. */
function pickNext({ curr, currSleeps, queue }: RunQueue, idle: TaskStruct): RunQueue {
  const ready = currSleeps || curr === idle ? queue : [...queue, curr];
  const [next = idle, ...rest] = ready;
  return { curr: next, currSleeps: false, queue: rest };
}

/**
 * schedule: gives the CPU to the next task, which may be the same.
 *
 * @kernel kernel/sched/core.c __schedule
 */
export function* schedule(k: Kernel): Kthread {
  const flags = yield* localIrqSave();
  const cpu = thisCpu(k);
  cpu.needResched = false;
  const before = yield* atomicUpdate(cpu.rq, (rq) => pickNext(rq, cpu.idle));
  const next = pickNext(before, cpu.idle).curr;
  if (next !== before.curr) yield* call(contextSwitch(k, cpu, before.curr, next));
  yield* localIrqRestore(flags);
}

/**
 * A kernel thread or idle CPU keeps the address space that is loaded; a user task loads its own.
 *
 * @kernel kernel/sched/core.c context_switch
 */
function* contextSwitch(k: Kernel, cpu: PerCpu, prev: TaskStruct, next: TaskStruct): Kthread {
  traceSchedSwitch(k, prev, next);
  if (next.mm === null) {
    yield* call(k.backend.enterLazyTlb(k, cpu.id));
    next.activeMm = prev.activeMm;
    if (prev.mm !== null) yield* call(mmgrab(prev.activeMm));
    else prev.activeMm = null;
  } else {
    yield* call(k.backend.switchMm(k, cpu.id, next.mm));
    // A borrowed mm is given back once nothing runs on it any more: finishTaskSwitch().
    if (prev.mm === null) {
      cpu.prevMm = prev.activeMm;
      prev.activeMm = null;
    }
  }
  cpu.current = next;
  prev.thread = cpu.hardware.task;
  yield* switchTo(next.thread ?? cpu.hardware.idle);
  yield* call(finishTaskSwitch(k));
}

/** @kernel kernel/sched/core.c finish_task_switch */
function* finishTaskSwitch(k: Kernel): Kthread {
  // Where the task runs again may be another CPU than the one it left.
  const cpu = thisCpu(k);
  const mm = cpu.prevMm;
  cpu.prevMm = null;
  if (mm !== null) yield* call(mmdrop(k, mm));
  const { migrating } = cpu;
  cpu.migrating = null;
  if (migrating !== null) yield* call(wakeUp(k, migrating));
}

/** set_current_state(TASK_UNINTERRUPTIBLE): from here on a wake-up is not lost. */
export function* prepareToSleep(k: Kernel): Kthread {
  yield* atomicUpdate(thisCpu(k).rq, (rq) => ({ ...rq, currSleeps: true }));
}

/** Takes that back. */
export function* finishWait(k: Kernel): Kthread {
  yield* atomicUpdate(thisCpu(k).rq, (rq) => (rq.currSleeps ? { ...rq, currSleeps: false } : rq));
}

function woken(rq: RunQueue, task: TaskStruct): RunQueue {
  if (rq.curr === task) return rq.currSleeps ? { ...rq, currSleeps: false } : rq;
  return rq.queue.includes(task) ? rq : { ...rq, queue: [...rq.queue, task] };
}

/**
 * try_to_wake_up: queues `task` on its CPU and has that look at its queue.
 *
 * Not modelled: ttwu_queue, which hands the task over by a function call of its own.
 */
export function* wakeUp(k: Kernel, task: TaskStruct): Kthread {
  const cpu = perCpu(k, task.cpu);
  const before = yield* atomicUpdate(cpu.rq, (rq) => woken(rq, task));
  if (before.curr === task || before.queue.includes(task)) return;
  if (task.cpu === smpProcessorId(k)) cpu.needResched = true;
  else yield* sendIpi(new CpuMask(k.machine.count, [task.cpu]), RESCHEDULE_VECTOR);
}

/** sched_yield. */
export function* schedYield(k: Kernel): Kthread {
  yield* call(schedule(k));
}

/** Sleeps for `ns`: hrtimer_nanosleep. */
export function* sleep(k: Kernel, ns: number): Kthread {
  const cpu = thisCpu(k);
  const task = cpu.current;
  yield* call(prepareToSleep(k));
  const sleeper = { atNs: k.machine.time + ns, task };
  cpu.sleepers = [...cpu.sleepers, sleeper].toSorted((a, b) => a.atNs - b.atNs);
  yield* armTimer(LOCAL_TIMER_VECTOR, ns);
  yield* call(schedule(k));
}

/** Moves the running task to CPU `to`: sched_setaffinity. The stopper thread is not modelled. */
export function* moveTo(k: Kernel, to: number): Kthread {
  const task = currentTask(k);
  if (task.cpu === to) return;
  yield* localIrqDisable();
  // Off this CPU first, and queued on the other when its stack is free: finishTaskSwitch().
  yield* call(prepareToSleep(k));
  thisCpu(k).migrating = task;
  task.cpu = cpuId(to);
  yield* call(schedule(k));
  yield* localIrqEnable();
}

/** Vectors whose handlers are the scheduler's. */
export function installSchedVectors(k: Kernel): void {
  k.machine.onInterrupt(RESCHEDULE_VECTOR, () => rescheduleInterrupt(k));
  k.machine.onInterrupt(LOCAL_TIMER_VECTOR, () => timerInterrupt(k));
}

function* rescheduleInterrupt(k: Kernel): Kthread {
  yield* call(irqEnter(k));
  thisCpu(k).needResched = true;
  yield* call(irqExit(k));
}

/** hrtimer_interrupt: wakes whose time has come, and arms the timer for the next. */
function* timerInterrupt(k: Kernel): Kthread {
  yield* call(irqEnter(k));
  const cpu = thisCpu(k);
  const now = k.machine.time;
  const due = cpu.sleepers.filter(({ atNs }) => atNs <= now);
  cpu.sleepers = cpu.sleepers.filter(({ atNs }) => atNs > now);
  for (const { task } of due) yield* call(wakeUp(k, task));
  const [next] = cpu.sleepers;
  if (next !== undefined) yield* armTimer(LOCAL_TIMER_VECTOR, next.atNs - now);
  yield* call(irqExit(k));
}

const fromUserMode = ({ current }: PerCpu): boolean => !current.inKernel && current.mm !== null;

/** irqentry_enter */
export function* irqEnter(k: Kernel): Kthread {
  const { enterFromUserMode } = k.backend;
  if (enterFromUserMode === undefined) return;
  const cpu = thisCpu(k);
  if (fromUserMode(cpu)) yield* call(enterFromUserMode(k, cpu.id));
}

/** irqentry_exit: a task in user mode, or an idle CPU, gives way; kernel code goes on. */
export function* irqExit(k: Kernel): Kthread {
  const cpu = thisCpu(k);
  if (cpu.needResched && !cpu.current.inKernel) yield* call(schedule(k));
  const { exitToUserMode } = k.backend;
  if (exitToUserMode === undefined) return;
  // A task that has slept here may go on elsewhere.
  const now = thisCpu(k);
  if (fromUserMode(now)) yield* call(exitToUserMode(k, now.id));
}

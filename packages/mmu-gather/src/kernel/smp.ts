/**
 * Having other CPUs run a function. How a call reaches its target, and when calls share an
 * interrupt, is the machine's (csd.ts there); here is which CPUs are called, that the caller does
 * its own part while the others are on their way (since 5.13), and what is traced when.
 */
import {
  call,
  type CallFunction,
  type CallTrace,
  CallQueues,
  Cell,
  type CpuId,
  CpuMask,
  localIrqRestore,
  localIrqSave,
  type Machine,
  readMask,
} from '@shootdown/machine';
import type { Kernel, Kthread } from '../kernel.ts';
import { smpProcessorId } from './percpu.ts';
import { irqEnter, irqExit } from './sched.ts';
import { countIpis } from './stats.ts';
import { traceCsdFunction, traceCsdQueueCpu, traceIpiSend, traceVector } from './trace.ts';

/** CALL_FUNCTION_SINGLE_VECTOR and CALL_FUNCTION_VECTOR: one CPU, and several at once. */
export const CALL_VECTORS = { single: 251, many: 252 } as const;

/** Whether a CPU is to be called; asked just before it would be queued. */
export type SmpCondition<Info> = (target: CpuId, info: Info) => Kthread<boolean>;

/** How to call. */
export interface SmpCallOptions<Info> {
  /** SCF_WAIT: go on when all have run it. */
  readonly wait: boolean;
  /** SCF_RUN_LOCAL: the caller runs it too, if it is in the mask. */
  readonly runLocal: boolean;
  readonly condition: SmpCondition<Info> | null;
}

/** A struct cpumask that is handed down by its address, or one of the caller's own. */
export type CpuMaskPtr = Cell<CpuMask> | CpuMask;

/**
 * Calls every CPU of `mask` but this one of which the condition holds, runs the local part while
 * they come, and waits. Interrupts are on: two CPUs that wait for each other have to be reachable.
 *
 * @kernel kernel/smp.c smp_call_function_many_cond
 */
export function* smpCallFunctionManyCond<Info>(
  k: Kernel,
  cpumask: CpuMaskPtr,
  func: CallFunction<Info>,
  info: Info,
  { wait, runLocal, condition }: SmpCallOptions<Info>,
): Kthread {
  const self = smpProcessorId(k);
  // Only here it becomes a copy: CPUs have joined and left since the caller looked at it.
  const mask = cpumask instanceof Cell ? yield* readMask(cpumask) : cpumask;
  const local = runLocal && mask.has(self);
  // At once, where a driver can; not if the handler has page tables to switch on its way.
  const plain = condition === null && k.backend.enterFromUserMode === undefined;
  if (wait && !local && plain) {
    yield* call(k.calls.callAndWait(mask, func, info));
    return;
  }
  // The set that is waited for: the mask may change while they run.
  const called = yield* call(k.calls.post(mask, func, info, wait, condition));
  if (local && (condition === null || (yield* call(condition(self, info))))) {
    const flags = yield* localIrqSave();
    traceCsdFunction(k, 'entry', func.name, null);
    yield* call(func.run(info));
    traceCsdFunction(k, 'exit', func.name, null);
    yield* localIrqRestore(flags);
  }
  if (wait) yield* call(k.calls.awaitCalls(called));
}

/** on_each_cpu_cond_mask: this CPU included. */
export const onEachCpuCondMask = <Info>(
  k: Kernel,
  mask: CpuMaskPtr,
  func: CallFunction<Info>,
  info: Info,
  condition: SmpCondition<Info> | null,
): Kthread =>
  smpCallFunctionManyCond(k, mask, func, info, { wait: true, runLocal: true, condition });

/** on_each_cpu: everybody online. */
export const onEachCpu = <Info>(k: Kernel, func: CallFunction<Info>, info: Info): Kthread =>
  onEachCpuCondMask(k, cpuOnlineMask(k), func, info, null);

/** smp_call_function: everybody online but this CPU, and waits. */
export const smpCallFunction = <Info>(k: Kernel, func: CallFunction<Info>, info: Info): Kthread =>
  smpCallFunctionManyCond(k, cpuOnlineMask(k), func, info, {
    wait: true,
    runLocal: false,
    condition: null,
  });

const ONLINE = new WeakMap<Machine, CpuMask>();

/** cpu_online_mask: all of them. Not modelled: hotplug. */
export function cpuOnlineMask({ machine }: Kernel): CpuMask {
  let mask = ONLINE.get(machine);
  if (mask === undefined) {
    mask = new CpuMask(
      machine.count,
      machine.cpus.map(({ id }) => id),
    );
    ONLINE.set(machine, mask);
  }
  return mask;
}

/** The call queues of a kernel, with its tracepoints and counters. */
export function newCallQueues(machine: Machine, kernel: () => Kernel): CallQueues {
  const count: CallTrace = { sent: (targets, _vector, run) => countIpis(kernel(), targets, run) };
  return new CallQueues(machine, CALL_VECTORS, machine.recording ? traced(kernel, count) : count);
}

const irqName = (vector: number): string =>
  vector === CALL_VECTORS.single ? 'call_function_single' : 'call_function';

const traced = (kernel: () => Kernel, count: CallTrace): CallTrace => ({
  queued: (csd) => traceCsdQueueCpu(kernel(), csd),
  sent: (targets, vector, run) => {
    count.sent?.(targets, vector, run);
    traceIpiSend(kernel(), targets, run.name);
  },
  interruptEntered: (vector) => traceVector(kernel(), 'entry', irqName(vector), vector),
  interruptLeft: (vector) => traceVector(kernel(), 'exit', irqName(vector), vector),
  entered: (csd) => traceCsdFunction(kernel(), 'entry', csd.run?.name ?? '', csd),
  left: (csd) => traceCsdFunction(kernel(), 'exit', csd.run?.name ?? '', csd),
});

/** Puts the scheduler behind the call-function interrupts: a handler may have woken somebody. */
export function installCallVectors(k: Kernel): void {
  for (const vector of [CALL_VECTORS.single, CALL_VECTORS.many])
    k.machine.onInterrupt(vector, () => callInterrupt(k, vector));
}

function* callInterrupt(k: Kernel, vector: number): Kthread {
  yield* call(irqEnter(k));
  yield* call(k.calls.interrupt(vector));
  yield* call(irqExit(k));
}

/**
 * The kernel's tracepoints that are modelled, in the shapes in which a recording of them is read.
 * Where nobody records they cost a test.
 */
import { type Csd, type CpuId, type CpuMask, virtAddr, type VirtAddr } from '@shootdown/machine';
import type {
  CsdFunction,
  CsdQueueCpu,
  IpiSend,
  IrqVector,
  OtherEvent,
  PageFault,
  RecordedEvent,
  SchedSwitch,
  SysEnter,
  SysExit,
  TlbFlush,
} from '@shootdown/trace';
import type { Kernel } from '../kernel.ts';
import type { TaskStruct } from './sched.ts';

/** enum tlb_flush_reason. */
export const TlbReason = {
  TLB_FLUSH_ON_TASK_SWITCH: 0,
  TLB_REMOTE_SHOOTDOWN: 1,
  TLB_LOCAL_SHOOTDOWN: 2,
  TLB_LOCAL_MM_SHOOTDOWN: 3,
  TLB_REMOTE_SEND_IPI: 4,
  TLB_REMOTE_WRONG_CPU: 5,
} as const;

/** What `pages` says of a flush of everything. */
const ALL = -1;

const emit = (k: Kernel, event: RecordedEvent): void => k.machine.emit(event);

/** trace_tlb_flush; `pages` is Infinity for TLB_FLUSH_ALL. */
export function traceTlbFlush(k: Kernel, reason: number, pages: number): void {
  const shown = pages === Infinity ? ALL : pages;
  k.stats.flush(reason, shown);
  if (k.machine.recording)
    emit(k, { kind: 'tlb_flush', name: 'tlb_flush', pages: shown, reason } satisfies TlbFlush);
}

/** trace_sched_switch. */
export function traceSchedSwitch(k: Kernel, prev: TaskStruct, next: TaskStruct): void {
  if (!k.machine.recording) return;
  emit(k, {
    kind: 'sched_switch',
    name: 'sched_switch',
    prevPid: prev.pid,
    prevComm: prev.comm,
    nextPid: next.pid,
    nextComm: next.comm,
  } satisfies SchedSwitch);
}

/** Where a csd is, for records: its number stands for its address. */
const CSD_BASE = 2 ** 40;
const CSD_BYTES = 32;

const csdAddress = (k: Kernel, { from, to }: Csd): VirtAddr =>
  virtAddr(CSD_BASE + (from * k.machine.count + to) * CSD_BYTES);

/** trace_csd_queue_cpu. */
export function traceCsdQueueCpu(k: Kernel, csd: Csd): void {
  const func = csd.run?.name ?? '';
  emit(k, {
    kind: 'csd_queue_cpu',
    name: 'csd_queue_cpu',
    target: csd.to,
    callsite: callsite(func),
    func,
    csd: csdAddress(k, csd),
  } satisfies CsdQueueCpu);
}

/** trace_csd_function_entry and _exit; without a csd the caller runs it itself. */
export function traceCsdFunction(
  k: Kernel,
  which: 'entry' | 'exit',
  func: string,
  csd: Csd | null,
): void {
  if (!k.machine.recording) return;
  const name = `csd_function_${which}` as const;
  const at = csd === null ? virtAddr(0) : csdAddress(k, csd);
  emit(k, { kind: name, name, func, csd: at } satisfies CsdFunction);
}

/** trace_ipi_send_cpu or _cpumask: the kernel knows which by how many. */
export function traceIpiSend(k: Kernel, targets: CpuMask, func: string): void {
  const cpus: readonly CpuId[] = targets.members();
  emit(k, {
    kind: 'ipi_send',
    name: cpus.length === 1 ? 'ipi_send_cpu' : 'ipi_send_cpumask',
    targets: cpus,
    callsite: callsite(func),
    callback: 'generic_smp_call_function_single_interrupt',
  } satisfies IpiSend);
}

/** Who calls smp_call_function_many_cond() for which function: both are inlined into their callers. */
const callsite = (func: string): string =>
  func === 'tlb_remove_table_smp_sync' ? 'smp_call_function' : 'on_each_cpu_cond_mask';

/** trace_call_function_single_entry and its like. */
export function traceVector(k: Kernel, which: 'entry' | 'exit', irq: string, vector: number): void {
  if (!k.machine.recording) return;
  emit(k, { kind: `vector_${which}`, name: `${irq}_${which}`, irq, vector } satisfies IrqVector);
}

/** trace_sys_enter of one system call. */
export function traceSysEnter(
  k: Kernel,
  syscall: string,
  args: readonly string[],
  values: readonly number[],
): void {
  if (!k.machine.recording) return;
  emit(k, {
    kind: 'sys_enter',
    name: `sys_enter_${syscall}`,
    syscall,
    args,
    values,
  } satisfies SysEnter);
}

/** trace_sys_exit of one system call. */
export function traceSysExit(k: Kernel, syscall: string, ret: number): void {
  if (!k.machine.recording) return;
  emit(k, { kind: 'sys_exit', name: `sys_exit_${syscall}`, syscall, ret } satisfies SysExit);
}

/** trace_page_fault_user. */
export function tracePageFault(k: Kernel, address: number, errorCode: number): void {
  if (!k.machine.recording) return;
  emit(k, {
    kind: 'page_fault',
    name: 'page_fault_user',
    address: virtAddr(address),
    errorCode,
  } satisfies PageFault);
}

/** A write to trace_marker. */
export function traceMarker(k: Kernel, text: string): void {
  if (!k.machine.recording) return;
  const payload = { text: () => text };
  emit(k, { kind: 'other', name: 'tracing_mark_write', payload } satisfies OtherEvent);
}

/**
 * The shapes of recorded events. The kernel's tracepoint names and field names are kept; `kind`
 * selects the shape and `name` is the event's own name. An event that nobody here asks about is
 * `other`: it is counted, timed and attributed like the rest, and its payload is text on demand.
 */
import type { CpuId, TraceRecord, VirtAddr } from '@shootdown/machine';

/**
 * A task as the recording names it. One object per distinct triple, so tasks of one trace compare
 * by identity.
 */
export interface RecordedTask {
  /** Thread id; 0 is the idle task of whichever CPU. */
  readonly pid: number;
  /**
   * The command name, cut at 15 bytes by the kernel; `<...>` when the recording lost it, `<idle>`
   * for pid 0.
   */
  readonly comm: string;
  /** Process id; null when the recording does not say. */
  readonly tgid: number | null;
}

/** x86 tlb:tlb_flush. */
export interface TlbFlush {
  readonly kind: 'tlb_flush';
  readonly name: 'tlb_flush';
  /**
   * -1 is a full flush. Otherwise pages of 4 KiB for reason 4, of the flush's stride for 1 and 3
   * (a huge page is 1 there, and 0 is a real flush of less than one). For reason 0, 0 is a switch
   * that kept what the ASID had.
   */
  readonly pages: number;
  /**
   * TLB_FLUSH_ON_TASK_SWITCH 0, REMOTE_SHOOTDOWN 1 (received), LOCAL_SHOOTDOWN 2,
   * LOCAL_MM_SHOOTDOWN 3, REMOTE_SEND_IPI 4 (sender), REMOTE_WRONG_CPU 5.
   */
  readonly reason: number;
}

/**
 * csd:csd_queue_cpu: a function call queued to another CPU, whether or not that took an interrupt
 * of its own.
 */
export interface CsdQueueCpu {
  readonly kind: 'csd_queue_cpu';
  readonly name: 'csd_queue_cpu';
  /** The CPU that is to run the function. */
  readonly target: CpuId;
  /** Who queued it, `symbol` without its offset. */
  readonly callsite: string;
  /** The function that the target will run. */
  readonly func: string;
  /**
   * The call_single_data; joins with csd_function_entry. Hashed by %p in ftrace text, so never
   * comparable between files.
   */
  readonly csd: VirtAddr;
}

/** csd:csd_function_entry and csd_function_exit: a queued function runs. */
export interface CsdFunction {
  readonly kind: 'csd_function_entry' | 'csd_function_exit';
  readonly name: 'csd_function_entry' | 'csd_function_exit';
  readonly func: string;
  /** 0 is a local run by the CPU that asked: no interrupt. */
  readonly csd: VirtAddr;
}

/** ipi:ipi_send_cpu (one target) and ipi:ipi_send_cpumask (several). */
export interface IpiSend {
  readonly kind: 'ipi_send';
  readonly name: 'ipi_send_cpu' | 'ipi_send_cpumask';
  /**
   * Null when the recording does not say (`trace-cmd report -R` prints the mask's offset instead of
   * the mask).
   */
  readonly targets: readonly CpuId[] | null;
  readonly callsite: string;
  /**
   * `0x0` is a reschedule; a function call shows generic_smp_call_function_single_interrupt,
   * whatever the function; irq_work shows its own.
   */
  readonly callback: string;
}

/** arm and arm64 ipi:ipi_raise, ipi_entry, ipi_exit. */
export interface ArmIpi {
  readonly kind: 'ipi_raise' | 'ipi_entry' | 'ipi_exit';
  readonly name: 'ipi_raise' | 'ipi_entry' | 'ipi_exit';
  /** The CPUs of ipi_raise; empty for the other two. */
  readonly targets: readonly CpuId[];
  /** The kernel's words, `Function call interrupts` for example. */
  readonly reason: string;
}

/** x86 irq_vectors:*_entry and *_exit: the interruption itself. */
export interface IrqVector {
  readonly kind: 'vector_entry' | 'vector_exit';
  /** `call_function_entry`, `reschedule_exit`, ... */
  readonly name: string;
  /** Which interrupt: the name without _entry or _exit. */
  readonly irq: string;
  readonly vector: number;
}

/** sched:sched_switch. */
export interface SchedSwitch {
  readonly kind: 'sched_switch';
  readonly name: 'sched_switch';
  readonly prevPid: number;
  readonly prevComm: string;
  readonly nextPid: number;
  readonly nextComm: string;
}

/**
 * syscalls:sys_enter_*. ftrace text prints it as a call, `sys_munmap(addr: 0x7f.., len: 0x2e000)`.
 */
export interface SysEnter {
  readonly kind: 'sys_enter';
  /** `sys_enter_munmap` */
  readonly name: string;
  /** `munmap` */
  readonly syscall: string;
  /** Argument names, in the order of `values`; one array per system call. */
  readonly args: readonly string[];
  readonly values: readonly number[];
}

/** syscalls:sys_exit_*. ftrace text prints it as `sys_munmap -> 0x0`. */
export interface SysExit {
  readonly kind: 'sys_exit';
  /** `sys_exit_munmap` */
  readonly name: string;
  readonly syscall: string;
  /** Negative is -errno. */
  readonly ret: number;
}

/** x86 exceptions:page_fault_user and page_fault_kernel. */
export interface PageFault {
  readonly kind: 'page_fault';
  readonly name: 'page_fault_user' | 'page_fault_kernel';
  /**
   * Null when the recording names a symbol there instead of the address (a fault on kernel memory).
   */
  readonly address: VirtAddr | null;
  /**
   * Bit 0 protection (0: not present), bit 1 write, bit 2 user, bit 4 instruction fetch. 7 is a
   * write to a present page: copy-on-write.
   */
  readonly errorCode: number;
}

/** Any other event. */
export interface OtherEvent {
  readonly kind: 'other';
  readonly name: string;
  /** Decoded when asked; keeps the block it was read from alive until then. */
  readonly payload: Payload;
}

/** Text on demand. */
export interface Payload {
  /**
   * What the trace prints after the event's name; from a trace.dat, `field=value` in the order of
   * the event's format.
   */
  text(): string;
}

/** Any recorded event: narrow by `kind`. */
export type RecordedEvent =
  | ArmIpi
  | CsdFunction
  | CsdQueueCpu
  | IpiSend
  | IrqVector
  | OtherEvent
  | PageFault
  | SchedSwitch
  | SysEnter
  | SysExit
  | TlbFlush;

/** One record of a recorded trace. */
export type RecordedRecord = TraceRecord<RecordedEvent, RecordedTask>;

/**
 * The page that a vCPU shares with its host, as far as flushes look at it: one word, in which the host
 * says that the vCPU does not run, and in which the guest asks for a flush before it runs again.
 *
 * Both sides change the word by locked instructions, and the host clears it before the vCPU runs
 * guest code. So either the guest's cmpxchg comes before the host's xchg, and the host sees the
 * request, or it fails, and the guest knows that the vCPU is back.
 *
 * Follows struct kvm_steal_time in arch/x86/include/uapi/asm/kvm_para.h.
 */
import { assert, type Cell, type CpuId } from '@shootdown/machine';
import { x86, type X86 } from '@shootdown/arch-x86';
import type { Kernel } from '@shootdown/mmu-gather';

/** The host has taken the vCPU off its physical CPU. */
export const KVM_VCPU_PREEMPTED = 1;

/** The guest asks that the vCPU's TLB be empty when it runs again. */
export const KVM_VCPU_FLUSH_TLB = 2;

/** struct kvm_steal_time */
export interface KvmStealTime {
  /** `KVM_VCPU_PREEMPTED`, `KVM_VCPU_FLUSH_TLB`, or 0 while the vCPU runs. */
  readonly preempted: Cell<number>;
}

/** Kernel.arch of a KVM guest. */
export interface KvmGuest extends X86 {
  /** By vCPU; empty if the host offers no steal time. */
  readonly stealTime: readonly KvmStealTime[];
}

/** The state of a kernel that the KVM backend runs. */
export const kvmGuest = (k: Kernel): KvmGuest => x86(k) as KvmGuest;

/** per_cpu(steal_time, cpu) */
export function stealTimeOf(k: Kernel, cpu: CpuId): KvmStealTime {
  const stealTime = kvmGuest(k).stealTime[cpu];
  assert(stealTime !== undefined, 'a guest that flushes by steal time has it for every vCPU');
  return stealTime;
}

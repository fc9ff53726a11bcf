/**
 * A KVM guest. Its flushes are native ones, except that a vCPU which the host has preempted is not
 * interrupted: it would not answer before it runs again, so it is asked to flush when it does. Who
 * flushes does not wait for it. Its TLB is clean before it runs guest code, but the code it was in the
 * middle of, a lockless page-table walk say, has not ended when the flush returns: so no claim that a
 * flush implies an IPI broadcast.
 *
 * Follows arch/x86/kernel/kvm.c.
 *
 * Not modelled: the hypercalls for IPIs and for yielding to a vCPU, which change what an interrupt
 * costs and not who gets one; the parameters `nopvtlb` and `no-steal-acc`.
 */
import { call, Cell, cmpxchg, readMask, readOnce, UsageError } from '@shootdown/machine';
import {
  type FlushTlbInfo,
  nativeFlushTlbMulti,
  nativePvMmuOps,
  type PvMmuOps,
  x86Backend,
  type X86,
  type X86Features,
} from '@shootdown/arch-x86';
import type { CpuMaskPtr, Kernel, Kthread, TlbBackend } from '@shootdown/mmu-gather';
import { preemptionsOf, registerStealTime } from './host.ts';
import {
  KVM_VCPU_FLUSH_TLB,
  KVM_VCPU_PREEMPTED,
  type KvmGuest,
  type KvmStealTime,
  stealTimeOf,
} from './stealTime.ts';

/** What the guest's CPUID says, as far as flushes depend on it. */
export interface KvmCpuid {
  /** KVM_FEATURE_PV_TLB_FLUSH. Default true. */
  readonly pvTlbFlush?: boolean | undefined;
  /** KVM_HINTS_REALTIME: vCPUs are never preempted for long. Default false. */
  readonly realtimeHint?: boolean | undefined;
  /** KVM_FEATURE_STEAL_TIME. Default true. */
  readonly stealTime?: boolean | undefined;
  /** X86_FEATURE_MWAIT: the guest may idle without the host knowing. Default false. */
  readonly mwaitExposed?: boolean | undefined;
}

/** Options of the KVM backend. */
export interface KvmOptions extends KvmCpuid {
  /** Features of the CPUs. Default: PCID and INVPCID, no PTI. */
  readonly features?: Partial<X86Features> | undefined;
  /** How often the host may preempt each vCPU in one run. Default 0. */
  readonly preemptions?: number | undefined;
  /** How long a preempted vCPU is away by the clock, ns, VM exit and entry not counted. Default 0. */
  readonly preemptedNs?: number | undefined;
}

/**
 * Whether a guest of several vCPUs skips those that are preempted.
 *
 * @kernel arch/x86/kernel/kvm.c pv_tlb_flush_supported
 */
export const pvTlbFlushSupported = ({
  pvTlbFlush = true,
  realtimeHint = false,
  stealTime = true,
  mwaitExposed = false,
}: KvmCpuid): boolean => pvTlbFlush && !realtimeHint && stealTime && !mwaitExposed;

/**
 * Asks preempted vCPUs to flush when they come back, and interrupts the others. Does not look at
 * freed_tables: the paging-structure caches of a preempted vCPU go before it runs, too.
 *
 * @kernel arch/x86/kernel/kvm.c kvm_flush_tlb_multi
 */
export function* kvmFlushTlbMulti(k: Kernel, cpumask: CpuMaskPtr, info: FlushTlbInfo): Kthread {
  // __pv_cpu_mask: a copy, as the caller's mask must keep who is left out here.
  const flushmask = cpumask instanceof Cell ? yield* readMask(cpumask) : cpumask.copy();
  for (const cpu of flushmask.members()) {
    const { preempted } = stealTimeOf(k, cpu);
    const state = yield* readOnce(preempted);
    // Never of this vCPU: it runs.
    if ((state & KVM_VCPU_PREEMPTED) === 0) continue;
    // Pairs with recordStealTime(): a failure says that the vCPU is back, or away once more.
    if ((yield* cmpxchg(preempted, state, state | KVM_VCPU_FLUSH_TLB)) === state)
      flushmask.clear(cpu);
  }
  yield* call(nativeFlushTlbMulti(k, flushmask, info));
}

/** pv_ops.mmu of a guest that skips preempted vCPUs. */
export const kvmPvMmuOps: PvMmuOps = {
  ...nativePvMmuOps,
  flushTlbMulti: kvmFlushTlbMulti,
  flushTlbMultiImpliesIpiBroadcast: false,
  // Nobody has waited for a preempted walker, so tables go by RCU even where natively they need not.
  tlbRemoveTable: 'table',
};

/**
 * The KVM backend. Where CPUID says no, or there is one vCPU only, flushes are native; in the latter
 * case the claim is still the guest's, as it is made before the machine is known.
 *
 * `environment` is for one machine: ask again for the next.
 *
 * @throws UsageError ERR_OPTION
 */
export function kvm(options: KvmOptions = {}): TlbBackend {
  const { features, stealTime = true, preemptions = 0, preemptedNs = 0 } = options;
  checkCount('preemptions', preemptions);
  checkCount('preemptedNs', preemptedNs);
  const base = x86Backend({
    id: 'kvm',
    models: { tree: '7.0', path: 'arch/x86/kernel/kvm.c', symbol: 'kvm_flush_tlb_multi' },
    pv: pvTlbFlushSupported(options) ? kvmPvMmuOps : nativePvMmuOps,
    // As Lance Yang posted it on 2 February 2026. v5 took it back, after Sean Christopherson had said
    // on 26 February that a preempted vCPU may be in the middle of a walk.
    claimsIn: { 'targeted-sync-v4': { flushTlbMultiImpliesIpiBroadcast: true } },
    features,
    environment: (cpus) => preemptionsOf(cpus, { preemptions, preemptedNs }),
  });
  return Object.freeze({
    ...base,
    boot: (k, editions) => kvmGuestInit(k, base.boot(k, editions) as X86, stealTime),
  } satisfies TlbBackend);
}

/** @kernel arch/x86/kernel/kvm.c kvm_guest_init */
function kvmGuestInit({ machine }: Kernel, booted: X86, stealTime: boolean): KvmGuest {
  const words = (stealTime ? machine.cpus : []).map(({ id }): KvmStealTime => ({
    preempted: machine.cell(`steal_time.preempted[${id}]`, 0),
  }));
  registerStealTime(machine, words);
  return { ...booted, pv: machine.count > 1 ? booted.pv : nativePvMmuOps, stealTime: words };
}

function checkCount(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new UsageError('ERR_OPTION', `${name} is an integer from 0, not ${value}`);
}

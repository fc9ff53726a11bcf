/**
 * What the host does to a vCPU: it takes it away at any instruction boundary, whatever the guest has
 * done to its interrupt flag, says so, and before it gives it back does what the guest asked for.
 *
 * Follows arch/x86/kvm/x86.c.
 *
 * Axiom: until the vCPU is back its hardware uses no translation of the guest. What was cached stays
 * cached all the while, as entries are tagged (VPID, ASID).
 *
 * Bound: `preemptions` times per vCPU in one run.
 *
 * Not modelled: a vCPU that moves to another physical CPU, which the host flushes by itself; an exit
 * in the middle of an instruction, which the host does not report; a vCPU that halts gives nothing up.
 */
import {
  call,
  type Cell,
  type Coroutine,
  type EnvironmentMove,
  invpcidAll,
  type Machine,
  UsageError,
  vcpuPark,
  writeOnce,
  xchg,
} from '@shootdown/machine';
import { KVM_VCPU_FLUSH_TLB, KVM_VCPU_PREEMPTED, type KvmStealTime } from './stealTime.ts';

/** What the host knows of a vCPU. Empty until a guest has booted on it. */
interface Vcpu {
  machine: Machine | null;
  /** Null if the guest has none registered. */
  stealTime: KvmStealTime | null;
}

/** A preemption: which vCPU it is of stays with the move, also with a copy of it. */
export interface Preemption extends EnvironmentMove {
  readonly vcpu: Vcpu;
}

/** How often, and for how long. */
export interface PreemptionOptions {
  readonly preemptions: number;
  readonly preemptedNs: number;
}

/** The host's moves for a machine of `cpus` vCPUs: one per vCPU. */
export function preemptionsOf(
  cpus: number,
  { preemptions, preemptedNs }: PreemptionOptions,
): readonly Preemption[] {
  if (preemptions === 0) return [];
  return Array.from({ length: cpus }, (_, cpu): Preemption => {
    const vcpu: Vcpu = { machine: null, stealTime: null };
    return {
      name: `host preempts vCPU ${cpu}`,
      cpu,
      kind: 'host',
      times: preemptions,
      body: () => preempt(cpu, vcpu, preemptedNs),
      vcpu,
    };
  });
}

const isPreemption = (move: EnvironmentMove): move is Preemption => 'vcpu' in move;

/**
 * MSR_KVM_STEAL_TIME: from now on the host of `machine` knows where its vCPUs' words are.
 *
 * @throws UsageError ERR_BACKEND for moves that belong to another machine already.
 */
export function registerStealTime(machine: Machine, stealTime: readonly KvmStealTime[]): void {
  for (const move of machine.environment) {
    if (!isPreemption(move)) continue;
    const { vcpu } = move;
    if (vcpu.machine !== null && vcpu.machine !== machine)
      throw new UsageError(
        'ERR_BACKEND',
        `'${move.name}' belongs to another machine: ask the backend for its environment once per machine`,
      );
    vcpu.machine = machine;
    vcpu.stealTime = stealTime[move.cpu] ?? null;
  }
}

function* preempt(cpu: number, { machine, stealTime }: Vcpu, preemptedNs: number): Coroutine {
  if (machine === null)
    throw new UsageError(
      'ERR_BACKEND',
      `the host preempts vCPU ${cpu}, but no KVM guest has booted: compose the kernel with this backend`,
    );
  if (stealTime !== null) yield* call(kvmStealTimeSetPreempted(stealTime.preempted));
  yield* vcpuPark(preemptedNs);
  if (stealTime !== null) yield* call(recordStealTime(stealTime.preempted));
}

/** @kernel arch/x86/kvm/x86.c kvm_steal_time_set_preempted */
function* kvmStealTimeSetPreempted(preempted: Cell<number>): Coroutine {
  yield* writeOnce(preempted, KVM_VCPU_PREEMPTED);
}

/**
 * Before the vCPU is entered. Pairs with the cmpxchg in kvmFlushTlbMulti(): who asks after the xchg
 * fails. The guest's own bookkeeping, cpu_tlbstate, is none of the host's business and stays.
 *
 * @kernel arch/x86/kvm/x86.c record_steal_time
 */
function* recordStealTime(preempted: Cell<number>): Coroutine {
  const asked = yield* xchg(preempted, 0);
  // kvm_vcpu_flush_tlb_guest: all that the vCPU has cached.
  if ((asked & KVM_VCPU_FLUSH_TLB) !== 0) yield* invpcidAll();
}

export {
  kvm,
  type KvmCpuid,
  kvmFlushTlbMulti,
  type KvmOptions,
  kvmPvMmuOps,
  pvTlbFlushSupported,
} from './kvm.ts';
export {
  KVM_VCPU_FLUSH_TLB,
  KVM_VCPU_PREEMPTED,
  type KvmGuest,
  kvmGuest,
  type KvmStealTime,
} from './stealTime.ts';

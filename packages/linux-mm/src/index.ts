export { execMmap } from './exec.ts';
export { exitMm, mmput } from './exit.ts';
export { doUserAddrFault } from './fault.ts';
export { dupMm, mmAlloc } from './fork.ts';
export { hugetlbfsEvictInode, newHugetlbFile } from './hugetlbFile.ts';
export { lruCaches } from './lru.ts';
export { doMadvise, Madvise, type MadviseBehavior } from './madvise.ts';
export { doMbindMove, MPOL_MF_MOVE } from './mempolicy.ts';
export { Errno, type MmFunctions, type MmKernel } from './mm.ts';
export { doMmap, doMunmap, type MmapRequest, pageAlign } from './mmap.ts';
export { mmFunctions } from './mmFunctions.ts';
export { doMprotect, type Protection } from './mprotect.ts';
export { doMremap } from './mremap.ts';
export { systemCall, type Syscall } from './entry.ts';
export { newProcess, type Program, type Started, User } from './user.ts';
export { WORKLOADS } from './workloads/all.ts';
export { type PhaseCounts, Phases, sum } from './workloads/phases.ts';
export {
  type Choice,
  framesFor,
  type Parameter,
  setUpWorkload,
  type Values,
  type Workload,
} from './workloads/workload.ts';
export { ANON_RW, type NewVma, vmaLookup, vmasIn } from './vma.ts';
export { linkVma } from './vmaChanges.ts';

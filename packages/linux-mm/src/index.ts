export { hugetlbfsEvictInode, newHugetlbFile } from './hugetlbFile.ts';
export { Errno, type MmFunctions, type MmKernel } from './mm.ts';
export { mmFunctions } from './mmFunctions.ts';
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

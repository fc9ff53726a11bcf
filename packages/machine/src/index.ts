export { formatCpuList, MAX_CPUS, parseCpuList } from './cpuList.ts';
export { assert, ModelBugError, UsageError, type UsageCode } from './errors.ts';
export {
  cpuId,
  type CpuId,
  nanoseconds,
  type Nanoseconds,
  virtAddr,
  type VirtAddr,
} from './ids.ts';
export { Context, CONTEXT_UNKNOWN, type TraceEvent, type TraceRecord } from './traceRecord.ts';

/**
 * What a recording with probes of the model itself would show: the same workloads, run by a clock on
 * other releases, CPU counts and CPUs than there are recordings of.
 */
import { contextOf, type FlushTlbInfo, type X86, type X86Features } from '@shootdown/arch-x86';
import { native } from '@shootdown/backend-native';
import { framesFor, mmFunctions, setUpWorkload, WORKLOADS } from '@shootdown/linux-mm';
import { call, Cell, type CpuId, Machine } from '@shootdown/machine';
import {
  composeKernel,
  type CpuMaskPtr,
  type Kernel,
  KERNEL_COSTS,
  type MmStruct,
  type Release,
  TLB_FLUSH_ALL,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import type {
  OpenedTrace,
  OtherEvent,
  RecordedEvent,
  RecordedRecord,
  RecordedTask,
} from '@shootdown/trace';
import { bitsOf } from './masks.ts';

/** What is run. */
export interface ModelRun {
  readonly workload: string;
  readonly kernel: Release;
  readonly cpus: number;
  readonly threads: number;
  readonly features?: Partial<X86Features>;
}

const hex = (value: number): string =>
  value === TLB_FLUSH_ALL ? '0xffffffffffffffff' : `0x${value.toString(16)}`;
const maskText = (mask: CpuMaskPtr): string =>
  `0x${bitsOf(mask instanceof Cell ? mask.value : mask).toString(16)}`;
/** An address that stands for an mm. */
const at = (mm: MmStruct | null): string =>
  mm === null ? '0x0' : hex(2 ** 46 + contextOf(mm).ctxId * 256);

const probe = (k: Kernel, name: string, text: string): void => {
  const payload = { text: () => `(${name}+0x4/0x10) ${text}` };
  const event: OtherEvent = { kind: 'other', name, payload };
  k.machine.emit(event);
};

const infoText = (info: FlushTlbInfo): string =>
  `mm=${at(info.mm)} start=${hex(info.start)} end=${hex(info.end)} gen=${info.newTlbGen} ` +
  `init=${info.initiatingCpu} stride=${info.strideShift} freed=${Number(info.freedTables)}`;

/** `backend` with probes that show what they see. */
const probed = (backend: TlbBackend): TlbBackend => ({
  ...backend,
  *enterLazyTlb(k, cpu) {
    probe(k, 'enter_lazy', '');
    yield* call(backend.enterLazyTlb(k, cpu));
  },
  *batchFlush(k, batch) {
    probe(k, 'batch_flush', `mask=${maskText(batch.cpumask)}`);
    yield* call(backend.batchFlush(k, batch));
  },
  boot(k, editions) {
    const arch = backend.boot(k, editions) as X86;
    return {
      ...arch,
      pv: {
        ...arch.pv,
        *flushTlbMulti(kernel, mask, info) {
          const seen = `mask=${maskText(mask)} ${infoText(info)} trim=${Number(info.trimCpumask)}`;
          probe(kernel, 'flush_tlb_multi', seen);
          yield* call(arch.pv.flushTlbMulti(kernel, mask, info));
        },
      },
      fn: {
        ...arch.fn,
        *flushTlbMmRange(kernel, info) {
          const { mm } = info;
          if (mm === null) return;
          probe(
            kernel,
            'flush_tlb_mm_range',
            `mm=${at(mm)} start=${hex(info.start)} end=${hex(info.end)} stride=${info.strideShift} ` +
              `freed=${Number(info.freedTables)} gen_before=${contextOf(mm).tlbGen.value} mask=${maskText(mm.cpumask)}`,
          );
          yield* call(arch.fn.flushTlbMmRange(kernel, info));
          probe(kernel, 'flush_tlb_mm_range_ret', '');
        },
        *flushTlbFunc(kernel, info) {
          probe(kernel, 'flush_tlb_func', infoText(info));
          yield* call(arch.fn.flushTlbFunc(kernel, info));
        },
        *shouldFlushTlb(kernel, cpu, info) {
          const answer = yield* call(arch.fn.shouldFlushTlb(kernel, cpu, info));
          probe(kernel, 'should_flush', `cpu=${cpu} ret=${Number(answer)}`);
          return answer;
        },
        *switchMmIrqsOff(kernel, next) {
          const { ctxId, tlbGen } = contextOf(next);
          probe(
            kernel,
            'switch_mm',
            `next=${at(next)} next_ctx=${ctxId} next_gen=${tlbGen.value} next_mask=${maskText(next.cpumask)}`,
          );
          yield* call(arch.fn.switchMmIrqsOff(kernel, next));
        },
      },
    } satisfies X86;
  },
});

const isTask = (who: unknown): who is RecordedTask =>
  typeof who === 'object' && who !== null && 'pid' in who && who.pid !== 0;

/** Runs the model and gives what a recording of it would hold. */
export function modelRecords(run: ModelRun): readonly RecordedRecord[] {
  const workload = WORKLOADS.find(({ name }) => name === run.workload);
  if (workload === undefined) throw new Error(`there is no workload ${run.workload}`);
  const values = Object.fromEntries(
    workload.parameters.map(({ name, fallback }) => [name, fallback]),
  );
  const choice = { threads: run.threads, values };
  const frames = framesFor(workload, choice);
  const records: RecordedRecord[] = [];
  const machine = new Machine({
    cpus: run.cpus,
    frames,
    sink: ({ event, task, ...rest }) => {
      const who = isTask(task) ? { pid: task.pid, comm: task.comm, tgid: task.tgid } : null;
      const recorded = event as RecordedEvent;
      if (recorded.kind === 'tlb_flush' && recorded.reason === 0)
        records.push({
          ...rest,
          task: who,
          event: cr3(rest.cpu, recorded.pages === 0),
        } as RecordedRecord);
      records.push({ ...rest, task: who, event: recorded } as RecordedRecord);
    },
  });
  const cr3 = (cpu: CpuId, kept: boolean): OtherEvent => {
    const value = BigInt(machine.cpu(cpu).pcid) | 0x100_0000n | (kept ? 1n << 63n : 0n);
    return {
      kind: 'other',
      name: 'cr3_a',
      payload: { text: () => `(switch_mm_irqs_off+0x1/0x2) cr3=0x${value.toString(16)}` },
    };
  };
  const k = composeKernel({
    machine,
    backend: probed(native({ features: run.features })),
    functions: mmFunctions,
    kernel: run.kernel,
    frames,
    nodes: workload.nodes ?? 1,
  });
  setUpWorkload(k, workload, choice);
  runByClock(machine, { costs: KERNEL_COSTS, batch: false });
  return records;
}

/** Records as if they had been read. */
export const asTrace = (records: readonly RecordedRecord[], cpus: number): OpenedTrace => ({
  name: 'the model',
  header: {
    kind: 'ftrace',
    version: null,
    layout: '',
    cpus,
    kernel: null,
    clock: { name: null, unit: 'ns', resolution: 1 },
    origin: 0n,
    buffers: [],
  },
  async *batches() {
    yield await Promise.resolve(records);
  },
  status: () => ({
    records: records.length,
    lost: { byCpu: new Map(), counted: 0, uncounted: 0 },
    gaps: new Map(),
    problems: [],
    problemCount: 0,
    notes: [],
  }),
});

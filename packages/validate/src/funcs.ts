/** flush_tlb_func(): what each CPU does that was asked to flush, the initiator included. */
import { contextOf, type FlushTlbInfo, x86 } from '@shootdown/arch-x86';
import type { CpuId } from '@shootdown/machine';
import { TLB_FLUSH_ALL } from '@shootdown/mmu-gather';
import type { RecordedRecord } from '@shootdown/trace';
import { basisOfFunc, basisOfMask, describe } from './bases.ts';
import { passSending } from './calls.ts';
import type { FlushInFlight, FuncInFlight } from './going.ts';
import type { Handler } from './handler.ts';
import { Known } from './knowledge.ts';
import type { Line } from './line.ts';
import type { Lockstepper } from './lockstep.ts';
import type { KnownMm } from './model.ts';
import { field, number } from './payload.ts';
import { doubt, judgeGeneration } from './probeReads.ts';

const NO_MM = /^(?:0x)?0+$/;

/** The mm that a flush is of; null of a batch. */
export function entryIn(on: Lockstepper, payload: string): KnownMm | null {
  const at = field(payload, 'mm');
  return at === null || NO_MM.test(at) ? null : on.model.mmAt(at);
}

/** The end of a flush. */
export const endOf = (payload: string): number => {
  const end = number(payload, 'end') ?? 0;
  return end === Infinity ? TLB_FLUSH_ALL : end;
};

/** struct flush_tlb_info as recorded, its generation in the model's count. */
export const infoIn = (
  on: Lockstepper,
  { cpu }: RecordedRecord,
  payload: string,
  entry: KnownMm | null,
): FlushTlbInfo => ({
  mm: entry?.mm ?? null,
  start: number(payload, 'start') ?? 0,
  end: endOf(payload),
  strideShift: number(payload, 'stride') ?? 12,
  freedTables: number(payload, 'freed') === 1,
  newTlbGen: entry === null ? 0 : generationIn(on, entry, number(payload, 'gen') ?? 0),
  initiatingCpu: on.model.machine.cpu(number(payload, 'init') ?? cpu).id,
  trimCpumask: number(payload, 'trim') === 1,
});

function generationIn(on: Lockstepper, entry: KnownMm, recorded: number): number {
  if (entry.generation === Known.no) {
    // The first that is seen of it: how far each CPU is behind is not.
    entry.offset = recorded - contextOf(entry.mm).tlbGen.value;
    doubt(on, entry);
  }
  return recorded - entry.offset;
}

/** Judges what is flushed of an mm: the range, and the generation that it brings about. */
export function judgeInfo(
  on: Lockstepper,
  entry: KnownMm,
  how: 'first' | 'other' | null,
  ours: FlushTlbInfo,
  recorded: FlushTlbInfo,
): void {
  const sameGen = ours.newTlbGen === recorded.newTlbGen;
  const { offset } = entry;
  const recordedGen = recorded.newTlbGen + offset;
  judgeGeneration(
    on,
    entry,
    sameGen ? (how ?? 'first') : null,
    ours.newTlbGen + offset,
    recordedGen,
  );
  const sameRange = ours.start === recorded.start && ours.end === recorded.end;
  const views = { ours: () => rangeOf(ours), recorded: () => rangeOf(recorded) };
  const basis = { basis: Known.yes, missing: '' };
  on.decide(
    'range',
    sameRange ? 'first' : null,
    basis,
    views,
    () => `stride 2^${ours.strideShift}`,
  );
}

const rangeOf = ({ start, end }: FlushTlbInfo): string =>
  end === TLB_FLUSH_ALL ? 'everything' : `${start.toString(16)}-${end.toString(16)}`;

/** Judges whether other CPUs have to be told. */
export function judgeSend(
  on: Lockstepper,
  { entry }: FlushInFlight,
  how: 'first' | 'other' | null,
  ours: string,
  recorded: string,
): void {
  const views = { ours: () => ours, recorded: () => recorded };
  const mask = entry?.mm.cpumask.value.toString() ?? 'of the batch';
  on.decide('send', how, basisOfMask(entry), views, () => `mm_cpumask ${mask}`);
}

/** flush_tlb_func() is over: without a tlb_flush event it did nothing. */
export function closeFunc(on: Lockstepper, line: Line, record: RecordedRecord): void {
  const going = on.at(record);
  const { func } = going;
  going.func = null;
  if (func === null || !on.model.recorded.has('tlb_flush')) return;
  const shown = line.head();
  const how =
    shown?.kind === 'tlb_flush' ? line.explain((head) => head?.kind !== 'tlb_flush') : 'first';
  judgeFunc(on, record, func, how, shown?.kind === 'tlb_flush' ? 'a flush' : 'nothing', 'nothing');
  if (how !== null) return;
  on.judge.resync('flush_tlb_func');
  line.accept();
}

/** Books what flush_tlb_func() has done on a CPU. */
export function judgeFunc(
  on: Lockstepper,
  { cpu }: RecordedRecord,
  func: FuncInFlight,
  how: 'first' | 'other' | null,
  ours: string,
  recorded: string,
): void {
  const views = { ours: () => ours, recorded: () => recorded };
  const because = (): string => `${describe(on, cpu)}, asked for tlb_gen ${func.info.newTlbGen}`;
  on.decide('flush', how, func, views, because);
}

/** How much is flushed, in words. */
export const sizeOf = (pages: number): string => (pages === -1 ? 'full' : `${pages} pages`);

/** The probe at the entry of flush_tlb_func(). */
export const handleFunc: Handler = (on, line, record, payload) => {
  const going = on.at(record);
  const entry = entryIn(on, payload);
  const recorded = infoIn(on, record, payload, entry);
  const { k } = on.model;
  if (going.stranger) {
    going.stranger = false;
    line.begin('flush_tlb_func', 'interrupt', false, () => x86(k).fn.flushTlbFunc(k, recorded));
  } else if (recorded.initiatingCpu !== record.cpu && !on.model.recorded.has('csd_function_entry'))
    beginCalled(on, line, recorded.initiatingCpu, recorded);
  const { flush } = going;
  const { how, head } = on.find(line, {
    is: ({ kind }) => kind === 'flush_tlb_func',
    fits: (other) =>
      other.kind === 'flush_tlb_func' &&
      other.info.newTlbGen === recorded.newTlbGen &&
      other.info.start === recorded.start &&
      other.info.end === recorded.end,
    ...passSending(on, record),
  });
  const alone = recorded.initiatingCpu === record.cpu && flush?.multi === false ? flush : null;
  if (head === null) {
    if (alone === null) return;
    judgeSend(on, alone, null, line.head()?.kind ?? 'nothing', 'a local flush');
    on.judge.resync('flush_tlb_mm_range');
    line.begin('flush_tlb_func', 'task', false, () => x86(k).fn.flushTlbFunc(k, recorded));
  } else if (head.kind === 'flush_tlb_func' && alone !== null && entry !== null) {
    judgeInfo(on, entry, how, head.info, recorded);
    judgeSend(on, alone, 'first', 'a local flush', 'a local flush');
  }
  const { newTlbGen } = head?.kind === 'flush_tlb_func' ? head.info : recorded;
  const { start, end } = recorded;
  going.func = { info: { ...recorded, newTlbGen }, ...basisOfFunc(on, record.cpu, entry) };
  line.accept({ start, end, newTlbGen });
};

/** Where calls are not recorded: what `from` has called this CPU for runs now. */
function beginCalled(on: Lockstepper, line: Line, from: CpuId, recorded: FlushTlbInfo): void {
  const { k, lines } = on.model;
  // What the caller shows of its calls is not recorded either: it goes on by itself.
  lines[from]?.head();
  const { run, info, lock } = k.calls.csd(from, line.cpu.id);
  lock.value = false;
  k.calls.queue(line.cpu.id).value = null;
  const queued = run !== null && run.name === 'flush_tlb_func' && on.going[from]?.flush !== null;
  line.begin('flush_tlb_func', 'interrupt', false, () =>
    queued ? run.run(info as never) : x86(k).fn.flushTlbFunc(k, recorded),
  );
}

/** tlb_flush of reason 1, 2 or 3: what flush_tlb_func() has done. */
export function handleFlushed(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  { reason, pages }: { readonly reason: number; readonly pages: number },
): void {
  const going = on.at(record);
  const { func } = going;
  going.func = null;
  const { how, head } = on.find(line, {
    is: (other) => other.kind === 'tlb_flush' && other.reason !== 4 && other.reason !== 0,
    fits: (other) => other.kind === 'tlb_flush' && other.pages === pages && other.reason === reason,
  });
  if (func !== null) {
    const ours =
      head?.kind === 'tlb_flush' ? `reason ${head.reason}, ${sizeOf(head.pages)}` : 'nothing';
    judgeFunc(on, record, func, how, ours, `reason ${reason}, ${sizeOf(pages)}`);
  }
  if (head !== null) line.accept();
  if (how === null) on.judge.resync('flush_tlb_func');
  upToDate(on, record.cpu, func?.info.mm ?? null, head !== null);
  if (pages === -1) doubtOrder(on, line);
}

/**
 * A full flush goes up to the generation that is read. Which one that was, if somebody raised it
 * meanwhile, nobody has seen.
 */
export function doubtOrder(on: Lockstepper, line: Line): void {
  const { known, state, loaded } = on.model.cpu(line.cpu.id);
  const going = on.going[line.cpu.id];
  if (going !== undefined) going.flushedAt = on.model.seq;
  if (typeof loaded === 'symbol') return;
  const { tlbGen } = contextOf(loaded);
  if (line.held(tlbGen).length > 0 || line.values(tlbGen, line.before).length > 1)
    known.gens[state.loadedMmAsid] = false;
}

/** A CPU was seen to flush. */
export function upToDate(
  on: Lockstepper,
  cpu: number,
  mm: KnownMm['mm'] | null,
  ours: boolean,
): void {
  if (!ours && mm !== null && on.model.cpu(cpu).loaded !== mm) on.model.loadOlder(cpu, mm);
  const { known, state, loaded } = on.model.cpu(cpu);
  if (typeof loaded === 'symbol') return;
  const ctx = state.ctxs[state.loadedMmAsid];
  if (ctx !== undefined && !ours) ctx.tlbGen = contextOf(loaded).tlbGen.value;
  if (!known.loaded) return;
  known.gens[state.loadedMmAsid] = true;
  known.lazy = true;
}

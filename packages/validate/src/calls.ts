/** Who is called, by which interrupt, and what runs there: smp_call_function_many_cond() and its targets. */
import { type FlushTlbInfo, x86 } from '@shootdown/arch-x86';
import type { Csd } from '@shootdown/machine';
import type { RecordedRecord } from '@shootdown/trace';
import { basisOfMask, basisOfShould, describe } from './bases.ts';
import { MISSING } from './missing.ts';
import { closeFunc } from './funcs.ts';
import type { FlushInFlight } from './going.ts';
import type { Handler } from './handler.ts';
import { Known, least } from './knowledge.ts';
import type { Head, Line } from './line.ts';
import type { Lockstepper } from './lockstep.ts';
import { mask, number } from './payload.ts';
import { judgeMaskRead } from './probeReads.ts';

/** The functions that the model has CPUs call. */
const OURS: ReadonlySet<string> = new Set([
  'flush_tlb_func',
  'tlb_remove_table_smp_sync',
  'do_flush_tlb_all',
  'do_kernel_range_flush',
]);

/** Books the interrupts of a flush that has ended. */
export function endFlush(on: Lockstepper, record: RecordedRecord): void {
  const going = on.at(record);
  const { flush } = going;
  if (flush !== null && !flush.vectorJudged && flush.queued.length > 0)
    judgeVector(on, flush, [], []);
  going.flush = null;
}

function judgeVector(
  on: Lockstepper,
  flush: FlushInFlight,
  ours: readonly number[],
  recorded: readonly number[],
): void {
  flush.vectorJudged = true;
  const wrong = flush.queued.filter(
    (call) => call.ours && ours.includes(call.target) !== recorded.includes(call.target),
  );
  const open = wrong.every(
    ({ target, seq, alone }) => alone === null || on.model.queues[target]?.movedSince(seq) === true,
  );
  // An idle CPU that polls looks at its queue by itself: send_call_function_single_ipi().
  const [only] = ours;
  const polls = !open && recorded.length === 0 && ours.length === 1 && isIdle(on, only);
  const basis = { basis: polls ? Known.no : Known.yes, missing: MISSING.polls };
  const how = wrong.length === 0 ? 'first' : open ? 'other' : null;
  const views = { ours: () => interrupts(ours), recorded: () => interrupts(recorded) };
  const calls = flush.queued.map(({ target }) => target).join(',');
  on.decide('vector', how, basis, views, () => `calls queued to ${calls}`);
}

const isIdle = (on: Lockstepper, cpu: number | undefined): boolean =>
  cpu !== undefined && on.going[cpu]?.nextPid === 0;

const interrupts = (cpus: readonly number[]): string =>
  cpus.length === 0
    ? 'no interrupt'
    : `vector ${cpus.length === 1 ? 251 : 252} to ${cpus.join(',')}`;

type TargetKind = 'broadcast' | 'targets_freed' | 'targets_kept';

const targetsOf = ({ what, freed }: FlushInFlight): TargetKind =>
  what === 'broadcast' ? 'broadcast' : freed ? 'targets_freed' : 'targets_kept';

function judgeTarget(
  on: Lockstepper,
  from: number,
  flush: FlushInFlight,
  how: 'first' | 'other' | null,
  cpu: number,
  ours: boolean,
): void {
  // The mask was copied before the CPU had joined, or after it had left.
  const open =
    how === null &&
    flush.entry !== null &&
    on.model.histories.changed(flush.entry.mm.cpumask, cpu, flush.since, from);
  const kind = targetsOf(flush);
  const ofMask = basisOfMask(flush.entry);
  const ofShould = basisOfShould(on, cpu, flush.entry);
  const freedUnknown =
    flush.info?.freedTables === false && !ours && on.model.cpu(cpu).state.isLazy.value;
  const ofTarget =
    kind === 'targets_kept' ? { ...ofShould, basis: least(ofMask.basis, ofShould.basis) } : ofMask;
  const basis = freedUnknown ? { basis: Known.no, missing: MISSING.freed } : ofTarget;
  const called = (is: boolean) => (): string => (is ? `CPU ${cpu}` : 'not called');
  const views = { ours: called(ours), recorded: called(how !== null || !ours) };
  on.decide(kind, open ? 'other' : how, basis, views, () => describe(on, cpu));
}

/** Books what ours shows and the recording does not: a call, an interrupt, a question. */
function drop(on: Lockstepper, record: RecordedRecord, head: Head): void {
  const { flush } = on.at(record);
  if (flush === null) return;
  if (head.kind === 'ipi_send') judgeVector(on, flush, head.targets ?? [], []);
  if (head.kind !== 'csd_queue_cpu') return;
  judgeTarget(on, record.cpu, flush, null, head.target, true);
  takeBack(on, record.cpu, head.target);
}

/** Takes a call of ours out of a queue that no recorded call put there. */
function takeBack(on: Lockstepper, from: number, to: number): void {
  const { k, machine } = on.model;
  const csd = k.calls.csd(machine.cpu(from).id, machine.cpu(to).id);
  const queue = k.calls.queue(machine.cpu(to).id);
  if (queue.value === csd) queue.value = csd.next;
  csd.lock.value = false;
}

/** What a sender shows before its own part. */
const ofSending = ({ kind }: Head): boolean =>
  kind === 'ipi_send' || kind === 'should_flush' || kind === 'csd_queue_cpu';

/** Passes what the sending of a flush still shows, as not recorded. */
export const passSending = (
  on: Lockstepper,
  record: RecordedRecord,
): { readonly extra: (head: Head) => boolean; readonly dropped: (head: Head) => void } => ({
  extra: ofSending,
  dropped: (head) => drop(on, record, head),
});

/** Judges one answer of should_flush_tlb(). */
function judgeShould(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  cpu: number,
  ret: boolean,
): void {
  const { flush } = on.at(record);
  if (flush === null) return;
  const basis = basisOfShould(on, cpu, flush.entry);
  const { how, head } = on.find(line, {
    is: (other) => other.kind === 'should_flush' && other.cpu === cpu,
    fits: (other) => other.kind === 'should_flush' && other.answer === ret,
    extra: (other) =>
      (other.kind === 'should_flush' && other.cpu < cpu) ||
      (other.kind === 'csd_queue_cpu' && other.target < cpu) ||
      other.kind === 'ipi_send',
    dropped: (other) => drop(on, record, other),
  });
  const views = {
    ours: () => (head?.kind === 'should_flush' ? String(head.answer) : 'not asked'),
    recorded: () => String(ret),
  };
  on.decide('should_flush', how, basis, views, () => describe(on, cpu));
  if (head === null) return;
  if (how === null) on.judge.resync('should_flush_tlb');
  line.accept(ret);
}

/** Calls and their interrupts. */
export const CALL_HANDLERS: Readonly<Record<string, Handler>> = {
  should_flush(on, line, record, payload) {
    const cpu = number(payload, 'cpu');
    if (cpu !== null) judgeShould(on, line, record, cpu, number(payload, 'ret') === 1);
  },

  // A return probe that cannot see the arguments has a probe at the entry beside it.
  should_flush_q(on, _line, record, payload) {
    on.at(record).asked = number(payload, 'cpu');
  },

  should_flush_a(on, line, record, payload) {
    const { asked } = on.at(record);
    if (asked !== null) judgeShould(on, line, record, asked, number(payload, 'ret') === 1);
  },

  smp_many(on, line, record, payload) {
    const { flush } = on.at(record);
    const recorded = mask(payload, 'mask');
    if (flush?.entry != null && flush.multi && recorded !== null)
      judgeMaskRead(on, line, flush.entry, recorded);
    // The mask is copied now.
    line.head();
  },

  csd_queue_cpu(on, line, record) {
    const { event } = record;
    if (event.kind !== 'csd_queue_cpu') return;
    const { target, func, callsite } = event;
    if (target >= on.model.machine.count) return;
    const csd = String(event.csd);
    const { calls } = on.model.k;
    const queue = on.model.queues[target];
    const { flush } = on.at(record);
    if (!OURS.has(func) || flush === null) {
      queue?.add(csd, line, on.model.seq);
      calls.queue(target).value ??= on.stranger(record.cpu, target);
      return;
    }
    const own = calls.csd(record.cpu, target);
    // Whoever queues it again has found it unlocked.
    if (line.head() === null) own.lock.value = false;
    const { how, head } = on.find(line, {
      is: (other) => other.kind === 'csd_queue_cpu' && other.target === target,
      fits: (other) => other.kind === 'csd_queue_cpu' && other.func === func,
      extra: (other) =>
        (other.kind === 'csd_queue_cpu' && other.target < target) ||
        (other.kind === 'should_flush' && other.cpu <= target),
      dropped: (other) => drop(on, record, other),
    });
    judgeTarget(on, record.cpu, flush, how, target, head !== null);
    on.calls.set(csd, own);
    flush.callsite = callsite;
    const alone = queue?.add(csd, line, on.model.seq) ?? null;
    flush.queued.push({ target, seq: on.model.seq, alone, ours: head !== null });
    // It waits there, whoever's it is.
    if (head === null) calls.queue(target).value ??= on.stranger(record.cpu, target);
    if (head !== null) line.accept();
    else if (flush.info !== null) callAnyway(on, own, flush.info);
    else on.judge.resync('a call that ours does not make');
  },

  ipi_send(on, line, record) {
    const { event } = record;
    const { flush } = on.at(record);
    if (event.kind !== 'ipi_send' || flush === null || flush.queued.length === 0) return;
    if (flush.vectorJudged || symbolOf(event.callsite) !== symbolOf(flush.callsite)) return;
    const { head } = on.find(line, {
      is: ({ kind }) => kind === 'ipi_send',
      fits: () => true,
      extra: ({ kind }) => kind === 'csd_queue_cpu',
      dropped: (other) => drop(on, record, other),
    });
    const ours = head?.kind === 'ipi_send' ? (head.targets ?? []) : [];
    judgeVector(on, flush, ours, event.targets ?? []);
    if (head !== null) line.accept();
  },

  csd_function_entry(on, line, record) {
    const { event } = record;
    if (event.kind !== 'csd_function_entry') return;
    const { func } = event;
    const csd = String(event.csd);
    if (Number(event.csd) === 0) {
      if (OURS.has(func)) localPart(on, line, record);
      return;
    }
    const queue = on.model.queues[record.cpu];
    queue?.took(on.model.seq);
    on.model.k.calls.queue(record.cpu).value = null;
    const known = queue?.ran(csd) === true;
    if (!OURS.has(func)) return;
    const call = known ? on.calls.get(csd) : undefined;
    const run = call?.run ?? null;
    if (run === null) {
      on.at(record).stranger = func === 'flush_tlb_func';
      return;
    }
    const info = call?.info;
    line.begin(func, 'interrupt', false, () => run.run(info as never));
  },

  csd_function_exit(on, line, record) {
    const { event } = record;
    if (event.kind !== 'csd_function_exit' || !OURS.has(event.func)) return;
    closeFunc(on, line, record);
    if (Number(event.csd) === 0) {
      const { head } = on.find(line, {
        is: ({ kind }) => kind === 'csd_function_exit',
        fits: () => true,
        extra: ({ kind }) => kind === 'tlb_flush' || kind === 'switch_mm',
      });
      if (head !== null) line.accept();
      return;
    }
    while (line.doing.at(-1) === event.func) {
      if (line.head() !== null) on.judge.resync('a call that ended early');
      line.abandon();
    }
    const call = on.calls.get(String(event.csd));
    if (call !== undefined) call.lock.value = false;
  },

  vector_entry(on, _line, { event, cpu }) {
    if (event.kind === 'vector_entry' && event.irq.startsWith('call_function'))
      on.model.queues[cpu]?.taking(on.model.seq);
  },

  vector_exit(on, _line, { event, cpu }) {
    if (event.kind !== 'vector_exit' || !event.irq.startsWith('call_function')) return;
    on.model.queues[cpu]?.took(on.model.seq);
    on.model.k.calls.queue(cpu).value = null;
  },
};

/** A lazy CPU is called, so tables were freed: it will run this. */
function callAnyway({ model: { k } }: Lockstepper, csd: Csd, asked: FlushTlbInfo): void {
  csd.run = { name: 'flush_tlb_func', run: (info) => x86(k).fn.flushTlbFunc(k, info) };
  csd.info = asked;
}

const symbolOf = (callsite: string): string => callsite.split('+', 1)[0] ?? '';

/** The caller runs the function itself: without a call_single_data. */
function localPart(on: Lockstepper, line: Line, record: RecordedRecord): void {
  const { head } = on.find(line, {
    is: ({ kind }) => kind === 'csd_function_entry',
    fits: () => true,
    ...passSending(on, record),
  });
  if (head !== null) line.accept();
  const { flush } = on.at(record);
  if (flush !== null && !flush.vectorJudged && flush.queued.length > 0)
    judgeVector(on, flush, [], []);
}

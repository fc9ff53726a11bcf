/** What starts a flush, and what the initiator does. */
import { x86 } from '@shootdown/arch-x86';
import type { RecordedRecord } from '@shootdown/trace';
import { CALL_HANDLERS, endFlush } from './calls.ts';
import {
  closeFunc,
  endOf,
  handleFlushed,
  handleFunc,
  infoIn,
  judgeInfo,
  judgeSend,
  sizeOf,
} from './funcs.ts';
import { type FlushInFlight, newFlush } from './going.ts';
import type { Handler } from './handler.ts';
import type { Line } from './line.ts';
import type { Lockstepper } from './lockstep.ts';
import { maskOf } from './masks.ts';
import type { KnownMm } from './model.ts';
import { field, mask, number } from './payload.ts';
import { goesBack, judgeGenerationRead, judgeMaskRead, raiseBatched } from './probeReads.ts';
import { handleTaskSwitchFlush } from './switches.ts';

/** The flush that was going on on the record's CPU is over, and another begins. */
function beginFlush(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  flush: FlushInFlight,
): void {
  endFlush(on, record);
  line.head();
  if (line.busy && !line.ended) on.judge.resync('a task was taken off its flush');
  // Where calls are not recorded nobody sees them end: whoever calls again has waited for it.
  if (!on.model.recorded.has('csd_queue_cpu')) takeCalls(on, record.cpu);
  on.at(record).flush = flush;
}

const broadcast = (on: Lockstepper): FlushInFlight =>
  newFlush('broadcast', null, true, on.model.seq);

/** All calls of CPU `from` have been taken and run. */
export function takeCalls(on: Lockstepper, from: number): void {
  const { k, machine } = on.model;
  for (const { id } of machine.cpus) {
    if (id === from) continue;
    const csd = k.calls.csd(machine.cpu(from).id, id);
    if (!csd.lock.value) continue;
    csd.lock.value = false;
    k.calls.queue(id).value = null;
  }
}

/** The mm at `at` that a task flushes. */
function flushedMm(
  on: Lockstepper,
  { cpu, task }: RecordedRecord,
  at: string,
  before: number | null,
): KnownMm {
  const known = on.model.find(at);
  const pid = task?.pid ?? -1;
  // Until execve() switches, what it flushes and has not loaded is the mm that it is making.
  const making = on.inExec.has(pid) && known?.mm !== on.model.cpu(cpu).loaded;
  if (making && on.made.get(pid) !== at) {
    on.made.set(pid, at);
    return on.model.newMmAt(at, on.bears);
  }
  // A generation never goes back: another mm is there now.
  const another = known !== null && before !== null && goesBack(on, known, before);
  return known === null || another ? on.model.newMmAt(at, false) : known;
}

/** Flushes. */
export const FLUSH_HANDLERS: Readonly<Record<string, Handler>> = {
  ...CALL_HANDLERS,

  flush_tlb_mm_range(on, line, record, payload) {
    const at = field(payload, 'mm');
    const before = number(payload, 'gen_before');
    if (at === null) return;
    const entry = flushedMm(on, record, at, before);
    const info = {
      mm: entry.mm,
      start: number(payload, 'start') ?? 0,
      end: endOf(payload),
      strideShift: number(payload, 'stride') ?? 12,
      freedTables: number(payload, 'freed') === 1,
    };
    const { k, seq } = on.model;
    beginFlush(on, line, record, newFlush('mm', entry, info.freedTables, seq));
    line.begin('flush_tlb_mm_range', 'task', true, () => k.backend.flushTlbMmRange(k, info));
    if (before !== null) judgeGenerationRead(on, line, entry, before);
    const recorded = mask(payload, 'mask');
    if (recorded !== null) judgeMaskRead(on, line, entry, recorded);
    line.accept();
  },

  flush_tlb_multi(on, line, record, payload) {
    const { flush } = on.at(record);
    if (flush === null) return;
    const { entry } = flush;
    const recorded = infoIn(on, record, payload, entry);
    const cpus = mask(payload, 'mask') ?? 0n;
    const { how, head } = on.find(line, {
      is: ({ kind }) => kind === 'flush_tlb_multi',
      fits: (other) =>
        other.kind === 'flush_tlb_multi' &&
        other.info.newTlbGen === recorded.newTlbGen &&
        other.info.end === recorded.end &&
        other.info.start === recorded.start,
    });
    const { k, machine } = on.model;
    if (head === null) {
      const targets = maskOf(machine.count, cpus);
      judgeSend(on, flush, null, 'a local flush', `flush_tlb_multi to ${targets.toString()}`);
      on.judge.resync('flush_tlb_mm_range');
      line.begin('flush_tlb_multi', 'task', true, () =>
        x86(k).pv.flushTlbMulti(k, targets, recorded),
      );
    } else if (head.kind === 'flush_tlb_multi' && entry !== null) {
      judgeInfo(on, entry, how, head.info, recorded);
      judgeMaskRead(on, line, entry, cpus);
    }
    flush.multi = true;
    flush.freed = recorded.freedTables;
    const { newTlbGen } = head?.kind === 'flush_tlb_multi' ? head.info : recorded;
    const { start, end, trimCpumask } = recorded;
    line.accept({ start, end, newTlbGen, trimCpumask });
  },

  flush_tlb_func: handleFunc,

  tlb_flush(on, line, record) {
    const { event } = record;
    if (event.kind !== 'tlb_flush') return;
    const { reason, pages } = event;
    if (reason === 0) return handleTaskSwitchFlush(on, line, record, pages);
    if (reason !== 4) return handleFlushed(on, line, record, event);
    const { flush } = on.at(record);
    if (flush === null) return;
    const { how, head } = on.find(line, {
      is: (other) => other.kind === 'tlb_flush' && other.reason === 4,
      fits: (other) => other.kind === 'tlb_flush' && other.pages === pages,
    });
    judgeSend(
      on,
      flush,
      how,
      head?.kind === 'tlb_flush' ? sizeOf(head.pages) : 'none',
      sizeOf(pages),
    );
    if (head !== null) line.accept();
  },

  flush_tlb_mm_range_ret(on, line, record) {
    closeFunc(on, line, record);
    if (on.at(record).flush !== null && line.head() === null) takeCalls(on, record.cpu);
    const { head } = on.find(line, {
      is: ({ kind }) => kind === 'flush_tlb_mm_range_ret',
      fits: () => true,
      extra: () => true,
    });
    if (head !== null) line.accept();
    endFlush(on, record);
  },

  batch_flush(on, line, record, payload) {
    const cpus = mask(payload, 'mask') ?? 0n;
    const { k, machine, seq } = on.model;
    raiseBatched(on, line, record.task?.pid ?? -1, cpus);
    const batch = { cpumask: maskOf(machine.count, cpus), unmappedPages: true };
    beginFlush(on, line, record, newFlush('batch', null, false, seq));
    line.begin('arch_tlbbatch_flush', 'task', true, () => k.backend.batchFlush(k, batch));
  },

  table_sync(on, line, record) {
    const { k } = on.model;
    beginFlush(on, line, record, broadcast(on));
    line.begin('tlb_remove_table_sync_one', 'task', true, () => k.fn.tlbRemoveTableSyncOne(k));
  },

  flush_all(on, line, record) {
    const { k } = on.model;
    beginFlush(on, line, record, broadcast(on));
    line.begin('flush_tlb_all', 'task', true, () => k.backend.flushTlbAll(k));
  },

  flush_kernel(on, line, record, payload) {
    const { k } = on.model;
    beginFlush(on, line, record, broadcast(on));
    const start = number(payload, 'start') ?? 0;
    line.begin('flush_tlb_kernel_range', 'task', true, () =>
      k.backend.flushTlbKernelRange(k, start, endOf(payload)),
    );
  },
};

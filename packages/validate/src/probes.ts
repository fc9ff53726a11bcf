/** What each record of a recording with probes means to the driver. */
import { contextOf, type FlushTlbInfo, tlbstate, x86 } from '@shootdown/arch-x86';
import type { RecordedRecord, SysEnter } from '@shootdown/trace';
import { TLB_FLUSH_ALL } from '@shootdown/mmu-gather';
import { Known, least, type Level } from './knowledge.ts';
import type { Head, Line } from './line.ts';
import {
  bitsOf,
  type FlushInFlight,
  type FuncInFlight,
  type Lockstepper,
  maskOf,
} from './lockstep.ts';
import type { KnownMm } from './model.ts';
import { field, mask, number } from './payload.ts';
import { closeSwitch, handleCr3, handleSwitch, handleTaskSwitchFlush } from './switches.ts';

/** What to do with a record. */
export type Handler = (
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  payload: string,
) => void;

const OLD_MM = 'mm from before the recording';
const OLD_CPU = 'what the CPU had loaded before the recording';

/** The functions that the model has CPUs call. */
const OURS: ReadonlySet<string> = new Set([
  'flush_tlb_func',
  'tlb_remove_table_smp_sync',
  'do_flush_tlb_all',
  'do_kernel_range_flush',
]);

const newFlush = (
  what: FlushInFlight['what'],
  entry: KnownMm | null,
  freed: boolean,
): FlushInFlight => ({
  entry,
  what,
  freed,
  multi: false,
  queued: [],
  callsite: '',
  vectorJudged: false,
});

/** Books the interrupts of a flush that has ended. */
function endFlush(
  on: Lockstepper,
  going: { flush: FlushInFlight | null },
  record: RecordedRecord,
): void {
  const { flush } = going;
  if (flush !== null && !flush.vectorJudged && flush.queued.length > 0)
    judgeVector(on, flush, [], record, []);
  going.flush = null;
}

function judgeVector(
  on: Lockstepper,
  flush: FlushInFlight,
  ours: readonly number[],
  record: RecordedRecord,
  recorded: readonly number[],
): void {
  flush.vectorJudged = true;
  const wrong = flush.queued.filter(
    ({ target }) => ours.includes(target) !== recorded.includes(target),
  );
  const open = wrong.every(
    ({ target, seq, alone }) => alone === null || on.model.queues[target]?.movedSince(seq) === true,
  );
  // An idle CPU that polls looks at its queue by itself: send_call_function_single_ipi().
  const polls = !open && recorded.length === 0 && ours.length === 1;
  on.judge.decide({
    kind: 'vector',
    how: wrong.length === 0 ? 'first' : open ? 'other' : null,
    basis: polls ? Known.no : Known.yes,
    missing: 'whether an idle CPU polls',
    ours: () => interrupts(ours),
    recorded: () => interrupts(recorded),
    because: () => `calls queued to ${flush.queued.map(({ target }) => target).join(',')}`,
  });
}

const interrupts = (cpus: readonly number[]): string =>
  cpus.length === 0
    ? 'no interrupt'
    : `vector ${cpus.length === 1 ? 251 : 252} to ${cpus.join(',')}`;

/**
 * A batch has raised the generation of every mm that it unmapped from, once per entry, unseen. Who
 * unmaps from his own mm is one of them; who else is, by shared pages or for another process, is
 * not known.
 */
function raiseBatched(on: Lockstepper, line: Line, pid: number, cpus: bigint): void {
  const loaded = tlbstate(on.model.k, line.cpu.id).loadedMm.value;
  const own =
    typeof loaded === 'symbol' || !on.unmappingOwn.has(pid) ? null : on.model.entryOf(loaded);
  if (own !== null) {
    contextOf(own.mm).tlbGen.value++;
    own.offset--;
    own.batches++;
  }
  const rest = own === null ? cpus : cpus & ~bitsOf(own.mm.cpumask.value);
  if (rest === 0n) return;
  for (const entry of on.model.mms)
    if (entry !== own && (bitsOf(entry.mm.cpumask.value) & rest) !== 0n) on.doubt(entry);
}

/** Whether `cpu` should be interrupted for `entry`: how well that is known. */
function basisOfShould(on: Lockstepper, cpu: number, entry: KnownMm | null): Level {
  const known = on.model.known[cpu];
  if (known === undefined) return Known.no;
  if (entry === null) return known.lazy ? Known.yes : Known.no;
  if (!known.loaded) return entry.born ? Known.yes : Known.no;
  const state = tlbstate(on.model.k, on.model.machine.cpu(cpu).id);
  if (state.loadedMm.value !== entry.mm) return Known.yes;
  return known.lazy ? Known.yes : Known.no;
}

/** What flush_tlb_func() will do on `cpu`: how well that is known. */
function basisOfFunc(on: Lockstepper, cpu: number, entry: KnownMm | null): Level {
  const known = on.model.known[cpu];
  if (known === undefined) return Known.no;
  if (!known.loaded) return entry !== null && entry.born ? Known.yes : Known.no;
  const state = tlbstate(on.model.k, on.model.machine.cpu(cpu).id);
  if (entry !== null && state.loadedMm.value !== entry.mm) return Known.yes;
  return known.lazy && known.gens[state.loadedMmAsid] === true ? Known.yes : Known.no;
}

const describe = (on: Lockstepper, cpu: number): string => {
  const state = tlbstate(on.model.k, on.model.machine.cpu(cpu).id);
  const loaded = state.loadedMm.value;
  const name = typeof loaded === 'symbol' ? 'LOADED_MM_SWITCHING' : loaded.name;
  const ctx = state.ctxs[state.loadedMmAsid];
  return `CPU ${cpu}: loaded_mm=${name} is_lazy=${state.isLazy.value} tlb_gen=${ctx?.tlbGen ?? '?'}`;
};

/** flush_tlb_func() is over: without a tlb_flush event it did nothing. */
export function closeFunc(on: Lockstepper, line: Line, record: RecordedRecord): void {
  const going = on.at(record);
  const { func } = going;
  going.func = null;
  if (func === null || !on.seen.has('tlb_flush')) return;
  const shows = line.head()?.kind === 'tlb_flush';
  const how = shows ? line.explain((head) => head?.kind !== 'tlb_flush') : 'first';
  judgeFunc(on, record, func, how, shows ? 'a flush' : 'nothing', 'nothing');
  if (how === null) {
    on.judge.resync('flush_tlb_func');
    line.accept();
  }
}

function judgeFunc(
  on: Lockstepper,
  record: RecordedRecord,
  func: FuncInFlight,
  how: 'first' | 'other' | null,
  ours: string,
  recorded: string,
): void {
  on.judge.decide({
    kind: 'flush',
    how,
    basis: func.basis,
    missing: func.missing,
    ours: () => ours,
    recorded: () => recorded,
    because: () => `${describe(on, record.cpu)}, asked for tlb_gen ${func.info?.newTlbGen ?? '?'}`,
  });
}

const sizeOf = (pages: number): string => (pages === -1 ? 'full' : `${pages} pages`);

const infoFrom = (
  on: Lockstepper,
  record: RecordedRecord,
  payload: string,
  entry: KnownMm | null,
): FlushTlbInfo => ({
  mm: entry?.mm ?? null,
  start: number(payload, 'start') ?? 0,
  end: endOf(payload),
  strideShift: number(payload, 'stride') ?? 12,
  freedTables: number(payload, 'freed') === 1,
  newTlbGen: entry === null ? 0 : (number(payload, 'gen') ?? 0) - entry.offset,
  initiatingCpu: on.model.machine.cpu(number(payload, 'init') ?? record.cpu).id,
  trimCpumask: number(payload, 'trim') === 1,
});

const endOf = (payload: string): number => {
  const end = number(payload, 'end') ?? 0;
  return end === Infinity ? TLB_FLUSH_ALL : end;
};

const NO_MM = /^(?:0x)?0+$/;

function entryIn(on: Lockstepper, payload: string): KnownMm | null {
  const at = field(payload, 'mm');
  return at === null || NO_MM.test(at) ? null : on.model.mmAt(at);
}

/** Handlers by the event's name. */
export const HANDLERS: Readonly<Record<string, Handler>> = {
  flush_tlb_mm_range(on, line, record, payload) {
    const at = field(payload, 'mm');
    const before = number(payload, 'gen_before');
    if (at === null) return;
    const exec = on.inExec.has(record.task?.pid ?? -1);
    let entry = on.model.find(at);
    // A generation never goes back: another mm is there now.
    if (entry === null || (before !== null && before < entry.offset))
      entry = on.model.newMmAt(at, exec || before === 0);
    const { mm } = entry;
    const info = {
      mm,
      start: number(payload, 'start') ?? 0,
      end: endOf(payload),
      strideShift: number(payload, 'stride') ?? 12,
      freedTables: number(payload, 'freed') === 1,
    };
    const going = on.at(record);
    endFlush(on, going, record);
    if (line.busy && !line.ended) on.judge.resync('a task was taken off its flush');
    const { k } = on.model;
    line.begin('flush_tlb_mm_range', 'task', true, () => k.backend.flushTlbMmRange(k, info));
    going.flush = newFlush('mm', entry, info.freedTables);
    if (before !== null) on.generation(line, entry, contextOf(mm).tlbGen, before);
    const recorded = mask(payload, 'mask');
    if (recorded !== null) on.cpumask(line, entry, recorded);
    line.accept();
  },

  flush_tlb_multi(on, line, record, payload) {
    const { flush } = on.at(record);
    if (flush === null) return;
    const entry = flush.entry;
    const recorded = infoFrom(on, record, payload, entry);
    const cpus = mask(payload, 'mask');
    const { how, head } = on.find(line, {
      is: ({ kind }) => kind === 'flush_tlb_multi',
      fits: (other) =>
        other.kind === 'flush_tlb_multi' &&
        other.info.newTlbGen === recorded.newTlbGen &&
        other.info.end === recorded.end &&
        other.info.start === recorded.start,
    });
    if (head === null || head.kind !== 'flush_tlb_multi') {
      on.judge.decide({
        kind: 'send',
        how: null,
        basis: entry?.mask ?? Known.yes,
        missing: OLD_MM,
        ours: () => 'a local flush',
        recorded: () =>
          `flush_tlb_multi to ${maskOf(on.model.lines.length, cpus ?? 0n).toString()}`,
        because: () => `mm_cpumask ${entry?.mm.cpumask.value.toString() ?? ''}`,
      });
      on.judge.resync('flush_tlb_multi');
      const { k } = on.model;
      const targets = maskOf(on.model.lines.length, cpus ?? 0n);
      line.begin('flush_tlb_multi', 'task', true, () =>
        x86(k).pv.flushTlbMulti(k, targets, recorded),
      );
    } else {
      const { info } = head;
      if (entry !== null) {
        const sameGen = info.newTlbGen === recorded.newTlbGen;
        const gen = info.newTlbGen + entry.offset;
        on.judgeGeneration(
          entry,
          sameGen ? (how ?? 'first') : null,
          gen,
          recorded.newTlbGen + entry.offset,
        );
        const sameRange = info.start === recorded.start && info.end === recorded.end;
        on.judge.decide({
          kind: 'range',
          how: sameRange ? 'first' : null,
          basis: Known.yes,
          ours: () => `${info.start.toString(16)}-${info.end.toString(16)}`,
          recorded: () => `${recorded.start.toString(16)}-${recorded.end.toString(16)}`,
          because: () => `stride 2^${info.strideShift}`,
        });
      }
    }
    if (entry !== null && cpus !== null) on.cpumask(line, entry, cpus);
    flush.multi = true;
    flush.freed = recorded.freedTables;
    const { start, end, trimCpumask } = recorded;
    const { newTlbGen } = head?.kind === 'flush_tlb_multi' ? head.info : recorded;
    line.accept({ start, end, newTlbGen, trimCpumask });
  },

  should_flush(on, line, record, payload) {
    const { flush } = on.at(record);
    const cpu = number(payload, 'cpu');
    const ret = number(payload, 'ret') === 1;
    if (flush === null || cpu === null) return;
    const basis = basisOfShould(on, cpu, flush.entry);
    const { how, head } = on.find(line, {
      is: (other) => other.kind === 'should_flush' && other.cpu === cpu,
      fits: (other) => other.kind === 'should_flush' && other.answer === ret,
      extra: (other) =>
        (other.kind === 'should_flush' && other.cpu < cpu) ||
        (other.kind === 'csd_queue_cpu' && other.target < cpu) ||
        other.kind === 'ipi_send',
    });
    on.judge.decide({
      kind: 'should_flush',
      how,
      basis: flush.what === 'broadcast' ? Known.no : basis,
      missing: flush.entry === null || flush.entry.born ? OLD_CPU : OLD_MM,
      ours: () => (head?.kind === 'should_flush' ? String(head.answer) : 'not asked'),
      recorded: () => String(ret),
      because: () => describe(on, cpu),
    });
    if (head === null) return;
    if (how === null) on.judge.resync('should_flush_tlb');
    line.accept(ret);
  },

  flush_tlb_func(on, line, record, payload) {
    const going = on.at(record);
    const entry = entryIn(on, payload);
    const recorded = infoFrom(on, record, payload, entry);
    if (going.strangerCall) {
      going.strangerCall = false;
      const { k } = on.model;
      line.begin('flush_tlb_func', 'interrupt', false, () => x86(k).fn.flushTlbFunc(k, recorded));
    }
    const { flush } = going;
    const remote = recorded.initiatingCpu !== record.cpu;
    const { how, head } = on.find(line, {
      is: ({ kind }) => kind === 'flush_tlb_func',
      fits: (other) =>
        other.kind === 'flush_tlb_func' &&
        other.info.newTlbGen === recorded.newTlbGen &&
        other.info.start === recorded.start &&
        other.info.end === recorded.end,
      extra: ({ kind }) =>
        kind === 'ipi_send' || kind === 'should_flush' || kind === 'csd_queue_cpu',
    });
    const local = flush !== null && !remote && !flush.multi;
    if (head === null && local) {
      on.judge.decide({
        kind: 'send',
        how: null,
        basis: flush.entry?.mask ?? Known.yes,
        missing: OLD_MM,
        ours: () => line.head()?.kind ?? 'nothing',
        recorded: () => 'a local flush',
        because: () => `mm_cpumask ${flush.entry?.mm.cpumask.value.toString() ?? ''}`,
      });
      on.judge.resync('flush_tlb_func');
      const { k } = on.model;
      line.begin('flush_tlb_func', 'task', false, () => x86(k).fn.flushTlbFunc(k, recorded));
    } else if (head?.kind === 'flush_tlb_func' && local && entry !== null) {
      const { info } = head;
      const sameGen = info.newTlbGen === recorded.newTlbGen;
      on.judgeGeneration(
        entry,
        sameGen ? (how ?? 'first') : null,
        info.newTlbGen + entry.offset,
        recorded.newTlbGen + entry.offset,
      );
      on.judge.decide({
        kind: 'range',
        how: info.start === recorded.start && info.end === recorded.end ? 'first' : null,
        basis: Known.yes,
        ours: () => `${info.start.toString(16)}-${info.end.toString(16)}`,
        recorded: () => `${recorded.start.toString(16)}-${recorded.end.toString(16)}`,
        because: () => `stride 2^${info.strideShift}`,
      });
      on.judge.decide({
        kind: 'send',
        how: 'first',
        basis: entry.mask,
        missing: OLD_MM,
        ours: () => 'a local flush',
        recorded: () => 'a local flush',
        because: () => '',
      });
    } else if (head === null) return;
    const basis = basisOfFunc(on, record.cpu, entry);
    const missing = entry === null || entry.born ? OLD_CPU : OLD_MM;
    const { start, end } = recorded;
    const { newTlbGen } = head?.kind === 'flush_tlb_func' ? head.info : recorded;
    going.func = { info: { ...recorded, newTlbGen }, basis, missing, remote };
    line.accept({ start, end, newTlbGen });
  },

  flush_tlb_mm_range_ret(on, line, record) {
    const going = on.at(record);
    closeFunc(on, line, record);
    const { flush } = going;
    if (flush !== null && line.head() === null) unlockAll(on, record.cpu);
    on.find(line, {
      is: ({ kind }) => kind === 'flush_tlb_mm_range_ret',
      fits: () => true,
      extra: () => true,
    });
    if (line.head()?.kind === 'flush_tlb_mm_range_ret') line.accept();
    endFlush(on, going, record);
  },

  tlb_flush(on, line, record) {
    const { event } = record;
    if (event.kind !== 'tlb_flush') return;
    const { reason, pages } = event;
    const going = on.at(record);
    if (reason === 0) {
      handleTaskSwitchFlush(on, line, record, pages);
      return;
    }
    const isIt = (head: Head): boolean =>
      head.kind === 'tlb_flush' && (reason === 4) === (head.reason === 4) && head.reason !== 0;
    if (reason === 4) {
      const { flush } = going;
      if (flush === null) return;
      const { how, head } = on.find(line, {
        is: isIt,
        fits: (other) => other.kind === 'tlb_flush' && other.pages === pages,
      });
      on.judge.decide({
        kind: 'send',
        how,
        basis: flush.entry?.mask ?? Known.yes,
        missing: OLD_MM,
        ours: () => (head?.kind === 'tlb_flush' ? sizeOf(head.pages) : 'none'),
        recorded: () => sizeOf(pages),
        because: () => `mm_cpumask ${flush.entry?.mm.cpumask.value.toString() ?? 'of the batch'}`,
      });
      if (head !== null) line.accept();
      return;
    }
    const { func } = going;
    going.func = null;
    const { how, head } = on.find(line, {
      is: isIt,
      fits: (other) =>
        other.kind === 'tlb_flush' && other.pages === pages && other.reason === reason,
    });
    if (func !== null)
      judgeFunc(
        on,
        record,
        func,
        how,
        head?.kind === 'tlb_flush' ? `reason ${head.reason}, ${sizeOf(head.pages)}` : 'nothing',
        `reason ${reason}, ${sizeOf(pages)}`,
      );
    if (head !== null) line.accept();
    if (how === null) on.judge.resync('flush_tlb_func');
    flushed(on, record.cpu, func?.info?.mm ?? null, head !== null);
  },

  switch_mm: handleSwitch,
  cr3_a: handleCr3,
  cr3_b: handleCr3,

  enter_lazy(on, line, record) {
    const { k, known } = on.model;
    line.begin('enter_lazy_tlb', 'task', false, () => k.backend.enterLazyTlb(k, line.cpu.id));
    const cpu = known[record.cpu];
    if (cpu !== undefined) cpu.lazy = cpu.loaded;
  },

  batch_flush(on, line, record, payload) {
    const cpus = mask(payload, 'mask') ?? 0n;
    const { k, lines } = on.model;
    raiseBatched(on, line, record.task?.pid ?? -1, cpus);
    const batch = { cpumask: maskOf(lines.length, cpus), unmappedPages: true };
    const going = on.at(record);
    endFlush(on, going, record);
    going.flush = newFlush('batch', null, false);
    line.begin('arch_tlbbatch_flush', 'task', true, () => k.backend.batchFlush(k, batch));
  },

  table_sync(on, line, record) {
    const { k } = on.model;
    broadcast(on, line, record);
    line.begin('tlb_remove_table_sync_one', 'task', true, () => k.fn.tlbRemoveTableSyncOne(k));
  },

  flush_all(on, line, record) {
    const { k } = on.model;
    broadcast(on, line, record);
    line.begin('flush_tlb_all', 'task', true, () => k.backend.flushTlbAll(k));
  },

  flush_kernel(on, line, record, payload) {
    const { k } = on.model;
    broadcast(on, line, record);
    const start = number(payload, 'start') ?? 0;
    line.begin('flush_tlb_kernel_range', 'task', true, () =>
      k.backend.flushTlbKernelRange(k, start, endOf(payload)),
    );
  },

  csd_queue_cpu(on, line, record) {
    const { event } = record;
    if (event.kind !== 'csd_queue_cpu') return;
    const { target, func, callsite } = event;
    const csd = String(event.csd);
    const queue = on.model.queues[target];
    const { flush } = on.at(record);
    const seq = on.model.seq;
    if (!OURS.has(func) || flush === null) {
      queue?.add(csd, seq);
      on.model.k.calls.queue(event.target).value ??= on.stranger(record.cpu, target);
      return;
    }
    const own = on.model.k.calls.csd(record.cpu, target);
    // Whoever queues it again has found it unlocked.
    if (line.head() === null) own.lock.value = false;
    const { how, head } = on.find(line, {
      is: (other) => other.kind === 'csd_queue_cpu' && other.target === target,
      fits: (other) => other.kind === 'csd_queue_cpu' && other.func === func,
      extra: (other) => other.kind === 'csd_queue_cpu' && other.target < target,
    });
    const kind =
      flush.what === 'broadcast' ? 'broadcast' : flush.freed ? 'targets_freed' : 'targets_kept';
    on.judge.decide({
      kind,
      how,
      basis:
        kind === 'broadcast' || flush.entry === null
          ? Known.yes
          : kind === 'targets_freed'
            ? flush.entry.mask
            : least(flush.entry.mask, basisOfShould(on, target, flush.entry)),
      missing: OLD_MM,
      ours: () => (head === null ? `${line.head()?.kind ?? 'nothing'}` : `CPU ${target}`),
      recorded: () => `CPU ${target}`,
      because: () => describe(on, target),
    });
    on.calls.set(csd, own);
    flush.callsite = callsite;
    flush.queued.push({ target, seq, alone: queue?.add(csd, seq) ?? null });
    if (head !== null) line.accept();
  },

  smp_many(_on, line) {
    // The mask is copied now.
    line.head();
  },

  ipi_send(on, line, record) {
    const { event } = record;
    const { flush } = on.at(record);
    if (event.kind !== 'ipi_send' || flush === null || flush.queued.length === 0) return;
    if (event.callsite.split('+')[0] !== flush.callsite.split('+')[0] || flush.vectorJudged) return;
    const { head } = on.find(line, { is: ({ kind }) => kind === 'ipi_send', fits: () => true });
    const ours = head?.kind === 'ipi_send' ? (head.targets ?? []) : [];
    judgeVector(on, flush, ours, record, event.targets ?? []);
    if (head !== null) line.accept();
  },

  csd_function_entry(on, line, record) {
    const { event } = record;
    if (event.kind !== 'csd_function_entry') return;
    const csd = String(event.csd);
    const local = Number(event.csd) === 0;
    const { flush } = on.at(record);
    if (local) {
      if (!OURS.has(event.func)) return;
      const { head } = on.find(line, {
        is: ({ kind }) => kind === 'csd_function_entry',
        fits: () => true,
        extra: ({ kind }) =>
          kind === 'ipi_send' || kind === 'should_flush' || kind === 'csd_queue_cpu',
      });
      if (head !== null) line.accept();
      if (flush !== null && !flush.vectorJudged && flush.queued.length > 0)
        judgeVector(on, flush, [], record, []);
      return;
    }
    const queue = on.model.queues[record.cpu];
    queue?.took(on.model.seq);
    on.model.k.calls.queue(record.cpu).value = null;
    const known = queue?.ran(csd) === true;
    if (!OURS.has(event.func)) return;
    const call = known ? on.calls.get(csd) : undefined;
    if (call?.run === undefined || call.run === null) {
      on.at(record).strangerCall = event.func === 'flush_tlb_func';
      return;
    }
    const { run, info } = call;
    line.begin(event.func, 'interrupt', false, () => run.run(info as never));
  },

  csd_function_exit(on, line, record) {
    const { event } = record;
    if (event.kind !== 'csd_function_exit' || !OURS.has(event.func)) return;
    const csd = String(event.csd);
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
      if (line.head() !== null) on.judge.resync('a call ended early');
      line.abandon();
    }
    const call = on.calls.get(csd);
    if (call !== undefined) call.lock.value = false;
  },

  vector_entry(on, _line, record) {
    if (record.event.kind !== 'vector_entry' || !record.event.irq.startsWith('call_function'))
      return;
    on.model.queues[record.cpu]?.taking(on.model.seq);
  },

  vector_exit(on, _line, record) {
    if (record.event.kind !== 'vector_exit' || !record.event.irq.startsWith('call_function'))
      return;
    on.model.queues[record.cpu]?.took(on.model.seq);
    on.model.k.calls.queue(record.cpu).value = null;
  },

  sched_switch(on, _line, record) {
    const { event } = record;
    if (event.kind !== 'sched_switch') return;
    const going = on.at(record);
    if (RECLAIMS.test(event.prevComm)) on.unmapping.delete(event.prevPid);
    if (RECLAIMS.test(event.nextComm)) on.unmapping.add(event.nextPid);
    going.nextPid = event.nextPid;
    going.switchedAt = on.model.seq;
  },

  sched_process_fork(on, _line, record, payload) {
    const child = number(payload, 'child_pid');
    if (child !== null && !on.sharing.has(record.task?.pid ?? -1)) on.forked.add(child);
  },

  sys_enter(on, _line, record) {
    const { event, task } = record;
    if (event.kind !== 'sys_enter' || task === null) return;
    if (event.syscall === 'execve' || event.syscall === 'execveat') on.inExec.add(task.pid);
    if (MIGRATES.has(event.syscall) && !on.seen.has('mm_migrate_pages_start'))
      on.unmapping.add(task.pid);
    if (pagesOut(event)) on.unmapping.add(task.pid);
    if (OWN.has(event.syscall)) on.unmappingOwn.add(task.pid);
    const at = event.args.indexOf('clone_flags');
    const flags = at === -1 ? 0 : (event.values[at] ?? 0);
    if (event.syscall === 'clone3' || (event.syscall === 'clone' && (flags & CLONE_VM) !== 0))
      on.sharing.add(task.pid);
    else if (event.syscall === 'clone' || event.syscall === 'fork') on.sharing.delete(task.pid);
  },

  sys_exit(on, _line, record) {
    const { event, task } = record;
    if (event.kind !== 'sys_exit') return;
    on.inExec.delete(task?.pid ?? -1);
    on.unmapping.delete(task?.pid ?? -1);
    on.unmappingOwn.delete(task?.pid ?? -1);
  },

  mm_migrate_pages_start(on, _line, record) {
    on.unmapping.add(record.task?.pid ?? -1);
  },

  mm_migrate_pages(on, _line, record) {
    on.unmapping.delete(record.task?.pid ?? -1);
  },
};

const CLONE_VM = 0x100;

/** Kernel threads that unmap in batches: reclaim, and who acts for it; compaction is seen to migrate. */
const RECLAIMS = /^(?:kswapd|kdamond)/;

/** System calls that migrate or reclaim, and so put flushes off: try_to_unmap_flush(). */
const MIGRATES: ReadonlySet<string> = new Set([
  'mbind',
  'migrate_pages',
  'move_pages',
  'set_mempolicy_home_node',
]);
const MADV_COLD = 20;
const MADV_PAGEOUT = 21;

/** Those that unmap from the mm of who calls. */
const OWN: ReadonlySet<string> = new Set(['mbind', 'madvise']);

function pagesOut({ syscall, args, values }: SysEnter): boolean {
  const behavior = values[args.indexOf('behavior')] ?? values[2];
  if (syscall === 'process_madvise') return true;
  return syscall === 'madvise' && (behavior === MADV_COLD || behavior === MADV_PAGEOUT);
}

function broadcast(on: Lockstepper, _line: Line, record: RecordedRecord): void {
  const going = on.at(record);
  endFlush(on, going, record);
  going.flush = newFlush('broadcast', null, true);
}

function unlockAll(on: Lockstepper, from: number): void {
  const { k, lines } = on.model;
  for (const { cpu } of lines)
    if (cpu.id !== from) k.calls.csd(on.model.machine.cpu(from).id, cpu.id).lock.value = false;
}

/** A CPU was seen to flush: it is up to date. */
function flushed(on: Lockstepper, cpu: number, mm: KnownMm['mm'] | null, ours: boolean): void {
  const known = on.model.known[cpu];
  const state = tlbstate(on.model.k, on.model.machine.cpu(cpu).id);
  if (known === undefined) return;
  if (!ours && mm !== null && state.loadedMm.value !== mm) on.model.loadOlder(cpu, mm);
  const loaded = state.loadedMm.value;
  if (typeof loaded === 'symbol') return;
  const ctx = state.ctxs[state.loadedMmAsid];
  if (ctx !== undefined && !ours) ctx.tlbGen = contextOf(loaded).tlbGen.value;
  if (!known.loaded) return;
  known.gens[state.loadedMmAsid] = true;
  known.lazy = true;
}

export { closeSwitch };

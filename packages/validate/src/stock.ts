/**
 * What records mean without probes: the stock tracepoints, with or without csd events. The mm is the
 * task's, a flush begins with the event that says so, and whether tables were freed nobody says.
 */
import { contextOf, type FlushTlbInfo, x86 } from '@shootdown/arch-x86';
import { type Kernel, type Kthread, PAGE_SHIFT, TLB_FLUSH_ALL } from '@shootdown/mmu-gather';
import type { CsdQueueCpu, RecordedRecord, TlbFlush } from '@shootdown/trace';
import { basisOfFunc } from './bases.ts';
import { MISSING } from './missing.ts';
import { CALL_HANDLERS, endFlush } from './calls.ts';
import { takeCalls } from './flushes.ts';
import { closeFunc, doubtOrder, judgeFunc, sizeOf, upToDate } from './funcs.ts';
import { type FuncInFlight, newFlush } from './going.ts';
import type { Handler } from './handler.ts';
import { Known } from './knowledge.ts';
import type { Line } from './line.ts';
import type { Lockstepper } from './lockstep.ts';
import type { KnownMm } from './model.ts';
import { number } from './payload.ts';
import { doubt } from './probeReads.ts';
import { beginSwitch, handleTaskSwitchFlush, switchTo } from './switches.ts';
import { isBeforeExitMm, TASK_HANDLERS } from './tasks.ts';

/** Pages of 4 KiB to an entry of a flush of huge ones. */
const HUGE = 512;

/** What a flush of `pages` asks for: which pages does not matter to what is decided. */
function infoOf(on: Lockstepper, cpu: number, entry: KnownMm, pages: number): FlushTlbInfo {
  const all = pages === -1;
  return {
    mm: entry.mm,
    start: 0,
    end: all ? TLB_FLUSH_ALL : pages * 2 ** PAGE_SHIFT,
    strideShift: PAGE_SHIFT,
    freedTables: false,
    newTlbGen: contextOf(entry.mm).tlbGen.value,
    initiatingCpu: on.model.machine.cpu(cpu).id,
    trimCpumask: false,
  };
}

/** A task's mm is the one that its CPU has loaded: or somebody was taken for somebody else. */
function mustBeLoaded(on: Lockstepper, { cpu }: RecordedRecord, entry: KnownMm): void {
  const { loaded } = on.model.cpu(cpu);
  if (loaded === entry.mm) return;
  entry.vague = true;
  const other = on.model.entryOf(loaded);
  if (other !== null && loaded !== on.model.k.initMm) other.vague = true;
}

/**
 * A flush raises the generation some time before it shows: whoever has flushed everything since the
 * record before may have seen that or not.
 */
function raise(on: Lockstepper, line: Line, entry: KnownMm): void {
  const { ctxId, tlbGen } = contextOf(entry.mm);
  line.write(tlbGen, tlbGen.value + 1);
  on.going.forEach(({ flushedAt }, cpu) => {
    if (flushedAt <= line.before || cpu === line.cpu.id) return;
    const { known, state } = on.model.cpu(cpu);
    const asid = state.ctxs.findIndex((ctx) => ctx.ctxId === ctxId);
    if (asid !== -1) known.gens[asid] = false;
  });
}

/** Whether a task in exit() flushes all of its mm: behind exit_mm(), then, and nobody else has it. */
function isLastFlush(on: Lockstepper, { task }: RecordedRecord, pages: number): boolean {
  if (task === null || pages !== -1 || !on.exiting.has(task.pid)) return false;
  on.exiting.set(task.pid, true);
  return true;
}

/** Reason 4: a flush with other CPUs in the mask begins. */
function beginSend(on: Lockstepper, line: Line, record: RecordedRecord, pages: number): void {
  endFlush(on, record);
  line.abandonAll();
  if (!on.model.recorded.has('csd_queue_cpu')) takeCalls(on, record.cpu);
  const entry = on.processes.flushed(record.task, pages);
  const { k, seq } = on.model;
  // A kernel thread flushes an mm that is not its own, and a batch is of any.
  if (entry === null || on.unmapping.size > 0) {
    on.at(record).flush = null;
    if (entry !== null) doubt(on, entry);
    return;
  }
  if (entry === on.processes.of(record.task)) mustBeLoaded(on, record, entry);
  // exit_mm() has borrowed it before the last flush.
  const exits = isLastFlush(on, record, pages);
  if (exits) becomeLazy(on, line, record);
  // The last flush of an mm, by exit() or behind execve(), is of its tables too.
  const freed = exits || entry !== on.processes.of(record.task);
  raise(on, line, entry);
  const info = { ...infoOf(on, record.cpu, entry, pages), freedTables: freed };
  const done = on.model.cpu(record.cpu).loaded !== entry.mm;
  const flush = { ...newFlush('mm', entry, freed, seq), multi: true, info, done };
  on.at(record).flush = flush;
  line.begin('flush_tlb_multi', 'task', true, () =>
    x86(k).pv.flushTlbMulti(k, entry.mm.cpumask, info),
  );
  line.pass();
}

/** A flush that concerns this CPU alone: its page count is what was asked for, if it is partial. */
function flushAlone(on: Lockstepper, line: Line, record: RecordedRecord, pages: number): void {
  endFlush(on, record);
  line.abandonAll();
  const entry = on.processes.of(record.task);
  if (entry === null) return;
  const { k } = on.model;
  mustBeLoaded(on, record, entry);
  if (isLastFlush(on, record, pages)) becomeLazy(on, line, record);
  raise(on, line, entry);
  const info = infoOf(on, record.cpu, entry, pages);
  const basis = basisOfFunc(on, record.cpu, entry);
  line.begin('flush_tlb_func', 'task', false, () => x86(k).fn.flushTlbFunc(k, info));
  const asked = pages === -1 ? { basis: Known.no, missing: MISSING.asked } : basis;
  judgeDone(on, line, record, { reason: 3, pages }, { ...asked, info });
}

/** Judges what a CPU has flushed. */
function judgeDone(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  { reason, pages }: { readonly reason: number; readonly pages: number },
  func: { readonly basis: 0 | 1 | 2; readonly missing: string; readonly info: FlushTlbInfo },
): void {
  const { how, head } = on.find(line, {
    is: (other) => other.kind === 'tlb_flush' && other.reason !== 4 && other.reason !== 0,
    fits: (other) => other.kind === 'tlb_flush' && other.reason === reason && other.pages === pages,
  });
  const ours = head?.kind === 'tlb_flush' ? head.pages : null;
  // Entries of 2 MiB are counted as such by who flushes, and in pages by who sends.
  const huge = ours !== null && ours !== -1 && pages === Math.floor(ours / HUGE);
  const basis = how === null && huge ? { basis: Known.no, missing: MISSING.stride } : func;
  const words = ours === null ? 'nothing' : `reason ${reason}, ${sizeOf(ours)}`;
  judgeFunc(on, record, { ...func, ...basis }, how, words, `reason ${reason}, ${sizeOf(pages)}`);
  if (head !== null) line.accept();
  if (how === null && !huge) on.judge.resync('flush_tlb_func');
  upToDate(on, record.cpu, func.info.mm, head !== null);
  if (pages === -1) doubtOrder(on, line);
}

/** Reason 1 where no call is recorded: of whose flush it is, as far as one is going on. */
function flushedRemotely(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  event: TlbFlush,
): void {
  const { loaded, state } = on.model.cpu(record.cpu);
  const reached = state.ctxs[state.loadedMmAsid]?.tlbGen ?? 0;
  const senders = on.going
    .flatMap(({ flush }) => flush?.info ?? [])
    .filter(({ mm, newTlbGen }) => mm === loaded && newTlbGen > reached)
    .toSorted((a, b) => a.newTlbGen - b.newTlbGen);
  const info = senders.at(-1);
  if (info === undefined) return;
  const { k } = on.model;
  const entry = on.model.entryOf(loaded);
  const sure = senders.length === 1 ? basisOfFunc(on, record.cpu, entry) : null;
  const basis = sure ?? { basis: Known.no, missing: MISSING.sender };
  line.begin('flush_tlb_func', 'interrupt', false, () => x86(k).fn.flushTlbFunc(k, info));
  judgeDone(on, line, record, event, { ...basis, info });
  line.abandon();
}

/** Handlers of the stock tracepoints. */
export const STOCK_HANDLERS: Readonly<Record<string, Handler>> = {
  ...CALL_HANDLERS,
  ...TASK_HANDLERS,

  sched_switch(on, line, record, payload) {
    TASK_HANDLERS['sched_switch']?.(on, line, record, payload);
    const { event } = record;
    if (event.kind !== 'sched_switch') return;
    on.processes.note(record.task);
    closeFunc(on, line, record);
    endFlush(on, record);
    buryDead(on, record, event.prevPid);
    const next = on.processes.mmOf(event.nextPid, event.nextComm);
    if (next === null || mayHaveNone(on, record, event.nextPid, next)) becomeLazy(on, line, record);
    else beginSwitch(on, line, record, next);
  },

  sched_process_exec(on, _line, { task }) {
    if (task !== null) on.processes.execEnded(task.pid);
  },

  sched_process_fork(on, line, record, payload) {
    const { task, event } = record;
    const child = number(payload, 'child_pid');
    if (child === null || task === null || event.kind !== 'other') return;
    TASK_HANDLERS['sched_process_fork']?.(on, line, record, payload);
    on.processes.fork(task, child, on.cloning.get(task.pid) ?? null);
  },

  sched_process_exit(on, line, record, payload) {
    const { task } = record;
    TASK_HANDLERS['sched_process_exit']?.(on, line, record, payload);
    if (task === null || on.processes.of(task) === null) return;
    if (isBeforeExitMm(payload)) {
      on.exiting.set(task.pid, false);
      return;
    }
    // exit_mm() is behind it: the mm is borrowed now.
    becomeLazy(on, line, record);
    on.processes.exit(task.pid);
  },

  tlb_flush(on, line, record) {
    const { event } = record;
    if (event.kind !== 'tlb_flush') return;
    const { reason, pages } = event;
    const going = on.at(record);
    if (reason === 0) {
      if (going.func !== null) leaves(on, line, record, going.func);
      else if (going.switching === null) outsideSchedule(on, line, record);
      return handleTaskSwitchFlush(on, line, record, pages);
    }
    if (reason === 4) return beginSend(on, line, record, pages);
    if (reason === 1 && going.func === null && !on.model.recorded.has('csd_function_entry'))
      return flushedRemotely(on, line, record, event);
    const { func, flush } = going;
    going.func = null;
    if (func !== null) return judgeDone(on, line, record, event, func);
    if (reason !== 3) return upToDate(on, record.cpu, null, false);
    // The local part of a call is one as well.
    const alone =
      flush === null ||
      flush.info === null ||
      flush.done ||
      on.model.recorded.has('csd_function_entry');
    if (alone) return flushAlone(on, line, record, pages);
    const basis = basisOfFunc(on, record.cpu, flush.entry);
    judgeDone(on, line, record, event, { ...basis, info: flush.info });
    flush.done = true;
  },

  csd_queue_cpu(on, line, record, payload) {
    const { event } = record;
    if (event.kind === 'csd_queue_cpu') beginBroadcast(on, line, record, event);
    CALL_HANDLERS['csd_queue_cpu']?.(on, line, record, payload);
  },

  csd_function_entry(on, line, record, payload) {
    const leaving = switchTo(on, record.cpu, on.model.initMmAt('init_mm'));
    CALL_HANDLERS['csd_function_entry']?.(on, line, record, payload);
    const { event } = record;
    if (event.kind !== 'csd_function_entry' || event.func !== 'flush_tlb_func') return;
    const info =
      Number(event.csd) === 0
        ? on.at(record).flush?.info
        : (on.calls.get(String(event.csd))?.info as FlushTlbInfo | undefined);
    const entry = on.model.entryOf(info?.mm);
    if (info != null) on.at(record).func = { info, leaving, ...basisOfFunc(on, record.cpu, entry) };
  },
};

/** What has every CPU called, by the function that is queued. */
const BROADCASTS: ReadonlyMap<string, (k: Kernel) => Kthread> = new Map([
  ['tlb_remove_table_smp_sync', (k) => k.fn.tlbRemoveTableSyncOne(k)],
  ['do_flush_tlb_all', (k) => k.backend.flushTlbAll(k)],
  ['do_kernel_range_flush', (k) => k.backend.flushTlbKernelRange(k, 0, 2 ** PAGE_SHIFT)],
]);

/** The first call of a broadcast says that there is one. */
function beginBroadcast(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  { func, target }: CsdQueueCpu,
): void {
  const start = BROADCASTS.get(func);
  const going = on.at(record);
  const { k, seq } = on.model;
  // CPUs are called in ascending order, and interrupted at the end.
  const last = going.flush?.queued.at(-1)?.target ?? -1;
  const goesOn = going.flush?.what === 'broadcast' && !going.flush.vectorJudged && last < target;
  if (start === undefined || goesOn) return;
  endFlush(on, record);
  going.flush = newFlush('broadcast', null, true, seq);
  line.begin(func, 'task', true, () => start(k));
}

/** A CPU borrows what it has loaded. */
function becomeLazy(on: Lockstepper, line: Line, record: RecordedRecord): void {
  TASK_HANDLERS['enter_lazy']?.(on, line, record, '');
}

/** A task that has exited leaves its CPU: it may come back, but there is no more to know of it. */
function buryDead(on: Lockstepper, record: RecordedRecord, pid: number): void {
  if (pid !== on.at(record).diedPid || !on.exiting.has(pid)) return;
  on.exiting.delete(pid);
  on.processes.exit(pid);
}

/**
 * Whether a task in exit() may be without an mm, and its CPU stay with what it has: the event of a
 * write of CR3, or none, will say.
 */
function mayHaveNone(
  on: Lockstepper,
  record: RecordedRecord,
  pid: number,
  entry: KnownMm,
): boolean {
  if (pid === on.at(record).diedPid) return true;
  const left = on.exiting.get(pid);
  if (left === undefined || left) return left === true;
  const { loaded, known } = on.model.cpu(record.cpu);
  if (loaded === entry.mm) known.lazy = false;
  return true;
}

/**
 * CR3 is written outside schedule(): by execve(), by the last flush of an mm, in exit(), or, where no
 * call is recorded, by one that a lazy CPU leaves its mm for.
 */
function outsideSchedule(on: Lockstepper, line: Line, record: RecordedRecord): void {
  const { task, cpu } = record;
  if (task === null) return;
  const entry = on.processes.of(task);
  // Or by a switch that the recording begins in the middle of.
  if (on.at(record).switchedAt === -1 && !on.inExec.has(task.pid)) return;
  if (entry === null) {
    leaveUnasked(on, line, record, task.pid);
    return;
  }
  if (!on.exiting.has(task.pid)) {
    // Where system calls are not recorded it may have been either.
    const born = on.bears && on.inExec.has(task.pid);
    beginSwitch(on, line, record, on.processes.exec(task.pid, born));
    return;
  }
  // Switched to, and its mm was not left after all.
  if (on.model.cpu(cpu).loaded !== entry.mm) {
    beginSwitch(on, line, record, entry);
    return;
  }
  becomeLazy(on, line, record);
  on.at(record).switching = switchTo(on, cpu, on.model.initMmAt('init_mm'));
  const { k } = on.model;
  const info = infoOf(on, cpu, entry, -1);
  line.begin('flush_tlb_func', 'task', false, () => x86(k).fn.flushTlbFunc(k, info));
}

/** Nobody saw who asked. An idle CPU has left its mm; a kernel thread may have borrowed another. */
function leaveUnasked(on: Lockstepper, line: Line, record: RecordedRecord, pid: number): void {
  if (pid !== 0) {
    on.forgetLoaded(record.cpu);
    return;
  }
  const { k } = on.model;
  const init = on.model.initMmAt('init_mm');
  on.at(record).switching = switchTo(on, record.cpu, init);
  line.begin('leaves lazily', 'interrupt', false, () =>
    k.backend.switchMm(k, line.cpu.id, init.mm),
  );
}

/** A lazy CPU that is told to flush leaves the mm instead. */
function leaves(on: Lockstepper, line: Line, record: RecordedRecord, func: FuncInFlight): void {
  const going = on.at(record);
  going.func = null;
  const shows = line.head();
  const ours = shows?.kind === 'tlb_flush' && shows.reason === 0;
  const words = ours ? 'leaves the mm' : 'stays';
  judgeFunc(on, record, func, ours ? 'first' : null, words, 'leaves the mm');
  going.switching = func.leaving ?? switchTo(on, record.cpu, on.model.initMmAt('init_mm'));
}

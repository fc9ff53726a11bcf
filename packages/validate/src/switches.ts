/** What a CPU loads, and under which ASID. */
import { contextOf, kernPcid, TLB_NR_DYN_ASIDS, tlbstate } from '@shootdown/arch-x86';
import type { MmStruct } from '@shootdown/mmu-gather';
import type { RecordedRecord } from '@shootdown/trace';
import { basisOfSwitch } from './bases.ts';
import { doubtOrder } from './funcs.ts';
import { MISSING } from './missing.ts';
import type { SwitchInFlight } from './going.ts';
import { type CpuKnowledge, Known, least } from './knowledge.ts';
import type { Line } from './line.ts';
import type { Lockstepper } from './lockstep.ts';
import type { KnownMm } from './model.ts';
import { field, mask, number } from './payload.ts';
import { goesBack, judgeGenerationRead, judgeMaskRead } from './probeReads.ts';

const INIT_CTX = '1';

/** The mm that a CPU switches to. */
function nextMm(
  on: Lockstepper,
  record: RecordedRecord,
  at: string,
  ctx: string | null,
  gen: number | null,
): KnownMm {
  if (ctx === INIT_CTX) return on.model.initMmAt(at);
  const entry = on.model.find(at);
  const unnamed = entry?.ctx == null || ctx === null;
  const another = entry !== null && unnamed && gen !== null && goesBack(on, entry, gen);
  if (entry !== null && !another && (unnamed || entry.ctx === ctx)) {
    entry.ctx = ctx;
    return entry;
  }
  const going = on.at(record);
  const pid = record.task?.pid ?? 0;
  const scheduled = isScheduled(on, record);
  const ctxId = ctx === null ? Number.NaN : Number(ctx);
  // Out of schedule() only execve() loads another mm; a forked task's is its own; and context ids
  // count up.
  const born =
    on.bears &&
    // Where another mm was, unless it came in a gap;
    (entry?.gap === false ||
      (!scheduled && pid !== 0) ||
      (scheduled && on.forked.has(going.nextPid)) ||
      ctxId >= on.firstBorn);
  if (scheduled) on.forked.delete(going.nextPid);
  if (born && ctxId < on.firstBorn) on.firstBorn = ctxId;
  const made = on.model.newMmAt(at, born);
  made.ctx = ctx;
  return made;
}

/** The record before it on its CPU was the scheduler's. */
const isScheduled = (on: Lockstepper, record: RecordedRecord): boolean =>
  on.at(record).switchedAt === on.model.lines[record.cpu]?.before;

/** The probe at the entry of switch_mm_irqs_off(). */
export function handleSwitch(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  payload: string,
): void {
  const at = field(payload, 'next');
  if (at === null) return;
  const going = on.at(record);
  const entry = nextMm(on, record, at, field(payload, 'next_ctx'), number(payload, 'next_gen'));
  // execve() has what it has made.
  if (!isScheduled(on, record)) on.inExec.delete(record.task?.pid ?? 0);
  const { mm } = entry;
  const { k } = on.model;
  if (going.func !== null && mm === k.initMm) leaveLazily(on, line, record, mm);
  else
    line.begin('switch_mm_irqs_off', 'task', false, () => k.backend.switchMm(k, line.cpu.id, mm));
  const gen = number(payload, 'next_gen');
  if (gen !== null) judgeGenerationRead(on, line, entry, gen);
  const cpus = mask(payload, 'next_mask');
  if (cpus !== null) judgeMaskRead(on, line, entry, cpus);
  going.switching = switchTo(on, record.cpu, entry);
  if (line.head()?.kind === 'switch_mm') line.accept();
}

/** A CPU is about to switch to `entry`. */
export function switchTo(on: Lockstepper, cpu: number, entry: KnownMm): SwitchInFlight {
  const { state, loaded } = on.model.cpu(cpu);
  return {
    entry,
    ...basisOfSwitch(on, cpu, entry),
    trivial: loaded === entry.mm && !state.isLazy.value,
    lazy: state.isLazy.value,
    before: state.ctxs.map((ctx) => ({ ...ctx })),
    nextAsid: state.nextAsid,
    recordedAsid: null,
  };
}

/** A task's CPU switches to `entry`, where no probe shows it. */
export function beginSwitch(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  entry: KnownMm,
): void {
  const { k } = on.model;
  line.abandonAll();
  on.at(record).switching = switchTo(on, record.cpu, entry);
  line.begin('switch_mm_irqs_off', 'task', false, () =>
    k.backend.switchMm(k, line.cpu.id, entry.mm),
  );
}

/** A lazy CPU that is told to flush leaves the mm instead: inside flush_tlb_func(). */
function leaveLazily(on: Lockstepper, line: Line, record: RecordedRecord, mm: MmStruct): void {
  const going = on.at(record);
  const { func } = going;
  going.func = null;
  if (func === null) return;
  const { how, head } = on.find(line, {
    is: ({ kind }) => kind === 'switch_mm',
    fits: () => true,
    extra: ({ kind }) => kind === 'tlb_flush',
  });
  on.judge.decide({
    kind: 'flush',
    how: head === null ? null : how,
    basis: func.basis,
    missing: func.missing,
    ours: () => (head === null ? 'stays' : 'leaves the mm'),
    recorded: () => 'leaves the mm',
    because: () => `is_lazy=${tlbstate(on.model.k, line.cpu.id).isLazy.value}`,
  });
  if (head !== null) return;
  on.judge.resync('flush_tlb_func');
  const { k } = on.model;
  line.begin('leaves lazily', 'interrupt', false, () => k.backend.switchMm(k, line.cpu.id, mm));
}

/** The value that is written to CR3. */
export function handleCr3(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  payload: string,
): void {
  const { switching } = on.at(record);
  const text = field(payload, 'cr3');
  if (switching === null || text === null) return;
  const pcid = Number(BigInt(text) & 0x7ffn);
  if (pcid === 0 || !on.model.pcid) return;
  const known = on.model.known[record.cpu];
  const state = tlbstate(on.model.k, line.cpu.id);
  const head = line.head();
  switching.recordedAsid = pcid - 1;
  if (known === undefined || head?.kind !== 'tlb_flush') return;
  const ours = line.cpu.pcid - kernPcid(0);
  const fresh = state.nextAsid !== switching.nextAsid;
  const basis = fresh ? least(known.nextAsid, switching.basis) : (known.slots[ours] ?? Known.no);
  const right = ours === pcid - 1;
  on.judge.decide({
    kind: 'asid',
    how: right ? 'first' : null,
    basis,
    missing: MISSING.asids,
    ours: () => `ASID ${ours}`,
    recorded: () => `ASID ${pcid - 1}`,
    because: () => `next_asid ${switching.nextAsid}, ${fresh ? 'a new one' : 'found again'}`,
  });
  if (right && fresh && basis === Known.learned) known.nextAsid = Known.yes;
  if (right && !fresh && known.slots[ours] === Known.learned) known.slots[ours] = Known.yes;
}

/** tlb_flush of reason 0: pages 0 keeps what the ASID holds, -1 flushes it. */
export function handleTaskSwitchFlush(
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  pages: number,
): void {
  const { switching } = on.at(record);
  if (switching === null) return;
  const { how, head } = on.find(line, {
    is: (other) => other.kind === 'tlb_flush' && other.reason === 0,
    fits: (other) => other.kind === 'tlb_flush' && other.pages === pages,
  });
  judgeSwitch(
    on,
    record,
    switching,
    how,
    head?.kind === 'tlb_flush' ? said(head.pages) : 'no CR3 write',
    said(pages),
  );
  if (head !== null) line.accept();
  learnSwitch(on, line, switching, pages, how !== null);
  on.at(record).switching = null;
}

const said = (pages: number): string => (pages === 0 ? 'kept' : 'flushed');

function judgeSwitch(
  on: Lockstepper,
  record: RecordedRecord,
  switching: SwitchInFlight,
  how: 'first' | 'other' | null,
  ours: string,
  recorded: string,
): void {
  const { entry, basis, missing, before } = switching;
  on.judge.decide({
    kind: 'switch',
    how,
    basis,
    missing,
    ours: () => ours,
    recorded: () => recorded,
    because: () => {
      const { ctxId, tlbGen } = contextOf(entry.mm);
      const asid = before.findIndex((ctx) => ctx.ctxId === ctxId);
      const held =
        asid === -1
          ? 'no ASID holds it'
          : `ASID ${asid} at ${(before[asid]?.tlbGen ?? 0) + entry.offset}`;
      return `CPU ${record.cpu}: mm at ${entry.at}, tlb_gen ${tlbGen.value + entry.offset}, ${held}`;
    },
  });
}

/** The switch is over: without a tlb_flush event CR3 was not written. */
export function closeSwitch(on: Lockstepper, line: Line, record: RecordedRecord): void {
  const going = on.at(record);
  const { switching } = going;
  going.switching = null;
  if (switching === null || !on.model.recorded.has('tlb_flush')) return;
  const shows = line.head()?.kind === 'tlb_flush';
  const how = shows ? line.explain((head) => head?.kind !== 'tlb_flush') : 'first';
  if (!switching.trivial || how === null)
    judgeSwitch(on, record, switching, how, shows ? 'a CR3 write' : 'no CR3 write', 'no CR3 write');
  if (how === null) {
    on.judge.resync('switch_mm_irqs_off');
    line.accept();
  }
  const known = on.model.known[record.cpu];
  if (known === undefined) return;
  // Nothing was written: it was loaded already, and if it was lazy, up to date.
  const { loaded, state } = on.model.cpu(record.cpu);
  if (loaded !== switching.entry.mm) on.model.loadOlder(record.cpu, switching.entry.mm);
  else if (switching.basis === Known.no && switching.lazy) known.gens[state.loadedMmAsid] = true;
  known.loaded = true;
  known.lazy = true;
}

/** What the recording has shown of the ASIDs. */
function learnSwitch(
  on: Lockstepper,
  line: Line,
  switching: SwitchInFlight,
  pages: number,
  right: boolean,
): void {
  const state = tlbstate(on.model.k, line.cpu.id);
  const known = on.model.known[line.cpu.id];
  if (known === undefined) return;
  const { entry, before, recordedAsid, basis } = switching;
  const { ctxId, tlbGen } = contextOf(entry.mm);
  if (!right) {
    if (basis !== Known.no) on.judge.resync('switch_mm_irqs_off');
    state.loadedMm.value = entry.mm;
    state.isLazy.value = false;
  }
  known.loaded = true;
  known.lazy = true;
  const ours = state.ctxs.findIndex((ctx) => ctx.ctxId === ctxId);
  const upTo = right && ours !== -1 ? (state.ctxs[ours]?.tlbGen ?? 0) : tlbGen.value;
  const took = state.nextAsid !== switching.nextAsid;
  // It was certainly not held, or what was taken is the next in turn, as for one that is not.
  const fresh = took && pages !== 0 && (basis === Known.yes || recordedAsid === ours);
  const guessed = fresh && basis === Known.no;
  let asid = recordedAsid ?? (ours === -1 ? state.loadedMmAsid : ours);
  if (took && !fresh) {
    // It was found in an ASID of before, or may have been: the turn is what it was.
    state.nextAsid = switching.nextAsid;
    if (ours !== -1) Object.assign(state.ctxs[ours] ?? {}, before[ours]);
    const free = known.slots.findIndex((slot, at) => slot === Known.no && before[at]?.ctxId === 0);
    if (recordedAsid === null && free !== -1) asid = free;
    // Or it was the next in turn after all: then the others stand one nearer to theirs.
    if (recordedAsid === null && pages !== 0) known.gens.fill(false);
  } else if (recordedAsid !== null && ours !== -1 && recordedAsid !== ours) {
    Object.assign(state.ctxs[ours] ?? {}, before[ours]);
    if (fresh) {
      state.nextAsid = recordedAsid + 1;
      known.nextAsid = Known.no;
    }
  }
  for (const ctx of state.ctxs) if (ctx.ctxId === ctxId) ctx.ctxId = 0;
  Object.assign(state.ctxs[asid] ?? {}, { ctxId, tlbGen: upTo });
  state.loadedMmAsid = asid;
  known.gens[asid] = true;
  if (pages !== 0) doubtOrder(on, line);
  if (fresh) taken(known, ctxId, asid);
  if (recordedAsid !== null) {
    if (guessed) known.nextAsid = Known.no;
    else if (fresh && known.nextAsid === Known.no) known.nextAsid = Known.learned;
    if (fresh) known.slots[asid] = known.nextAsid;
    else if (known.slots[asid] === Known.no || recordedAsid !== ours)
      known.slots[asid] = Known.learned;
    return;
  }
  // Which one it is nobody sees, but the turn is the same under any numbering.
  if (fresh) {
    known.slots[asid] = Known.yes;
    known.nextAsid = Known.yes;
  } else if (known.slots[asid] === Known.no) known.afloat.set(ctxId, TLB_NR_DYN_ASIDS);
}

/** An ASID was taken: those of which nobody knows where they are may have been in it. */
function taken(known: CpuKnowledge, ctxId: number, asid: number): void {
  known.afloat.delete(ctxId);
  for (const [other, left] of known.afloat)
    if (left === 1) known.afloat.delete(other);
    else known.afloat.set(other, left - 1);
  known.slots.forEach((slot, at) => {
    if (slot === Known.no && at !== asid) known.gens[at] = false;
  });
}

/**
 * Fields that a probe has read out of shared memory: generations and masks. They are read after the
 * record's time is taken, at some moment up to the next record of that CPU, so what does not fit at
 * once is looked at again then.
 */
import { contextOf, tlbstate } from '@shootdown/arch-x86';
import type { CpuMask } from '@shootdown/machine';
import { MISSING } from './missing.ts';
import { Known } from './knowledge.ts';
import type { Line } from './line.ts';
import type { Lockstepper } from './lockstep.ts';
import { bitsOf, maskOf } from './masks.ts';
import type { KnownMm } from './model.ts';

function later(on: Lockstepper, line: Line, look: (late: boolean) => boolean): void {
  if (look(false)) return;
  const { judge } = on;
  const { record, seq } = judge;
  line.onNext = () => {
    const now = { record: judge.record, seq: judge.seq };
    Object.assign(judge, { record, seq });
    look(true);
    Object.assign(judge, now);
  };
}

/** Whether a generation goes back, by more than flushes on their way can make it seem: another mm is there. */
export const goesBack = (
  on: Lockstepper,
  { mm, offset, generation }: KnownMm,
  before: number,
): boolean =>
  generation !== Known.no && before + on.model.machine.count < contextOf(mm).tlbGen.value + offset;

/** Judges the generation of `entry` that a probe of `line` has read. */
export function judgeGenerationRead(
  on: Lockstepper,
  line: Line,
  entry: KnownMm,
  recorded: number,
): void {
  if (entry.mm === on.model.k.initMm) return;
  const cell = contextOf(entry.mm).tlbGen;
  const since = line.before;
  const ours = cell.value + entry.offset;
  later(on, line, (late) => {
    // A generation that is shown was reached: whoever is about to raise it has done so.
    for (const other of line.held(cell))
      if (cell.value + entry.offset < recorded) other.advance(cell);
    const may = line.values(cell, since).some((value) => value + entry.offset === recorded);
    const how = recorded === ours && !late ? 'first' : may ? 'other' : null;
    if (how === null && !late && entry.generation === Known.yes && !raisesUnseen(on, entry))
      return false;
    judgeGeneration(on, entry, how, ours, recorded);
    return true;
  });
}

/** Whether a generation may be raised by what no event shows. */
const raisesUnseen = (on: Lockstepper, entry: KnownMm): boolean =>
  entry.batches > 0 || on.unmapping.size > 0;

/** Books a generation, and adopts what was recorded. */
export function judgeGeneration(
  on: Lockstepper,
  entry: KnownMm,
  how: 'first' | 'other' | null,
  ours: number,
  recorded: number,
): void {
  const unseen = how === null && raisesUnseen(on, entry) && recorded > ours;
  const basis = unseen
    ? { basis: Known.no, missing: MISSING.batches }
    : { basis: entry.generation, missing: MISSING.mm };
  const views = { ours: () => String(ours), recorded: () => String(recorded) };
  on.decide('generation', how, basis, views, () => `generation of the mm at ${entry.at}`);
  if (unseen) raised(on, entry, recorded - ours);
  else if (how === null) {
    if (basis.basis !== Known.no) on.judge.resync('generation');
    entry.offset += recorded - ours;
    entry.generation = Known.learned;
  } else if (entry.generation !== Known.yes) entry.generation++;
}

/**
 * Entries were unmapped in a batch. What lies before a flush of the batch no CPU lacks; what lies
 * behind it, every one.
 */
function raised(on: Lockstepper, entry: KnownMm, by: number): void {
  const { batches } = entry;
  entry.batches = 0;
  if (batches === 0) {
    contextOf(entry.mm).tlbGen.value += by;
    return;
  }
  entry.offset += by;
  // Each flush was for one entry at least. Who is still at it may have gone on after the last.
  if (by > batches && on.unmapping.size > 0) doubt(on, entry);
}

/** No CPU is known to be up to date with `entry`. */
export function doubt(on: Lockstepper, entry: KnownMm): void {
  const { ctxId } = contextOf(entry.mm);
  entry.doubted = true;
  for (const { cpu } of on.model.lines) {
    const { known, state, loaded } = on.model.cpu(cpu.id);
    if (loaded === entry.mm) known.gens[state.loadedMmAsid] = false;
    state.ctxs.forEach((ctx, asid) => {
      if (ctx.ctxId === ctxId) known.gens[asid] = false;
    });
  }
}

/**
 * A batch is flushed that `pid` has unmapped: it has raised the generation of every mm concerned,
 * once per entry, unseen. Who unmaps from his own mm is one of them; who else is, by shared pages or
 * for another process, is not known.
 */
export function raiseBatched(on: Lockstepper, line: Line, pid: number, cpus: bigint): void {
  const { loadedMm } = tlbstate(on.model.k, line.cpu.id);
  const own = on.unmappingOwn.has(pid) ? on.model.entryOf(loadedMm.value) : null;
  if (own !== null) {
    contextOf(own.mm).tlbGen.value++;
    own.offset--;
    own.batches++;
  }
  const rest = own === null ? cpus : cpus & ~bitsOf(own.mm.cpumask.value);
  if (rest === 0n) return;
  for (const entry of on.model.mms) {
    const concerned = entry.mask === Known.no || (bitsOf(entry.mm.cpumask.value) & rest) !== 0n;
    if (entry === own || !concerned) continue;
    entry.batches++;
    doubt(on, entry);
  }
}

/** Judges the mm_cpumask of `entry` that a probe of `line` has read. */
export function judgeMaskRead(on: Lockstepper, line: Line, entry: KnownMm, recorded: bigint): void {
  if (entry.mm === on.model.k.initMm) return;
  const cell = entry.mm.cpumask;
  const since = line.before;
  const ours = cell.value.copy();
  const { count } = on.model.machine;
  const wrong = maskOf(count, bitsOf(ours) ^ recorded);
  later(on, line, (late) => {
    const { histories } = on.model;
    const open = wrong
      .members()
      .every((cpu) => histories.wasBit(cell, cpu, !ours.has(cpu), since, line.cpu.id));
    const how = wrong.empty ? 'first' : open ? 'other' : null;
    if (how === null && !late && entry.mask === Known.yes) return false;
    const basis = { basis: entry.mask, missing: MISSING.mm };
    const views = {
      ours: () => ours.toString(),
      recorded: () => maskOf(count, recorded).toString(),
    };
    on.decide('cpumask', how, basis, views, () => `mm_cpumask of the mm at ${entry.at}`);
    if (how === null) adoptMask(on, entry, wrong, recorded);
    else if (entry.mask !== Known.yes) entry.mask++;
    return true;
  });
}

function adoptMask(on: Lockstepper, entry: KnownMm, wrong: CpuMask, recorded: bigint): void {
  const { mm } = entry;
  if (entry.mask !== Known.no) on.judge.resync('mm_cpumask');
  entry.mask = Known.learned;
  for (const cpu of wrong) {
    const isIn = (recorded & (1n << BigInt(cpu))) !== 0n;
    if (isIn) mm.cpumask.value.set(cpu);
    else mm.cpumask.value.clear(cpu);
    // Who is in the mask of an old mm and was never seen to switch has it loaded.
    if (isIn && !on.model.k.rules.cpumaskClearedLazily && !on.model.cpu(cpu).known.loaded)
      on.model.loadOlder(cpu, mm);
  }
}

/**
 * The trace driver. Records that are inputs start kernel code on their CPU; every other record has
 * to be what that code shows next. Where it is not, another order of the steps since the last record
 * is tried; if none explains it, the decision is booked as different, the recorded one is adopted,
 * and both go on together.
 */
import { contextOf, type FlushTlbInfo, type TlbContext, tlbstate } from '@shootdown/arch-x86';
import { type Cell, type Csd, CpuMask } from '@shootdown/machine';
import type { RecordedRecord } from '@shootdown/trace';
import { Judge } from './judge.ts';
import { Known, type Level } from './knowledge.ts';
import type { Head, Line } from './line.ts';
import { type KnownMm, Model, type ModelOptions } from './model.ts';

/** How a record is to be found among what a line shows. */
export interface Wanted {
  /** Whether this head stands for the same thing. */
  readonly is: (head: Head) => boolean;
  /** Whether it also says the same. */
  readonly fits: (head: Head) => boolean;
  /** Whether this head comes before the wanted one and was not recorded: ours alone. */
  readonly extra?: ((head: Head) => boolean) | undefined;
}

/** What was found. */
export interface Found {
  readonly how: 'first' | 'other' | null;
  /** Null: nothing of the kind. */
  readonly head: Head | null;
}

/** A call that a flush has queued, as recorded. */
export interface QueuedCall {
  readonly target: number;
  readonly seq: number;
  /** Whether it was alone; null: it may have been either way. */
  readonly alone: boolean | null;
}

/** The flush that a task on one CPU is in. */
export interface FlushInFlight {
  /** Whose; null of a batch or a broadcast. */
  readonly entry: KnownMm | null;
  readonly what: 'mm' | 'batch' | 'broadcast';
  freed: boolean;
  /** flush_tlb_multi() was reached. */
  multi: boolean;
  readonly queued: QueuedCall[];
  callsite: string;
  vectorJudged: boolean;
}

/** The flush_tlb_func() that a CPU is in. */
export interface FuncInFlight {
  readonly info: FlushTlbInfo | null;
  readonly basis: Level;
  readonly missing: string;
  readonly remote: boolean;
}

/** The switch_mm_irqs_off() that a CPU is in. */
export interface SwitchInFlight {
  readonly entry: KnownMm;
  readonly basis: Level;
  readonly missing: string;
  /** Nothing to decide: the same mm, and not lazy. */
  readonly trivial: boolean;
  readonly before: readonly TlbContext[];
  readonly nextAsid: number;
  recordedAsid: number | null;
}

/** What is going on on one CPU, beside its line. */
export interface Going {
  flush: FlushInFlight | null;
  func: FuncInFlight | null;
  switching: SwitchInFlight | null;
  /** Whose task the scheduler has switched to, and by which record. */
  nextPid: number;
  switchedAt: number;
  /** A call of before the recording runs. */
  strangerCall: boolean;
}

const EXTRA_LIMIT = 8192;

/** Drives the model by records. */
export class Lockstepper {
  readonly model: Model;
  readonly judge: Judge = new Judge();
  readonly going: readonly Going[];
  /** Kinds of events seen so far: what was never seen may not have been recorded. */
  readonly seen: Set<string> = new Set();
  /** Tasks that were forked in the recording and have no mm of their own yet. */
  readonly forked: Set<number> = new Set();
  /** Tasks in execve(). */
  readonly inExec: Set<number> = new Set();
  /** Tasks that may be unmapping in batches: in a system call that migrates or reclaims, or kernel threads that do. */
  readonly unmapping: Set<number> = new Set();
  /** Tasks in a system call that may unmap in batches from their own mm. */
  readonly unmappingOwn: Set<number> = new Set();
  /** Tasks in a clone() that shares the mm. */
  readonly sharing: Set<number> = new Set();
  /** Whose call each call_single_data is, by its recorded address. */
  readonly calls: Map<string, Csd> = new Map();
  /** The lowest context id that is known to be of the recording's time. */
  firstBorn: number = Infinity;

  readonly #strangers = new Map<string, Csd>();

  constructor(options: ModelOptions) {
    this.model = new Model(options);
    this.going = this.model.lines.map(() => ({
      flush: null,
      func: null,
      switching: null,
      nextPid: -1,
      switchedAt: -1,
      strangerCall: false,
    }));
  }

  /** What is going on on the record's CPU. */
  at(record: RecordedRecord): Going {
    return this.going[record.cpu] as Going;
  }

  /** A call of something that is not modelled, in the queue of `to`. */
  stranger(from: number, to: number): Csd {
    const key = `${from}>${to}`;
    let csd = this.#strangers.get(key);
    if (csd === undefined) {
      const { machine } = this.model;
      const lock = machine.cell(`stranger[${key}]`, false);
      const own = this.model.k.calls.csd(machine.cpu(from).id, machine.cpu(to).id);
      csd = { ...own, lock, next: null };
      this.#strangers.set(key, csd);
    }
    return csd;
  }

  /** Brings the line to what is wanted. */
  find(line: Line, wanted: Wanted): Found {
    for (let tries = 0; tries < EXTRA_LIMIT; tries++) {
      const head = line.head();
      if (head !== null && !this.seen.has(head.kind)) {
        line.accept(ownAnswer(head));
        continue;
      }
      if (head !== null && wanted.is(head) && wanted.fits(head)) return { how: 'first', head };
      const how = line.explain((other) => other !== null && wanted.is(other) && wanted.fits(other));
      if (how !== null) return { how, head: line.head() };
      const same = line.explain((other) => other !== null && wanted.is(other));
      const left = line.head();
      if (same !== null) return { how: null, head: left };
      if (left === null || wanted.extra?.(left) !== true) return { how: null, head: null };
      line.accept(ownAnswer(left));
    }
    return { how: null, head: null };
  }

  /**
   * A probe's fields are read after its time is taken, up to the next record of its CPU. What does
   * not fit at once is looked at again then.
   */
  #later(line: Line, look: (late: boolean) => boolean): void {
    if (look(false)) return;
    const { record, seq } = this.judge;
    line.then = () => {
      const now = { record: this.judge.record, seq: this.judge.seq };
      Object.assign(this.judge, { record, seq });
      look(true);
      Object.assign(this.judge, now);
    };
  }

  /** Judges a generation that a probe of `line` has read. */
  generation(line: Line, entry: KnownMm, cell: Cell<number>, recorded: number): void {
    if (entry.mm === this.model.k.initMm) return;
    const since = line.before;
    const ours = cell.value + entry.offset;
    this.#later(line, (late) => {
      const values = line.values(cell, since).map((value) => value + entry.offset);
      const at = values.indexOf(recorded);
      const how = at === 0 && !late ? 'first' : at === -1 ? null : 'other';
      if (how === null && !late && entry.generation === Known.yes && !this.raisesUnseen(entry))
        return false;
      this.judgeGeneration(entry, how, ours, recorded);
      return true;
    });
  }

  /** Whether a generation may be raised by what no event shows. */
  raisesUnseen(entry: KnownMm): boolean {
    return entry.batches > 0 || this.unmapping.size > 0;
  }

  /** Books a generation, and adopts what was recorded. */
  judgeGeneration(
    entry: KnownMm,
    how: 'first' | 'other' | null,
    ours: number,
    recorded: number,
  ): void {
    const unseen = how === null && this.raisesUnseen(entry) && recorded > ours;
    const basis = unseen ? Known.no : entry.generation;
    this.judge.decide({
      kind: 'generation',
      how,
      basis,
      missing: unseen
        ? 'raised by batched unmaps, which no event shows'
        : 'mm from before the recording',
      ours: () => String(ours),
      recorded: () => String(recorded),
      because: () => `generation of the mm at ${entry.at}`,
    });
    if (how === null) {
      if (basis !== Known.no) this.judge.resync('generation');
      if (unseen) this.#raised(entry, recorded - ours);
      else {
        entry.offset += recorded - ours;
        entry.generation = Known.learned;
      }
    } else if (entry.generation !== Known.yes) entry.generation++;
  }

  /**
   * Entries were unmapped in a batch. What lies before a flush of the batch no CPU lacks; what lies
   * behind it, every one.
   */
  #raised(entry: KnownMm, by: number): void {
    const { batches } = entry;
    entry.batches = 0;
    if (batches === 0) {
      contextOf(entry.mm).tlbGen.value += by;
      return;
    }
    entry.offset += by;
    // Each flush was for one entry at least. Who is still at it may have gone on after the last.
    if (by > batches && this.unmapping.size > 0) this.doubt(entry);
  }

  /** No CPU is known to be up to date with `entry`. */
  doubt(entry: KnownMm): void {
    const { ctxId } = contextOf(entry.mm);
    this.model.known.forEach((known, cpu) => {
      const { ctxs } = tlbstate(this.model.k, this.model.machine.cpu(cpu).id);
      ctxs.forEach((ctx, asid) => {
        if (ctx.ctxId === ctxId) known.gens[asid] = false;
      });
    });
  }

  /** Judges an mm_cpumask that a probe of `line` has read. */
  cpumask(line: Line, entry: KnownMm, recorded: bigint): void {
    const { mm } = entry;
    if (mm === this.model.k.initMm) return;
    const cell = mm.cpumask;
    const since = line.before;
    const ours = cell.value.copy();
    const wrong = maskOf(this.model.lines.length, bitsOf(ours) ^ recorded);
    this.#later(line, (late) => {
      const open = wrong
        .members()
        .every((cpu) => this.model.histories.wasBit(cell, cpu, !ours.has(cpu), since));
      const how = wrong.empty ? 'first' : open ? 'other' : null;
      if (how === null && !late && entry.mask === Known.yes) return false;
      this.judge.decide({
        kind: 'cpumask',
        how,
        basis: entry.mask,
        missing: 'mm from before the recording',
        ours: () => ours.toString(),
        recorded: () => maskOf(this.model.lines.length, recorded).toString(),
        because: () => `mm_cpumask of the mm at ${entry.at}`,
      });
      if (how === null) this.#adoptMask(entry, wrong);
      else if (entry.mask !== Known.yes) entry.mask++;
      return true;
    });
  }

  #adoptMask(entry: KnownMm, wrong: CpuMask): void {
    const { known, k } = this.model;
    const { mm } = entry;
    if (entry.mask !== Known.no) this.judge.resync('mm_cpumask');
    entry.mask = Known.learned;
    for (const cpu of wrong) {
      const on = !mm.cpumask.value.has(cpu);
      if (on) mm.cpumask.value.set(cpu);
      else mm.cpumask.value.clear(cpu);
      // Who is in the mask of an old mm and was never seen to switch has it loaded.
      if (on && !k.rules.cpumaskClearedLazily && known[cpu]?.loaded === false)
        this.model.loadOlder(cpu, mm);
    }
  }
}

/** What a probe gives that was not recorded: what the code itself has decided. */
export const ownAnswer = (head: Head): unknown =>
  head.kind === 'should_flush' ? head.answer : undefined;

/** The first 64 CPUs of a mask: a probe reads one word. */
export const bitsOf = (mask: CpuMask): bigint => bits(mask);

function bits(members: Iterable<number>): bigint {
  let word = 0n;
  for (const cpu of members) if (cpu < 64) word |= 1n << BigInt(cpu);
  return word;
}

/** A recorded word as a mask of `cpus`. */
export function maskOf(cpus: number, word: bigint): CpuMask {
  const mask = new CpuMask(cpus);
  for (let cpu = 0; cpu < Math.min(64, cpus); cpu++)
    if ((word & (1n << BigInt(cpu))) !== 0n) mask.set(cpu);
  return mask;
}

/**
 * The trace driver. Records that are inputs start kernel code on their CPU; every other record has
 * to be what that code shows next. Where it is not, another order of the steps since the last record
 * is tried; if none explains it, the decision is booked as different, the recorded one is adopted,
 * and both go on together.
 */
import type { FlushTlbInfo, TlbContext } from '@shootdown/arch-x86';
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

  /** Judges a generation that a probe of `line` has read. */
  generation(line: Line, entry: KnownMm, cell: Cell<number>, recorded: number): void {
    if (entry.mm === this.model.k.initMm) return;
    const values = line.values(cell).map((value) => value + entry.offset);
    const at = values.indexOf(recorded);
    this.judgeGeneration(
      entry,
      at === 0 ? 'first' : at > 0 ? 'other' : null,
      values[0] ?? 0,
      recorded,
    );
  }

  /** Books a generation, and adopts what was recorded. */
  judgeGeneration(
    entry: KnownMm,
    how: 'first' | 'other' | null,
    ours: number,
    recorded: number,
  ): void {
    const unseen = how === null && entry.raisedUnseen && recorded > ours;
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
      entry.offset += recorded - ours;
      entry.generation = unseen ? entry.generation : Known.learned;
      entry.raisedUnseen = false;
    } else if (entry.generation === Known.learned) entry.generation = Known.yes;
    else if (entry.generation === Known.no) entry.generation = Known.learned;
  }

  /** Judges an mm_cpumask that a probe of `line` has read. */
  cpumask(line: Line, entry: KnownMm, recorded: bigint): void {
    const { k, histories, known, lines } = this.model;
    const { mm } = entry;
    if (mm === k.initMm) return;
    const cell = mm.cpumask;
    const wrong = bitsOf(cell.value) ^ recorded;
    const open = wrong === 0n ? 0n : bits(histories.openBits(cell, line.before));
    const how = wrong === 0n ? 'first' : (wrong & ~open) === 0n ? 'other' : null;
    const ours = cell.value.toString();
    this.judge.decide({
      kind: 'cpumask',
      how,
      basis: entry.mask,
      missing: 'mm from before the recording',
      ours: () => ours,
      recorded: () => maskOf(lines.length, recorded).toString(),
      because: () => `mm_cpumask of the mm at ${entry.at}`,
    });
    if (how !== null) {
      if (entry.mask !== Known.yes) entry.mask++;
      return;
    }
    if (entry.mask !== Known.no) this.judge.resync('mm_cpumask');
    entry.mask = Known.learned;
    for (const { cpu } of lines) {
      const on = cpu.id < 64 && (recorded & (1n << BigInt(cpu.id))) !== 0n;
      if (on) cell.value.set(cpu.id);
      else cell.value.clear(cpu.id);
      // Who is in the mask of an old mm and was never seen to switch has it loaded.
      if (on && !this.model.k.rules.cpumaskClearedLazily && known[cpu.id]?.loaded === false)
        this.model.loadOlder(cpu.id, mm);
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

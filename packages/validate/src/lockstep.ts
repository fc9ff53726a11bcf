/**
 * The trace driver. Records that are inputs start kernel code on their CPU; every other record has
 * to be what that code shows next. Where it is not, another order of the steps since the last record
 * is tried; if none explains it, the decision is booked as different, the recorded one is adopted,
 * and both go on together.
 */
import type { Csd } from '@shootdown/machine';
import type { RecordedRecord } from '@shootdown/trace';
import type { Basis } from './bases.ts';
import { type Going, nothingGoing } from './going.ts';
import { Judge } from './judge.ts';
import { Known } from './knowledge.ts';
import type { Head, Line } from './line.ts';
import { Model, type ModelOptions } from './model.ts';
import { doubt } from './probeReads.ts';
import { Processes } from './processes.ts';

/** How a record is to be found among what a line shows. */
export interface Wanted {
  /** Whether this head stands for the same thing. */
  readonly is: (head: Head) => boolean;
  /** Whether it also says the same. */
  readonly fits: (head: Head) => boolean;
  /** Whether this head comes before the wanted one and was not recorded: ours alone. */
  readonly extra?: ((head: Head) => boolean) | undefined;
  /** Books such a head. */
  readonly dropped?: ((head: Head) => void) | undefined;
}

/** What was found. */
export interface Found {
  /** As recorded in the order of the records, or in another that the windows allow, or not. */
  readonly how: 'first' | 'other' | null;
  /** Null: nothing of the kind. */
  readonly head: Head | null;
}

/** More heads than one flush of the largest machine has. */
const HEADS = 1 << 15;

/** Drives the model by records. */
export class Lockstepper {
  readonly model: Model;
  readonly judge: Judge = new Judge();
  readonly going: readonly Going[];
  /** Tasks that were forked in the recording and have no mm of their own yet. */
  readonly forked: Set<number> = new Set();
  /** Tasks in execve(), up to the switch to the mm that it makes. */
  readonly inExec: Set<number> = new Set();
  /** Where the mms are that they are making. */
  readonly made: Map<number, string> = new Map();
  /** Tasks that may be unmapping in batches. */
  readonly unmapping: Set<number> = new Set();
  /** Tasks in a system call that may unmap in batches from their own mm. */
  readonly unmappingOwn: Set<number> = new Set();
  /** Tasks that are making another, and whether that shares the mm. */
  readonly cloning: Map<number, boolean> = new Map();
  /** Whose call each call_single_data is, by its recorded address. */
  readonly calls: Map<string, Csd> = new Map();
  /** The lowest context id that is known to be of the recording's time. */
  firstBorn: number = Infinity;
  /** What is not known to be older was made during the recording. */
  bears = true;
  /** Whose mm each task runs in, where no probe shows it. */
  readonly processes: Processes;
  /** Tasks in exit(), and whether exit_mm() is certainly behind them. */
  readonly exiting: Map<number, boolean> = new Map();
  readonly #strangers = new Map<string, Csd>();

  constructor(options: ModelOptions) {
    this.model = new Model(options);
    this.processes = new Processes(this.model);
    this.going = this.model.lines.map(nothingGoing);
  }

  /** What is going on on the record's CPU. */
  at(record: RecordedRecord): Going {
    return this.going[record.cpu] as Going;
  }

  /** Events of `cpu`, or of nobody knows which, are missing: nothing that they may have changed is known. */
  forget(cpu: number | null): void {
    const { lines, queues, mms } = this.model;
    const since = cpu === null ? this.model.seq : (lines[cpu]?.last ?? 0);
    this.judge.withdraw(since);
    this.firstBorn = Infinity;
    this.forked.clear();
    this.inExec.clear();
    this.processes.forget();
    for (const { cpu: of } of lines) {
      if (cpu !== null && of.id !== cpu) continue;
      lines[of.id]?.abandonAll();
      Object.assign(this.going[of.id] ?? {}, nothingGoing());
      this.forgetLoaded(of.id);
      queues[of.id]?.forget();
    }
    for (const entry of mms) {
      entry.mask = Known.no;
      entry.generation = Known.no;
      entry.born = false;
      entry.gap = true;
      doubt(this, entry);
    }
    this.judge.resync('events are missing');
  }

  /** What `cpu` has loaded, and its ASIDs hold, is not known. */
  forgetLoaded(cpu: number): void {
    const { known } = this.model.cpu(cpu);
    known.slots.fill(Known.no);
    known.gens.fill(false);
    known.afloat.clear();
    Object.assign(known, { loaded: false, lazy: false, nextAsid: Known.no });
  }

  /** A call of something that is not modelled, for the queue of `to`. */
  stranger(from: number, to: number): Csd {
    const key = `${from}>${to}`;
    let csd = this.#strangers.get(key);
    if (csd === undefined) {
      const { machine, k } = this.model;
      const own = k.calls.csd(machine.cpu(from).id, machine.cpu(to).id);
      csd = { ...own, lock: machine.cell(`stranger[${key}]`, false), next: null };
      this.#strangers.set(key, csd);
    }
    return csd;
  }

  /** Brings the line to what is wanted. */
  find(line: Line, wanted: Wanted): Found {
    for (let tries = 0; tries < HEADS; tries++) {
      const head = line.head();
      if (head !== null && wanted.is(head) && wanted.fits(head)) return { how: 'first', head };
      const how = line.explain((other) => other !== null && wanted.is(other) && wanted.fits(other));
      if (how !== null) return { how, head: line.head() };
      const same = line.explain((other) => other !== null && wanted.is(other));
      const left = line.head();
      if (same !== null) return { how: null, head: left };
      if (left === null || wanted.extra?.(left) !== true) return { how: null, head: null };
      wanted.dropped?.(left);
      line.pass();
    }
    return { how: null, head: null };
  }

  /** Puts one decision in the books. */
  decide(
    kind: Parameters<Judge['decide']>[0]['kind'],
    how: Found['how'],
    basis: Basis,
    views: { readonly ours: () => string; readonly recorded: () => string },
    because: () => string,
  ): void {
    this.judge.decide({ kind, how, ...basis, ...views, because });
  }
}

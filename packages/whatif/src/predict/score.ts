/**
 * Predicted flushes against recorded ones. A flush is right if the same operation of the same task
 * made it, with the same page count in what it asked of other CPUs and in what it did here. What a
 * CPU received is right if it was to come, there, with that page count, while the operation that
 * asked for it was going on.
 */
import type { Flush, Operation } from './operation.ts';
import { addEvent } from './operation.ts';

/**
 * What is counted. `flush` is one flush_tlb_mm_range() or arch_tlbbatch_flush(), right if its page
 * counts are; `exact` is the same, and right only if also whether others were asked, and whether
 * anything was left to flush here, is. The others are single tlb_flush events.
 */
export const FLUSH_KINDS = [
  'flush',
  'exact',
  'local',
  'send',
  'batched',
  'received',
  'switch',
  'wrong-cpu',
] as const;

/** One of them. */
export type FlushKind = (typeof FLUSH_KINDS)[number];

/** How one kind was predicted. */
export interface KindScore {
  /** In the recording. */
  recorded: number;
  /** Of those: of address spaces that are older than the recording, or of kernel threads. */
  undecidable: number;
  /** For address spaces whose whole life is recorded. */
  predicted: number;
  matched: number;
}

/** Flushes that are only on one side, or differ, for one reason. */
export interface Difference {
  readonly kind: FlushKind;
  readonly cause: string;
  /** What the task did. */
  readonly during: string;
  /** Recorded and not predicted, or not so. */
  missed: number;
  /** Predicted and not recorded, or not so. */
  extra: number;
}

const KIND_OF_REASON: readonly FlushKind[] = [
  'switch',
  'received',
  'batched',
  'local',
  'send',
  'wrong-cpu',
];

/** What a CPU is to receive. */
interface Due {
  readonly reason: number;
  readonly pages: number;
  readonly operation: Operation;
}

/** What a CPU has received: a tlb_flush of reason 0, 1 or 5. */
export interface Receipt {
  readonly cpu: number;
  readonly reason: number;
  readonly pages: number;
  /** When: a record's number. */
  readonly at: number;
  /** The last switch there. */
  readonly switched: Operation | null;
  /** Between the marks. */
  readonly counted: boolean;
}

/** What one CPU has to do with flushes of others. */
interface Inbox {
  readonly due: Due[];
  /** Received before anything was due: the operation may be found to have had its turn by then. */
  readonly early: Receipt[];
}

/** A CPU has a call of every other one at most. */
const MOST_EARLY = 64;

/** Whether both asked for the same and did the same. */
const isExact = (a: Flush, b: Flush): boolean =>
  a.send === b.send && a.local === b.local && a.batched === b.batched;

/** Whether the page counts of two flushes agree where both have one; somewhere both have. */
function hasSamePages(a: Flush, b: Flush): boolean {
  const here = a.local !== null && b.local !== null;
  const there = a.send !== null && b.send !== null;
  if (here && a.local !== b.local) return false;
  return (here || there) && (!there || a.send === b.send);
}

/** Takes out of both lists what is in both; gives how many that were. */
function cancel<T>(a: T[], b: T[], same: (x: T, y: T) => boolean): number {
  const left: T[] = [];
  let matched = 0;
  for (const one of a) {
    const at = b.findIndex((other) => same(one, other));
    if (at === -1) left.push(one);
    else {
      b.splice(at, 1);
      matched++;
    }
  }
  a.splice(0, a.length, ...left);
  return matched;
}

/** The books of one recording. */
export class Score {
  readonly kinds: Readonly<Record<FlushKind, KindScore>>;
  readonly #differences = new Map<string, Difference>();
  readonly #inboxes = new Map<number, Inbox>();

  constructor() {
    const none = (): KindScore => ({ recorded: 0, undecidable: 0, predicted: 0, matched: 0 });
    const entries = FLUSH_KINDS.map((kind): [FlushKind, KindScore] => [kind, none()]);
    this.kinds = Object.fromEntries(entries) as Record<FlushKind, KindScore>;
  }

  get differences(): readonly Difference[] {
    return Array.from(this.#differences.values()).toSorted(
      (a, b) => b.missed + b.extra - a.missed - a.extra,
    );
  }

  #inbox(cpu: number): Inbox {
    let inbox = this.#inboxes.get(cpu);
    if (inbox === undefined) this.#inboxes.set(cpu, (inbox = { due: [], early: [] }));
    return inbox;
  }

  /** The model has traced a flush on `cpu` for `operation`. */
  predict(operation: Operation, cpu: number, reason: number, pages: number): void {
    const kind = KIND_OF_REASON[reason];
    if (kind === undefined) return;
    if (kind === 'local' || kind === 'send' || kind === 'batched') {
      addEvent(operation.predicted, reason, pages);
      return;
    }
    if (operation.counted && operation.decidable) this.kinds[kind].predicted++;
    const { due, early } = this.#inbox(cpu);
    const at = early.findIndex(
      (one) => one.reason === reason && one.pages === pages && one.at >= operation.began,
    );
    const [receipt] = at === -1 ? [] : early.splice(at, 1);
    if (receipt === undefined) due.push({ reason, pages, operation });
    else this.#book(kind, receipt, operation, true);
  }

  /** A CPU has received something. */
  received(receipt: Receipt): void {
    const { cpu, reason, pages } = receipt;
    const kind = KIND_OF_REASON[reason];
    if (kind === undefined) return;
    const { due, early } = this.#inbox(cpu);
    const same = due.findIndex((one) => one.reason === reason && one.pages === pages);
    const at = same === -1 ? due.findIndex((one) => one.reason === reason) : same;
    const [found] = at === -1 ? [] : due.splice(at, 1);
    if (found !== undefined) {
      this.#book(kind, receipt, found.operation, same !== -1);
      return;
    }
    early.push(receipt);
    if (early.length > MOST_EARLY) this.#unexpected(early.shift());
  }

  /** Nothing was due that this could be. */
  #unexpected(receipt: Receipt | undefined): void {
    if (receipt === undefined) return;
    const kind = KIND_OF_REASON[receipt.reason];
    if (kind !== undefined) this.#book(kind, receipt, null, false);
  }

  /** `receipt` is of `operation`, and has the pages that were due or not. */
  #book(kind: FlushKind, receipt: Receipt, operation: Operation | null, same: boolean): void {
    const { reason, switched, counted } = receipt;
    const of = operation ?? (reason === 0 ? switched : null);
    if (!(operation?.counted ?? counted)) return;
    const score = this.kinds[kind];
    score.recorded++;
    if (of !== null && !of.decidable) score.undecidable++;
    else if (same) score.matched++;
    else if (operation === null) this.#differ(kind, of, 'missed');
    else {
      // init_mm, to which a lazy CPU goes, has its ASID for longer than the recording knows.
      const cause = reason === 0 && operation.kind !== 'switch' ? OLD_ASID : OTHER_PAGES;
      this.#differ(kind, operation, 'missed', cause);
      this.#differ(kind, operation, 'extra', cause);
    }
  }

  /** There are no more records. */
  end(): void {
    for (const { early } of this.#inboxes.values())
      for (const receipt of early.splice(0)) this.#unexpected(receipt);
  }

  /** Nothing more can come of `operation`. */
  finish(operation: Operation): void {
    for (const { due } of this.#inboxes.values())
      for (let at = due.length - 1; at >= 0; at--) {
        const one = due[at];
        if (one?.operation !== operation) continue;
        due.splice(at, 1);
        const kind = KIND_OF_REASON[one.reason];
        if (kind !== undefined && operation.counted && operation.decidable)
          this.#differ(kind, operation, 'extra');
      }
    if (operation.counted) this.#compare(operation);
  }

  #compare(operation: Operation): void {
    const { predicted, recorded, decidable } = operation;
    for (const kind of ['local', 'send', 'batched'] as const) {
      const mine = events(predicted, kind);
      const theirs = events(recorded, kind);
      const score = this.kinds[kind];
      score.recorded += theirs.length;
      if (!decidable) score.undecidable += theirs.length;
      else {
        score.predicted += mine.length;
        score.matched += cancel(mine, theirs, (a, b) => a === b);
      }
    }
    const { flush, exact } = this.kinds;
    for (const score of [flush, exact]) {
      score.recorded += recorded.length;
      if (decidable) score.predicted += predicted.length;
      else score.undecidable += recorded.length;
    }
    if (decidable) {
      // The best partner first, so that a loose match takes none away.
      const exactly = cancel(predicted, recorded, isExact);
      exact.matched += exactly;
      flush.matched += exactly + cancel(predicted, recorded, hasSamePages);
    } else predicted.splice(0);
    for (const _ of recorded) this.#differ('flush', operation, 'missed');
    for (const _ of predicted) this.#differ('flush', operation, 'extra');
  }

  #differ(
    kind: FlushKind,
    operation: Operation | null,
    side: 'missed' | 'extra',
    cause: string = operation === null ? NOBODY : causeOf(operation),
  ): void {
    const during = operation?.name ?? '';
    const key = `${kind}|${cause}|${during}`;
    let difference = this.#differences.get(key);
    if (difference === undefined) {
      difference = { kind, cause, during, missed: 0, extra: 0 };
      this.#differences.set(key, difference);
    }
    difference[side]++;
  }
}

/** Pages of the events of one kind. */
function events(flushes: readonly Flush[], kind: 'local' | 'send' | 'batched'): number[] {
  const pages: number[] = [];
  for (const { send, local, batched } of flushes) {
    const value = kind === 'send' ? send : batched === (kind === 'batched') ? local : null;
    if (value !== null) pages.push(value);
  }
  return pages;
}

const OLD_ASID = 'ASID of init_mm from before the trace';
const OTHER_PAGES = 'flushes that met, or another page count';
const NOBODY = 'nobody is to have asked for it then';

const CAUSES: Readonly<Record<Operation['kind'], string>> = {
  call: 'other',
  fault: 'copied or reused: who else has the page',
  exit: 'exit',
  exec: 'execve',
  switch: 'other',
  kthread: 'kernel thread',
};

const causeOf = ({ decidable, obstacle, kind }: Operation): string => {
  if (kind === 'kthread') return CAUSES.kthread;
  return decidable ? (obstacle ?? CAUSES[kind]) : 'process existed before the trace';
};

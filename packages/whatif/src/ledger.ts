/**
 * The book of calls: who sent how many to whom, for what, and why. One per kind of evidence, so
 * that evidence of different worth is never added up.
 */
import type { CpuId } from '@shootdown/machine';
import type { RecordedTask } from '@shootdown/trace';
import { CALL_KINDS, type CallKind, KIND_NAMES } from './callKinds.ts';
import { CallMatrix, type Matrix } from './callMatrix.ts';
import type { Origin } from './origins.ts';
import { Strip } from './strip.ts';

/** One cause of calls. */
export interface Cause {
  readonly comm: string;
  readonly origin: Origin;
  /** The function that ran on the target, or in evidence B the place that sent the interrupt. */
  readonly func: string;
  readonly kind: CallKind;
  readonly calls: number;
  /** How many times the sender sent: one request calls one or many CPUs. */
  readonly requests: number;
  /** How many tasks of that name sent them. */
  readonly tasks: number;
  /** The first of their pids. */
  readonly pids: readonly number[];
  /** Sent by a program that records: tracing disturbs what it measures. */
  readonly recorder: boolean;
}

/** What one CPU got. */
export interface Received {
  readonly calls: number;
  readonly byKind: Readonly<Partial<Record<CallKind, number>>>;
}

/** Programs that record traces. */
const RECORDER =
  /^(?:trace-cmd|perf|bpftrace|bpftool|rtla|timerlat|osnoise|kernelshark|lttng|babeltrace|wprof|traced|traced_probes)\b/;
const PIDS_KEPT = 16;
/** Distinct causes that are told apart. */
const MAX_CAUSES = 1 << 16;
const TOO_MANY: Origin = { kind: 'untraced', name: 'more causes than are told apart' };
/**
 * Slots over all strips together: a fine axis for a few isolated CPUs, a coarse one for thousands.
 */
const SLOTS = 1 << 17;

interface OpenCause {
  readonly comm: string;
  readonly origin: Origin;
  readonly func: string;
  readonly kind: CallKind;
  calls: number;
  requests: number;
  lastRequest: number;
  readonly pids: Set<number>;
}

/** One call, before it is booked. */
export interface Call {
  readonly time: number;
  /** Null when the sender is not known. */
  readonly from: CpuId | null;
  readonly to: CpuId;
  readonly task: RecordedTask;
  readonly origin: Origin;
  readonly func: string;
  readonly kind: CallKind;
  /** Calls of one request share this number. */
  readonly request: number;
}

/** The book of one kind of evidence. */
export class Ledger {
  readonly #watched: ReadonlySet<CpuId> | null;
  readonly #matrix = new CallMatrix();
  readonly #received = new Map<CpuId, Uint32Array>();
  /**
   * By kind, origin, function and command: below evidence A one place sends calls of several kinds.
   * Look-ups cost less than a key made of strings.
   */
  readonly #causes: Map<Origin, Map<string, Map<string, OpenCause>>>[] = KIND_NAMES.map(
    () => new Map(),
  );
  readonly #overflow = new Map<CallKind, OpenCause>();
  #distinct = 0;
  readonly #strips = new Map<CpuId, Strip>();
  readonly #slots: number;
  total = 0;

  /** @param watched - the CPUs whose causes and times are kept; null keeps the causes of all. */
  constructor(watched: ReadonlySet<CpuId> | null) {
    this.#watched = watched;
    const fair = Math.floor(SLOTS / Math.max(1, watched?.size ?? 1));
    this.#slots = Math.max(144, Math.min(2048, fair - (fair % 2)));
  }

  /** Where the strips begin. */
  begin(time: number): void {
    for (const cpu of this.#watched ?? []) this.#strip(cpu).begin(time);
  }

  add({ time, from, to, task, origin, func, kind, request }: Call): void {
    this.total++;
    if (from !== null) this.#matrix.add(from, to);
    let received = this.#received.get(to);
    if (received === undefined)
      this.#received.set(to, (received = new Uint32Array(KIND_NAMES.length)));
    const lane = KIND_NAMES.indexOf(kind);
    received[lane] = (received[lane] ?? 0) + 1;
    if (this.#watched !== null && !this.#watched.has(to)) return;
    if (this.#watched !== null) this.#strip(to).add(time, lane);
    const cause = this.#cause(lane, task.comm, origin, func, kind);
    cause.calls++;
    if (cause.lastRequest !== request) cause.requests++;
    cause.lastRequest = request;
    if (cause.pids.size < 1 << 16) cause.pids.add(task.pid);
  }

  /** The causes of the calls to the watched CPUs, most calls first. */
  causes(): readonly Cause[] {
    return this.#merged()
      .map((cause) => ({
        comm: cause.comm,
        origin: { kind: cause.origin.kind, name: cause.origin.name },
        func: cause.func,
        kind: cause.kind,
        calls: cause.calls,
        requests: cause.requests,
        tasks: cause.pids.size,
        pids: [...cause.pids].toSorted((a, b) => a - b).slice(0, PIDS_KEPT),
        recorder: RECORDER.test(cause.comm),
      }))
      .toSorted(
        (a, b) =>
          b.calls - a.calls ||
          compare(a.comm, b.comm) ||
          compare(a.origin.name, b.origin.name) ||
          compare(a.func, b.func),
      );
  }

  /** Causes by what their origins say now: origins of tasks not yet seen may have become alike. */
  #merged(): readonly OpenCause[] {
    const merged = new Map<string, OpenCause>();
    for (const functions of this.#causes.flatMap((origins) => [...origins.values()])) {
      for (const cause of [...functions.values()].flatMap((commands) => [...commands.values()])) {
        const id = `${cause.kind}\0${cause.comm}\0${cause.origin.kind}\0${cause.origin.name}\0${cause.func}`;
        const same = merged.get(id);
        if (same === undefined) merged.set(id, { ...cause, pids: new Set(cause.pids) });
        else {
          same.calls += cause.calls;
          same.requests += cause.requests;
          for (const pid of cause.pids) same.pids.add(pid);
        }
      }
    }
    return [...merged.values(), ...this.#overflow.values()];
  }

  /** Who called whom. */
  matrix(): Matrix {
    return this.#matrix.cells();
  }

  received(cpu: CpuId): Received {
    const counts = this.#received.get(cpu);
    const byKind: Partial<Record<CallKind, number>> = {};
    let calls = 0;
    for (const [lane, kind] of KIND_NAMES.entries()) {
      const n = counts?.[lane] ?? 0;
      calls += n;
      if (n > 0) byKind[kind] = n;
    }
    return { calls, byKind };
  }

  /**
   * When calls came to a watched CPU: counts per kind in equal parts of the time from `begin` to
   * `end`.
   */
  strip(cpu: CpuId, buckets: number, end: number): readonly (readonly number[])[] {
    return this.#strip(cpu).buckets(buckets, end);
  }

  #cause(lane: number, comm: string, origin: Origin, func: string, kind: CallKind): OpenCause {
    const origins = this.#causes[lane] ?? new Map<Origin, Map<string, Map<string, OpenCause>>>();
    let functions = origins.get(origin);
    if (functions === undefined) origins.set(origin, (functions = new Map()));
    let commands = functions.get(func);
    if (commands === undefined) functions.set(func, (commands = new Map()));
    let cause = commands.get(comm);
    if (cause === undefined) {
      if (this.#distinct >= MAX_CAUSES) return this.#overflowing(kind);
      cause = { comm, origin, func, kind, calls: 0, requests: 0, lastRequest: -1, pids: new Set() };
      commands.set(comm, cause);
      this.#distinct++;
    }
    return cause;
  }

  /** One cause per kind for all that come when there are already too many to tell apart. */
  #overflowing(kind: CallKind): OpenCause {
    let cause = this.#overflow.get(kind);
    if (cause === undefined) {
      cause = {
        comm: '?',
        origin: TOO_MANY,
        func: kind,
        kind,
        calls: 0,
        requests: 0,
        lastRequest: -1,
        pids: new Set(),
      };
      this.#overflow.set(kind, cause);
    }
    return cause;
  }

  #strip(cpu: CpuId): Strip {
    let strip = this.#strips.get(cpu);
    if (strip === undefined)
      this.#strips.set(cpu, (strip = new Strip(this.#slots, KIND_NAMES.length)));
    return strip;
  }
}

/** Code-unit order: the same everywhere, unlike a locale's. */
function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** Adds up what several CPUs got. */
export function sumReceived(parts: readonly Received[]): Received {
  const byKind: Partial<Record<CallKind, number>> = {};
  for (const kind of KIND_NAMES) {
    const n = parts.reduce((sum, part) => sum + (part.byKind[kind] ?? 0), 0);
    if (n > 0) byKind[kind] = n;
  }
  return { calls: parts.reduce((sum, part) => sum + part.calls, 0), byKind };
}

/** Calls of TLB kinds. */
export function tlbCalls(received: Received): number {
  return KIND_NAMES.filter((kind) => CALL_KINDS[kind].tlb).reduce(
    (sum, kind) => sum + (received.byKind[kind] ?? 0),
    0,
  );
}

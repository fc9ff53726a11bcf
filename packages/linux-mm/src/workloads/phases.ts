/** Phases of a workload: what the kernel has counted from the beginning to the end of each. */
import type { IpiCount, Kernel } from '@shootdown/mmu-gather';
import { traceMarker } from '@shootdown/mmu-gather';

/** The kernel's counters at one moment. */
interface Snapshot {
  readonly timeNs: number;
  readonly flushes: ReadonlyMap<string, number>;
  readonly ipis: ReadonlyMap<string, IpiCount>;
  readonly calRow: Float64Array;
  readonly tlbRow: Float64Array;
  readonly vmstat: Readonly<Record<string, number>>;
}

/** What happened in one phase, or in all phases of one name together. */
export interface PhaseCounts {
  readonly name: string;
  /** Simulated time from its beginning to its end, ns. */
  readonly timeNs: number;
  /** tlb:tlb_flush events by `reason:pages`. */
  readonly flushes: Readonly<Record<string, number>>;
  /** Function-call interrupts by function and what the sender was doing. */
  readonly ipis: readonly IpiCount[];
  /** Function-call interrupts by CPU that got them: the CAL row of /proc/interrupts. */
  readonly interrupts: readonly number[];
  /** The TLB row. */
  readonly tlbRow: readonly number[];
  /** nr_tlb_* and others of /proc/vmstat. */
  readonly vmstat: Readonly<Record<string, number>>;
}

function snapshot({ machine, stats }: Kernel): Snapshot {
  return {
    timeNs: machine.time,
    flushes: new Map(stats.flushes),
    ipis: new Map(Array.from(stats.ipis, ([key, count]) => [key, { ...count }])),
    calRow: stats.calRow.slice(),
    tlbRow: stats.tlbRow.slice(),
    vmstat: { ...stats.vmstat },
  };
}

/** Collects phases. */
export class Phases {
  private readonly k: Kernel;
  private readonly done = new Map<string, PhaseCounts>();
  private begun: { readonly name: string; readonly at: Snapshot } | null = null;

  constructor(k: Kernel) {
    this.k = k;
  }

  /** Called by the program where the phase begins. */
  begin(name: string): void {
    traceMarker(this.k, `PHASE_BEGIN ${name}`);
    this.begun = { name, at: snapshot(this.k) };
  }

  /** Called by the program where it ends. */
  end(): void {
    const { begun } = this;
    if (begun === null) return;
    this.begun = null;
    const now = snapshot(this.k);
    traceMarker(this.k, `PHASE_END ${begun.name}`);
    const counts = difference(begun.name, begun.at, now);
    const before = this.done.get(begun.name);
    this.done.set(begun.name, before === undefined ? counts : sum(before, counts));
  }

  /** In the order in which they began. */
  get counts(): readonly PhaseCounts[] {
    return Array.from(this.done.values());
  }
}

const rows = (now: Float64Array, before: Float64Array): number[] =>
  Array.from(now, (count, cpu) => count - (before[cpu] ?? 0));

function difference(name: string, from: Snapshot, to: Snapshot): PhaseCounts {
  const flushes: Record<string, number> = {};
  for (const [key, count] of to.flushes) {
    const more = count - (from.flushes.get(key) ?? 0);
    if (more > 0) flushes[key] = more;
  }
  const ipis: IpiCount[] = [];
  for (const [key, { func, origin, sends, interrupts }] of to.ipis) {
    const before = from.ipis.get(key);
    const more = sends - (before?.sends ?? 0);
    const hit = interrupts - (before?.interrupts ?? 0);
    if (more > 0) ipis.push({ func, origin, sends: more, interrupts: hit });
  }
  const vmstat: Record<string, number> = {};
  for (const [key, count] of Object.entries(to.vmstat))
    vmstat[key] = count - (from.vmstat[key] ?? 0);
  return {
    name,
    timeNs: to.timeNs - from.timeNs,
    flushes,
    ipis,
    interrupts: rows(to.calRow, from.calRow),
    tlbRow: rows(to.tlbRow, from.tlbRow),
    vmstat,
  };
}

const sumOf = (
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Record<string, number> => {
  const both = { ...a };
  for (const [key, count] of Object.entries(b)) both[key] = (both[key] ?? 0) + count;
  return both;
};

/** Two phases of one name, or all phases of a run. */
export function sum(a: PhaseCounts, b: PhaseCounts): PhaseCounts {
  const ipis = new Map<string, IpiCount>();
  for (const count of [...a.ipis, ...b.ipis]) {
    const key = `${count.func} ${count.origin}`;
    const before = ipis.get(key) ?? { ...count, sends: 0, interrupts: 0 };
    ipis.set(key, {
      ...before,
      sends: before.sends + count.sends,
      interrupts: before.interrupts + count.interrupts,
    });
  }
  return {
    name: a.name,
    timeNs: a.timeNs + b.timeNs,
    flushes: sumOf(a.flushes, b.flushes),
    ipis: Array.from(ipis.values()),
    interrupts: a.interrupts.map((count, cpu) => count + (b.interrupts[cpu] ?? 0)),
    tlbRow: a.tlbRow.map((count, cpu) => count + (b.tlbRow[cpu] ?? 0)),
    vmstat: sumOf(a.vmstat, b.vmstat),
  };
}

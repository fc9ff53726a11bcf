/**
 * How the lines of one text look. The kernel prints a legend above an ftrace text, and that legend
 * decides: the number and meaning of the flag characters changed with versions and configurations,
 * so counting by version would be a guess. `trace-cmd report` prints no legend; there the first
 * event line decides.
 */
import { Context } from '@shootdown/machine';
import type { TraceKind } from '../openedTrace.ts';

/** What a flag column says. */
export type FlagColumn =
  'irqs' | 'resched' | 'resched-lazy' | 'context' | 'preempt' | 'preempt-lazy' | 'migrate';

/** How the lines of one text look. */
export interface LineLayout {
  readonly kind: Exclude<TraceKind, 'trace.dat'>;
  /** Between the CPU and the time; none when irq-info was off. */
  readonly flags: readonly FlagColumn[];
  /** A `(1234)` or `(-------)` column. */
  readonly tgid: boolean;
  /**
   * The CPU is glued to the flags and (ftrace) times are microseconds since the trace's start, with
   * a delay mark.
   */
  readonly latency: boolean;
}

/**
 * Legend words of the kernel's header, as printed since 2.6.33, 5.16 (migrate-disable) and by
 * PREEMPT_RT (lazy).
 */
const LEGEND: ReadonlyMap<string, FlagColumn> = new Map<string, FlagColumn>([
  ['irqs-off', 'irqs'],
  ['irqs-off/BH-disabled', 'irqs'],
  ['need-resched', 'resched'],
  ['need-resched-lazy', 'resched-lazy'],
  ['hardirq/softirq', 'context'],
  ['preempt-depth', 'preempt'],
  ['preempt-lazy-depth', 'preempt-lazy'],
  ['migrate-disable', 'migrate'],
]);

/** The columns of texts without a legend, by how many there are. */
export const FLAGS_BY_COUNT: ReadonlyMap<number, readonly FlagColumn[]> = new Map<
  number,
  readonly FlagColumn[]
>([
  [0, []],
  [4, ['irqs', 'resched', 'context', 'preempt']],
  [5, ['irqs', 'resched', 'context', 'preempt', 'migrate']],
  [7, ['irqs', 'resched', 'resched-lazy', 'context', 'preempt', 'preempt-lazy', 'migrate']],
]);

/**
 * The flag columns that the legend in `comments` lists, in order; null when there is no column line
 * at all (an excerpt without header).
 */
export function legendColumns(comments: readonly string[]): readonly FlagColumn[] | null {
  const columns: FlagColumn[] = [];
  let columnLine = false;
  for (const comment of comments) {
    if (/TASK-PID|cmd\s+pid/.test(comment)) columnLine = true;
    const word = /_-*=> (\S+)/.exec(comment)?.[1];
    if (word === undefined || word.startsWith('CPU#')) continue;
    const column = LEGEND.get(word);
    if (column === undefined) return null;
    columns.push(column);
  }
  return columnLine ? columns : null;
}

/** Context bits per column and character; a character that a column does not know says nothing. */
const BITS: Readonly<Record<FlagColumn, Readonly<Record<string, number>>>> = {
  irqs: { d: Context.irqsOff, b: Context.bhOff, D: Context.irqsOff | Context.bhOff },
  // 6.13 and later: l, L, b, B are the lazy variants; each asks for a reschedule.
  resched: Object.fromEntries(
    ['N', 'n', 'p', 'l', 'L', 'b', 'B'].map((c) => [c, Context.needResched]),
  ),
  'resched-lazy': {},
  context: {
    h: Context.hardirq,
    s: Context.softirq,
    H: Context.hardirq | Context.softirq,
    z: Context.nmi,
    Z: Context.nmi | Context.hardirq,
  },
  preempt: depths(Context.preemptDepthShift),
  'preempt-lazy': {},
  migrate: depths(Context.migrateDisableShift),
};

function depths(shift: number): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Array.from({ length: 16 }, (_, depth) => [depth.toString(16), depth << shift]),
  );
}

/** One table of 256 entries per column: character code to context bits. */
export function flagTables(flags: readonly FlagColumn[]): readonly Int32Array[] {
  return flags.map((column) => {
    const table = new Int32Array(256);
    for (const [char, bits] of Object.entries(BITS[column])) table[char.charCodeAt(0)] = bits;
    return table;
  });
}

/** All bits that a context has. */
export const CONTEXT_BITS: number =
  Context.irqsOff |
  Context.needResched |
  Context.hardirq |
  Context.softirq |
  Context.nmi |
  Context.bhOff |
  (15 << Context.preemptDepthShift) |
  (15 << Context.migrateDisableShift);

/** `context` in the five columns of 5.16 to 6.18: trace_print_lat_fmt of kernel/trace. */
export function flagText(context: number): string {
  const has = (bits: number): boolean => (context & bits) === bits;
  const irqs = has(Context.irqsOff | Context.bhOff)
    ? 'D'
    : has(Context.irqsOff)
      ? 'd'
      : has(Context.bhOff)
        ? 'b'
        : '.';
  const resched = has(Context.needResched) ? 'N' : '.';
  const [nmi, hard, soft] = [has(Context.nmi), has(Context.hardirq), has(Context.softirq)];
  const where = nmi ? (hard ? 'Z' : 'z') : hard ? (soft ? 'H' : 'h') : soft ? 's' : '.';
  const preempt = depthText(context >>> Context.preemptDepthShift);
  return `${irqs}${resched}${where}${preempt}${depthText(context >>> Context.migrateDisableShift)}`;
}

function depthText(depth: number): string {
  return (depth & 15) === 0 ? '.' : (depth & 15).toString(16);
}

/** The layout in words, for the header. */
export function describeLayout(layout: LineLayout): string {
  const flags = layout.flags.length === 0 ? 'no flags' : `${layout.flags.length} flag characters`;
  return [layout.latency ? 'latency format' : null, flags, layout.tgid ? 'tgid' : null]
    .filter((part) => part !== null)
    .join(', ');
}

/**
 * What the first lines of a text say: the tracer's header, or trace-cmd's, or nothing and then the
 * first event line decides.
 */
import { MAX_CPUS } from '@shootdown/machine';
import type { TraceKind } from '../openedTrace.ts';
import { FLAGS_BY_COUNT, legendColumns, type LineLayout } from './layout.ts';
import { COLUMN_LINE, LATENCY_LINE, PLAIN_LINE } from './lineParser.ts';

/** A text's header. */
export interface TextHeader {
  readonly layout: LineLayout;
  readonly cpus: number | null;
  readonly kernel: string | null;
  /** Entries that the header says were written but are no longer in the buffer. */
  readonly lost: number;
  /** The tracer, if it is another than nop and prints lines of its own. */
  readonly tracer: string | null;
  /** Entries that the header says the text holds. */
  readonly promised: number | null;
  /** Whether times have a decimal point: seconds; a counter clock has none. */
  readonly ticks: boolean;
  /** 1 for nanoseconds or ticks, 1000 for microseconds. */
  readonly resolution: 1 | 1000;
  /** High part of the first time: seconds, or 10^9 ticks. */
  readonly origin: bigint;
  readonly notes: readonly string[];
}

/** Lines of a report that are not events: `cpus=8`, `version = 6`, `CPU 3 is empty`. */
export const REPORT_LINE: RegExp =
  /^\s*(?:cpus=\d+|version = \d+|CPU \d+ is empty|trace\.dat: .*|\[vmlinux\].*)$/;

/**
 * `CPU:3 [LOST 12 EVENTS]` (kernel), `CPU:3 [12 EVENTS DROPPED]` (trace-cmd), and both without a
 * number.
 */
export const LOST_LINE: RegExp =
  /^\s*(?:.*:\s+)?CPU:(\d+) \[(?:LOST )?(\d+ )?EVENTS(?: DROPPED)?\]/;

/**
 * Reads the header in `lines`, the first lines of a text; null when neither a header nor an event
 * line is there.
 */
export function readTextHeader(
  lines: readonly string[],
  forced: TraceKind | null,
): TextHeader | null {
  const comments = lines.filter((line) => line.startsWith('#'));
  const first = lines.find((line) => LATENCY_LINE.test(line) || PLAIN_LINE.test(line));
  const kind = forced ?? recognise(lines, comments, first);
  if (kind === null || kind === 'trace.dat') return null;
  const text = comments.join('\n');
  const latency = /latency trace v/.test(text) || (first !== undefined && !PLAIN_LINE.test(first));
  const match = first === undefined ? null : frontOf(first, latency);
  const legend = kind === 'ftrace' ? legendColumns(comments) : null;
  const flags = legend ?? FLAGS_BY_COUNT.get(match?.[3]?.length ?? 0) ?? null;
  if (flags === null) return null;
  const entries =
    /entries-in-buffer\/entries-written: (\d+)\/(\d+)/.exec(text) ??
    /latency: \d+ us, #(\d+)\/(\d+)/.exec(text);
  const cpus =
    kind === 'ftrace'
      ? /#P:(\d+)/.exec(text)?.[1]
      : /^\s*cpus=(\d+)/m.exec(lines.slice(0, 8).join('\n'))?.[1];
  const relative = match?.[6] !== undefined;
  const ticks = match !== null && match[5] === undefined && !relative;
  const notes: string[] = [];
  const tracer = /^# tracer: (\S+)/m.exec(text)?.[1] ?? 'nop';
  const stated = cpus === undefined ? null : Number(cpus);
  const believed = stated !== null && stated <= MAX_CPUS ? stated : null;
  if (stated !== believed) notes.push(`the header states ${cpus} CPUs, which no machine has`);
  if (kind === 'ftrace' && legend === null && first !== undefined)
    notes.push('no header: the columns are those of the first event line');
  if (latency && kind === 'trace-cmd-report')
    notes.push('report -l: commands are cut at 8 characters, so tasks may look alike');
  if (relative) notes.push('latency format: times count from the start of the trace');
  return {
    layout: {
      kind,
      flags,
      tgid: legend === null ? /^.+-\d+\s+\(/.test(match?.[1] ?? '') : /TGID/.test(text),
      latency,
    },
    tracer: tracer === 'nop' ? null : tracer,
    cpus: believed,
    kernel: /latency trace v\S+ on (\S+)/.exec(text)?.[1] ?? null,
    lost: entries === null ? 0 : Math.max(0, Number(entries[2]) - Number(entries[1])),
    promised: entries === null ? null : Number(entries[1]),
    ticks,
    resolution: match?.[5]?.length === 9 || ticks ? 1 : 1000,
    origin: originOf(match, ticks, relative),
    notes,
  };
}

function frontOf(line: string, latency: boolean): RegExpExecArray | null {
  if (latency) return LATENCY_LINE.exec(line);
  return COLUMN_LINE.exec(line) ?? PLAIN_LINE.exec(line);
}

function originOf(match: RegExpExecArray | null, ticks: boolean, relative: boolean): bigint {
  if (match === null || relative) return 0n;
  const whole = match[4] ?? '0';
  return ticks ? BigInt(whole.slice(0, -9) === '' ? '0' : whole.slice(0, -9)) : BigInt(whole);
}

function recognise(
  lines: readonly string[],
  comments: readonly string[],
  first: string | undefined,
): TextHeader['layout']['kind'] | null {
  if (comments.some((line) => /^# tracer:|latency trace v|TASK-PID/.test(line))) return 'ftrace';
  if (lines.slice(0, 8).some((line) => REPORT_LINE.test(line))) return 'trace-cmd-report';
  if (first === undefined) return null;
  // trace-cmd pads the event's name to 20 columns; the kernel puts one space behind it, always.
  return lines.some((line) => /: +(?:\(\+\d+\) +)?[\w.]+: {2,}\S/.test(line))
    ? 'trace-cmd-report'
    : 'ftrace';
}

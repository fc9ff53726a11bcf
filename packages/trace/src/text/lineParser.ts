/**
 * The front of one line: task, CPU, flags and time, up to the event's name.
 *
 *     hft-log-284     [001] ...1.    18.728093: tlb_flush: pages:16 reason:remote ipi send (4)
 *
 * The kernel right-aligns the command in 16 columns and cuts it at 15 bytes, so in an untouched
 * line the `-` before the pid stands in column 16 whatever the command holds (spaces, `-`, `[`, `:`
 * are all legal there). That is the fast path. A line that was re-indented, or printed in the
 * latency format, is taken apart by the anchor `-PID [CPU] FLAGS TIME:`, greedy on the command.
 */
import { CONTEXT_UNKNOWN } from '@shootdown/machine';
import type { RecordedTask } from '../events/shapes.ts';
import { at, Char, isDigit } from './bytes.ts';
import { Interner } from './interner.ts';
import { flagTables, type LineLayout } from './layout.ts';

/** Column of the `-` before the pid: printf's %16s. */
const DASH_COLUMN = 16;
const G = 1_000_000_000;
/** A command has 15 bytes; with the name of a buffer, spaces, pid and tgid it stays below this. */
const MAX_TASK = 200;

/** Behind the command, in a line with its own columns for CPU and flags. */
const BEHIND_COMMAND: string =
  String.raw`-\d+\s+(?:\(\s*(?:\d+|-+)\)\s+)?)\[(\d+)\]\s+` +
  String.raw`(?:(\S{4,7})\s+)?(\d+)(?:\.(\d{6}|\d{9}))?: +`;
/**
 * A line with its own columns for CPU and flags. Groups: task, cpu, flags, seconds (or ticks),
 * fraction.
 */
export const PLAIN_LINE: RegExp = new RegExp(`^(.+${BEHIND_COMMAND}`);
/**
 * The same where the kernel put it, at most 16 characters in: a payload may hold the name of a task
 * that calls itself `a-1 [0] 1: b`.
 */
export const COLUMN_LINE: RegExp = new RegExp(`^(.{1,${DASH_COLUMN}}${BEHIND_COMMAND}`);
/**
 * A latency line: the CPU is glued to the flags. Groups: task, cpu, flags, seconds (or
 * microseconds), fraction, delay mark.
 */
export const LATENCY_LINE: RegExp =
  /^(.+-\d+\s+)(\d+)([^\d\s]\S{3,6})\s+(\d+)(?:\.(\d{6}|\d{9})|us(.))?: +/;

/** Single-byte text: indices are byte offsets. */
const LATIN1 = new TextDecoder('latin1');

/** Takes lines of one layout apart; its fields are those of the last line. */
export class LineParser {
  readonly layout: LineLayout;
  task: RecordedTask = { pid: 0, comm: '<idle>', tgid: null };
  cpu = 0;
  context: number = CONTEXT_UNKNOWN;
  /**
   * The time is `high` * 10^9 + `low`, in nanoseconds or ticks: two numbers, because one would not
   * hold it exactly.
   */
  high = 0;
  low = 0;
  /** Digits behind the decimal point: 6, 9, or 0 for a counter. */
  fraction = 0;
  /** Where the event's name begins. */
  name = 0;
  readonly #flags: readonly Int32Array[];
  readonly #tasks = new Interner(parseTask);

  constructor(layout: LineLayout) {
    this.layout = layout;
    this.#flags = flagTables(layout.flags);
  }

  /**
   * Takes the front of `bytes[start..end)` apart into this object's fields; false when it is not an
   * event line.
   */
  parse(bytes: Uint8Array, start: number, end: number): boolean {
    return (!this.layout.latency && this.#fast(bytes, start, end)) || this.#slow(bytes, start, end);
  }

  #fast(bytes: Uint8Array, start: number, end: number): boolean {
    let i = start + DASH_COLUMN;
    // The shortest front behind the dash is `1 [0] 0: e`.
    if (i + 10 >= end || at(bytes, i) !== Char.minus || !isDigit(at(bytes, i + 1))) return false;
    i += 2;
    while (i < end && isDigit(at(bytes, i))) i++;
    const pidEnd = i;
    while (i < end && at(bytes, i) === Char.space) i++;
    let taskEnd = pidEnd;
    if (this.layout.tgid && i < end && at(bytes, i) === Char.openParen) {
      while (i < end && at(bytes, i) !== Char.closeParen) i++;
      taskEnd = ++i;
      while (i < end && at(bytes, i) === Char.space) i++;
    }
    if (i >= end || at(bytes, i) !== Char.openBracket) return false;
    let cpu = 0;
    for (i++; i < end && isDigit(at(bytes, i)); i++) cpu = cpu * 10 + at(bytes, i) - Char.zero;
    if (i >= end || at(bytes, i) !== Char.closeBracket) return false;
    i++;
    while (i < end && at(bytes, i) === Char.space) i++;
    const flags = this.#flags;
    let context = CONTEXT_UNKNOWN;
    if (flags.length > 0) {
      if (i + flags.length >= end || at(bytes, i + flags.length) !== Char.space) return false;
      context = 0;
      for (let column = 0; column < flags.length; column++)
        context |= (flags[column] as Int32Array)[at(bytes, i + column)] as number;
      i += flags.length;
      while (i < end && at(bytes, i) === Char.space) i++;
    }
    i = this.#time(bytes, i, end);
    if (i === -1) return false;
    this.task = this.#tasks.get(bytes, start, taskEnd);
    this.cpu = cpu;
    this.context = context;
    this.name = i;
    return true;
  }

  /** Reads `18.728093: ` or `212557767501: `; gives the index behind it, or -1. */
  #time(bytes: Uint8Array, from: number, end: number): number {
    let i = from;
    let whole = 0;
    while (i < end && isDigit(at(bytes, i))) whole = whole * 10 + at(bytes, i++) - Char.zero;
    const digits = i - from;
    // Seconds up to the year 33,658, ticks up to 64 bits: more digits are damage.
    if (digits === 0 || digits > 20 || i >= end) return -1;
    if (digits > 12 && at(bytes, i) === Char.dot) return -1;
    if (at(bytes, i) === Char.dot) {
      const dot = i++;
      let low = 0;
      while (i < end && isDigit(at(bytes, i))) low = low * 10 + at(bytes, i++) - Char.zero;
      this.fraction = i - dot - 1;
      if (this.fraction !== 6 && this.fraction !== 9) return -1;
      this.high = whole;
      this.low = this.fraction === 6 ? low * 1000 : low;
    } else {
      // Up to 20 digits; `whole` is exact for the first 15 of them only.
      if (digits > 15) whole = digitsIn(bytes, from, i - 9);
      this.fraction = 0;
      this.high = digits > 15 ? whole : Math.floor(whole / G);
      this.low = digits > 15 ? digitsIn(bytes, i - 9, i) : whole % G;
    }
    if (i + 2 >= end || at(bytes, i) !== Char.colon || at(bytes, i + 1) !== Char.space) return -1;
    i += 2;
    while (i < end && at(bytes, i) === Char.space) i++;
    return i;
  }

  #slow(bytes: Uint8Array, start: number, end: number): boolean {
    const line = LATIN1.decode(bytes.subarray(start, end));
    const match = (this.layout.latency ? LATENCY_LINE : PLAIN_LINE).exec(line);
    if (match === null) return false;
    const [front, task = '', cpu = '', flags = '', whole = '', fraction = ''] = match;
    if (flags.length !== this.#flags.length || task.length > MAX_TASK) return false;
    if (whole.length > (fraction === '' ? 20 : 12)) return false;
    const taskLength = task.trimEnd().length;
    this.task = this.#tasks.get(bytes, start, start + taskLength);
    this.cpu = Number(cpu);
    this.context = this.#flags.length === 0 ? CONTEXT_UNKNOWN : 0;
    for (const [column, table] of this.#flags.entries())
      this.context |= table[flags.charCodeAt(column)] ?? 0;
    this.fraction = fraction.length;
    if (match[6] !== undefined) {
      // Latency format: microseconds since the trace's start.
      const us = Number(whole);
      this.fraction = 6;
      this.high = Math.floor(us / 1_000_000);
      this.low = (us % 1_000_000) * 1000;
    } else if (fraction === '') {
      this.high = Number(whole.slice(0, -9));
      this.low = Number(whole.slice(-9));
    } else {
      this.high = Number(whole);
      this.low = Number(fraction.padEnd(9, '0'));
    }
    this.name = start + front.length;
    return true;
  }
}

function digitsIn(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i++) value = value * 10 + at(bytes, i) - Char.zero;
  return value;
}

/**
 * `  hft-log-284`, `init-1       (      1)`, `ktimers/0-16 (-------)`; with `trace-cmd -B` an
 * `instance:` in front.
 */
function parseTask(text: string): RecordedTask {
  const match = /^(.*)-(\d+)\s*(?:\(\s*(\d+|-+)\))?$/s.exec(text.trim());
  const comm = match?.[1] ?? text.trim();
  const tgid = match?.[3];
  return {
    pid: Number(match?.[2] ?? 0),
    // A command has 15 bytes at most: what is longer carries the name of a buffer instance.
    comm: comm.length > 15 ? comm.replace(/^\S+:\s+/, '') : comm,
    tgid: tgid === undefined || tgid.startsWith('-') ? null : Number(tgid),
  };
}

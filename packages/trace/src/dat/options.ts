/**
 * The options of a trace.dat, as far as they change what is read or said. An option nobody knows is
 * skipped: it has a size.
 */
import { MAX_CPUS } from '@shootdown/machine';
import type { TraceClock } from '../openedTrace.ts';
import type { DatFile } from './datFile.ts';

/** What one per_cpu/cpuN/stats file says at the end of the recording. */
export interface CpuStat {
  readonly cpu: number;
  /** Events that later ones overwrote. */
  readonly overrun: number;
  /** Events that were never written: interrupted writers and full buffers. */
  readonly unwritten: number;
}

/** The options that matter, gathered. */
export interface DatOptions {
  /** The text of trace_clock, the active clock in brackets. */
  traceClock: string | null;
  kernel: string | null;
  cpuCount: number | null;
  readonly cpuStats: CpuStat[];
  /** Options that would change times and are not applied. */
  readonly notes: string[];
}

/** Options that trace-cmd adds to, or multiplies into, the times that it prints. */
const TIME_OPTIONS: ReadonlyMap<number, string> = new Map([
  [1, 'DATE (the times would be those of the day)'],
  [7, 'OFFSET (a fixed time added to each event)'],
  [12, 'TIME_SHIFT (corrections between a guest and its host)'],
  [14, 'TSC2NSEC (counter ticks to nanoseconds)'],
]);

const decoder = new TextDecoder();

/** No options yet. */
export function noOptions(): DatOptions {
  return { traceClock: null, kernel: null, cpuCount: null, cpuStats: [], notes: [] };
}

/** Takes in one option that v6 and v7 share. `byte` is where its data lies. */
export function takeOption(
  options: DatOptions,
  file: DatFile,
  id: number,
  data: Uint8Array,
  byte: number,
): void {
  const ignored = TIME_OPTIONS.get(id);
  if (ignored !== undefined) {
    const note = `times are as recorded: option ${ignored} is not applied`;
    if (!options.notes.includes(note)) options.notes.push(note);
  } else if (id === 2) {
    const stat = cpuStat(cString(data));
    if (stat !== null) options.cpuStats.push(stat);
  } else if (id === 4) {
    options.traceClock = cString(data);
  } else if (id === 5) {
    // sysname nodename release machine
    options.kernel = cString(data).split(' ').at(-2) ?? null;
  } else if (id === 8) {
    if (data.length < 4)
      throw file.error('ERR_TRACE_CORRUPT', byte, 'option CPUCOUNT of 4 bytes', `${data.length}`);
    const count = new DataView(data.buffer, data.byteOffset, 4).getUint32(0, file.littleEndian);
    // Every buffer states it again; the machine has the most.
    if (count > MAX_CPUS)
      throw file.error('ERR_TRACE_CORRUPT', byte, `at most ${MAX_CPUS} CPUs`, String(count));
    options.cpuCount = Math.max(options.cpuCount ?? 0, count);
  }
}

/** The text before the first NUL. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end === -1 ? bytes : bytes.subarray(0, end));
}

/** The clock named by a buffer (`mono`) or, in brackets, by the text of trace_clock. */
export function clockOf(bufferClock: string | null, traceClock: string | null): TraceClock {
  const bracketed = /\[([^\]]{1,64})\]/;
  const own =
    bufferClock === null || bufferClock === ''
      ? null
      : (bracketed.exec(bufferClock)?.[1] ?? bufferClock);
  const name = own ?? (traceClock === null ? null : (bracketed.exec(traceClock)?.[1] ?? null));
  // The kernel's clocks without in_ns: kernel/trace/trace.c trace_clocks and the ARCH_TRACE_CLOCKS
  // of x86, powerpc and s390.
  const ticks = name !== null && ['counter', 'x86-tsc', 'ppc-tb', 's390-tod'].includes(name);
  return { name, unit: ticks ? 'ticks' : 'ns', resolution: 1 };
}

function cpuStat(text: string): CpuStat | null {
  const value = (label: string): number | null => {
    const found = new RegExp(`^${label}: *(\\d{1,15})$`, 'm').exec(text);
    return found === null ? null : Number(found[1]);
  };
  const cpu = value('CPU');
  if (cpu === null) return null;
  return {
    cpu,
    overrun: value('overrun') ?? 0,
    unwritten: (value('commit overrun') ?? 0) + (value('dropped events') ?? 0),
  };
}

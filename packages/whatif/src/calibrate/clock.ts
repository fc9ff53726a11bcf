/**
 * What the times of a recording are worth. A cost in nanoseconds needs a clock that counts time, and
 * an interval from one CPU to another needs one that both share; which clock a trace was recorded
 * with decides both (the kernel's Documentation/trace/ftrace.rst, trace_clock).
 */
import { UsageError } from '@shootdown/machine';
import type { TraceClock } from '@shootdown/trace';

/** What the user says about the clock. */
export interface ClockOptions {
  /** The clock's name, for an input that does not state it: text states none. */
  readonly clock?: string | undefined;
  /** Ticks per microsecond, for a clock that counts ticks. */
  readonly tscMhz?: number | undefined;
}

/** How to read the times of one trace. */
export interface Times {
  readonly clock: string | null;
  /** Who says which clock it is; null: nobody. */
  readonly stated: 'trace' | 'option' | null;
  /** Nanoseconds of one step: times are whole numbers of steps. */
  readonly stepNs: number;
  /** Why no interval from one CPU to another can be measured; null if it can. */
  readonly perCpu: string | null;
  /** Why no cost can be had from any interval; null if one can. */
  readonly coarse: string | null;
  /** What else a reader of the answer should know. */
  readonly notes: readonly string[];
  /** A record's time in steps. */
  readonly steps: (time: number) => number;
}

/** Clocks of which more is to be said than that they count nanoseconds for all CPUs. */
const CLOCKS: ReadonlyMap<string, Partial<Pick<Times, 'perCpu' | 'coarse' | 'notes'>>> = new Map([
  ['local', { perCpu: 'times of the local clock are not comparable between CPUs' }],
  ['uptime', { coarse: 'the uptime clock counts jiffies, milliseconds each' }],
  [
    'perf',
    { notes: ['clock perf: CPUs may differ by some microseconds where the TSC is not stable'] },
  ],
]);

const KNOWN: ReadonlySet<string> = new Set([
  'local',
  'global',
  'mono',
  'mono_raw',
  'boot',
  'tai',
  'perf',
  'uptime',
  'x86-tsc',
  'counter',
]);
const UNSTATED =
  'the input does not say which clock it was recorded with: say so with --clock. ftrace starts with ' +
  "'local', whose times are not comparable between CPUs; intervals between CPUs assume another one";

/**
 * What can be measured with `clock`.
 *
 * @throws UsageError ERR_CLOCK where nothing can, or what the user says contradicts the trace.
 */
export function timesOf(clock: TraceClock, options: ClockOptions = {}): Times {
  const { tscMhz } = options;
  const refuse = (why: string): UsageError => new UsageError('ERR_CLOCK', why);
  if (options.clock !== undefined && clock.name !== null && options.clock !== clock.name)
    throw refuse(`--clock ${options.clock}: the trace says that its clock is ${clock.name}`);
  if (options.clock !== undefined && !KNOWN.has(options.clock))
    throw refuse(`--clock ${options.clock}: expected one of ${[...KNOWN].join(', ')}`);
  const name = clock.name ?? options.clock ?? null;
  if (name === 'counter')
    throw refuse(
      "the clock 'counter' counts events, not time: nothing can be measured; record with -C mono",
    );
  if (tscMhz !== undefined && !(Number.isFinite(tscMhz) && tscMhz > 0))
    throw refuse(`--tsc-mhz ${tscMhz}: expected the frequency of the TSC in MHz, as 2593.906`);
  if (clock.unit === 'ns') {
    const said = tscMhz !== undefined ? '--tsc-mhz' : name === 'x86-tsc' ? '--clock x86-tsc' : null;
    if (said !== null) throw refuse(`${said}: times of this trace are seconds, not ticks`);
  } else {
    if (clock.name === null && name !== null && name !== 'x86-tsc')
      throw refuse(`--clock ${name}: times of this trace are ticks; expected x86-tsc or counter`);
    if (tscMhz === undefined)
      throw refuse(
        `times of this trace are ticks${name === null ? '' : ` of ${name}`}: give their frequency with --tsc-mhz N ` +
          "(dmesg says 'tsc: Refined TSC clocksource calibration: N MHz'), or record with -C mono",
      );
  }
  const facts = CLOCKS.get(name ?? '') ?? {};
  const { resolution } = clock;
  return {
    clock: name,
    stated: clock.name !== null ? 'trace' : name === null ? null : 'option',
    stepNs: tscMhz === undefined ? resolution : 1000 / tscMhz,
    perCpu: facts.perCpu ?? null,
    coarse: facts.coarse ?? null,
    notes: [...(facts.notes ?? []), ...(name === null && clock.unit === 'ns' ? [UNSTATED] : [])],
    steps: (time) => Math.round(time / resolution),
  };
}

/** Words of the command line to values, each refused by name when it is not one. */
import { UsageError } from '@shootdown/machine';
import type { TraceKind } from '@shootdown/trace';
import type { TimeBound } from '@shootdown/whatif';

/** The forms of an answer. */
export const FORMATS = ['text', 'md', 'json', 'ndjson'] as const;
/** One of FORMATS. */
export type Format = (typeof FORMATS)[number];

const KINDS: readonly TraceKind[] = ['ftrace', 'trace-cmd-report', 'trace.dat'];

/** @throws UsageError ERR_FORMAT_NAME */
export function parseFormat(word: string): Format {
  const format = FORMATS.find((name) => name === word);
  if (format === undefined)
    throw new UsageError(
      'ERR_FORMAT_NAME',
      `--format ${word}: expected one of ${FORMATS.join(', ')}`,
    );
  return format;
}

/** @throws UsageError ERR_INPUT_FORMAT */
export function parseKind(word: string): TraceKind {
  const kind = KINDS.find((name) => name === word);
  if (kind === undefined)
    throw new UsageError(
      'ERR_INPUT_FORMAT',
      `--input-format ${word}: expected one of ${KINDS.join(', ')}`,
    );
  return kind;
}

/**
 * `11.5` is a time as the trace prints it, `+1.5` counts from the first event, both in seconds; in
 * a trace of a counter clock, ticks.
 *
 * @throws UsageError ERR_TIME
 */
function parseTime(option: string, word: string, unit: 'ns' | 'ticks'): TimeBound {
  const match = /^(\+?)(\d+)(?:\.(\d{1,9}))?s?$/.exec(word);
  if (match === null)
    throw new UsageError(
      'ERR_TIME',
      `${option} ${word}: expected seconds as the trace prints them (11.5), or from its start (+1.5)`,
    );
  const whole = Number(match[2]);
  const fraction = match[3] ?? '';
  if (unit === 'ticks' && fraction !== '')
    throw new UsageError(
      'ERR_TIME',
      `${option} ${word}: this trace counts ticks, give a whole number`,
    );
  const value =
    unit === 'ticks'
      ? whole
      : whole * 1_000_000 + Math.round(Number(fraction.padEnd(9, '0')) / 1000);
  return { value, relative: match[1] === '+' };
}

/**
 * The window of --from and --to.
 *
 * @throws UsageError ERR_TIME when one is no time, or the window is empty for sure.
 */
export function parseWindow(
  from: string | undefined,
  to: string | undefined,
  unit: 'ns' | 'ticks',
): { readonly from: TimeBound | undefined; readonly to: TimeBound | undefined } {
  const start = from === undefined ? undefined : parseTime('--from', from, unit);
  const end = to === undefined ? undefined : parseTime('--to', to, unit);
  if (
    start !== undefined &&
    end !== undefined &&
    start.relative === end.relative &&
    end.value < start.value
  ) {
    throw new UsageError('ERR_TIME', `--to ${to} is before --from ${from}`);
  }
  return { from: start, to: end };
}

/** @throws UsageError ERR_BUDGET */
export function parseBudget(word: string): number {
  if (!/^\d+$/.test(word))
    throw new UsageError('ERR_BUDGET', `--budget ${word}: expected a number of calls, 0 or more`);
  return Number(word);
}

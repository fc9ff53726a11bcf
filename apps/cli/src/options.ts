/** Words of the command line to values, each refused by name when it is not one. */
import { UsageError } from '@shootdown/machine';
import type { TraceKind } from '@shootdown/trace';
import type { Parameter, Values } from '@shootdown/linux-mm';
import { type Kconfig, type Release, RELEASES } from '@shootdown/mmu-gather';
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

/** One of RELEASES. @throws UsageError ERR_KERNEL */
export function parseRelease(word: string): Release {
  const release = RELEASES.find((known) => known === word);
  if (release !== undefined) return release;
  throw new UsageError('ERR_KERNEL', `--kernel ${word}: expected one of ${RELEASES.join(', ')}`);
}

/** A whole number from 1 to `most`. @throws UsageError ERR_OPTION */
export function parseCount(option: string, word: string, most: number): number {
  const count = /^\d+$/.test(word) ? Number(word) : 0;
  if (count >= 1 && count <= most) return count;
  throw new UsageError(
    'ERR_OPTION',
    `${option} ${word}: expected a whole number from 1 to ${most}`,
  );
}

const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Bytes, as `4096`, `64M` or `20G`. @throws UsageError ERR_OPTION */
export function parseSize(option: string, word: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(word);
  const bytes = Number(match?.[1] ?? 0) * (UNITS[match?.[2]?.toUpperCase() ?? ''] ?? 1);
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new UsageError('ERR_OPTION', `${option} ${word}: expected bytes, as 4096, 64M or 20G`);
}

/**
 * `OPTION=y` and `OPTION=n` words; whether there is such an option, composeKernel says.
 *
 * @throws UsageError ERR_OPTION
 */
export function parseKconfig(words: readonly string[]): Partial<Kconfig> {
  const config: Record<string, boolean> = {};
  for (const word of words) {
    const match = /^(?:CONFIG_)?([A-Z_]+)=([yn])$/.exec(word);
    if (match === null)
      throw new UsageError(
        'ERR_OPTION',
        `--kconfig ${word}: expected OPTION=y or OPTION=n, as PT_RECLAIM=n`,
      );
    config[match[1] ?? ''] = match[2] === 'y';
  }
  return config;
}

/** Allocations that may fail without memory being short: the kernel has a slower way for each. */
export const FALLIBLE = ['tlb_next_batch', 'tlb_remove_table', 'alloc_cpumask_var'] as const;

/** `name=chance` words. @throws UsageError ERR_OPTION */
export function parseFailures(words: readonly string[]): Readonly<Record<string, number>> {
  const failures: Record<string, number> = {};
  for (const word of words) {
    const [name = '', chance = ''] = word.split('=');
    const value = /^(?:0|1|0?\.\d+|1\.0+)$/.test(chance) ? Number(chance) : -1;
    if (!FALLIBLE.some((known) => known === name) || value < 0)
      throw new UsageError(
        'ERR_OPTION',
        `--fail ${word}: expected NAME=CHANCE, a name of ${FALLIBLE.join(', ')} and a number from 0 to 1`,
      );
    failures[name] = value;
  }
  return failures;
}

/** The name under which commander gives an option's word: `gap-us` is `gapUs`. */
const flagOf = (name: string): string =>
  name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());

/** The parameters of a workload, each its own option. @throws UsageError ERR_OPTION */
export function parseParameters(
  parameters: readonly Parameter[],
  flags: Readonly<Record<string, string | readonly string[] | undefined>>,
): Values {
  const values: Record<string, number | readonly number[]> = {};
  for (const parameter of parameters) {
    const word = flags[flagOf(parameter.name)];
    values[parameter.name] =
      typeof word === 'string' ? parseValue(parameter, word) : parameter.fallback;
  }
  return values;
}

function parseValue(parameter: Parameter, word: string): number | readonly number[] {
  const { name, fallback, least = 1, unit } = parameter;
  const option = `--${name}`;
  const one = (part: string): number => {
    const value =
      unit === 'bytes' ? parseSize(option, part) : /^\d+$/.test(part) ? Number(part) : -1;
    if (Number.isSafeInteger(value) && value >= least) return value;
    throw new UsageError(
      'ERR_OPTION',
      `${option} ${word}: expected ${typeof fallback === 'number' ? 'a whole number' : 'whole numbers, as 1,8,33,'} from ${least}`,
    );
  };
  return typeof fallback === 'number' ? one(word) : word.split(',').map(one);
}

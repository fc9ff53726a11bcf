/**
 * `shootdown validate`: the model in lockstep with a recorded trace. All decisions about the answer
 * are validate's and report's; with --predict, whatif's.
 */
import type { Command } from 'commander';
import { UsageError } from '@shootdown/machine';
import { RELEASES } from '@shootdown/mmu-gather';
import { validateBlocks, type ValidateView, validateView } from '@shootdown/report';
import { openTrace } from '@shootdown/trace';
import { nodeCodecs } from '@shootdown/trace/node';
import { DECISIONS, type Depth, FIELDS, validate as inLockstep } from '@shootdown/validate';
import { parseDocumentFormat, writeAnswer } from './answer.ts';
import { X86_BACKEND_NAMES, x86BackendNamed } from './backends.ts';
import { Exit } from './exitCodes.ts';
import { openInput } from './input.ts';
import { parseCount, parseKind, parseRelease } from './options.ts';
import { predict } from './predict.ts';
import { progress, type Progress } from './progress.ts';
import type { Output } from './replay.ts';

/** The options as commander gives them. */
export interface ValidateFlags {
  /** A release of RELEASES; default: found. */
  readonly kernel?: string;
  readonly cpus?: string;
  /** --pcid, --no-pcid; default: found. */
  readonly pcid?: boolean;
  readonly pti?: boolean;
  readonly depth?: string;
  readonly backend: string;
  /** How many differences are printed. */
  readonly differences?: string;
  readonly fields?: boolean;
  readonly predict?: boolean;
  /** Of --predict: `FROM,TO`. */
  readonly marks?: string;
  readonly format: string;
  readonly inputFormat?: string;
  readonly keepGoing?: boolean;
}

/** Differences that are printed unless told otherwise. */
const SHOWN = 5;

/** More than a validation keeps in full. */
const MOST_SHOWN = 50;

/** The machine's own limit. */
const MAX_CPUS = 8192;

/** Runs the command; gives the exit code. */
export async function validate(
  file: string,
  flags: ValidateFlags,
  output: Output,
): Promise<number> {
  const format = parseDocumentFormat(flags.format);
  const kind = flags.inputFormat === undefined ? null : parseKind(flags.inputFormat);
  const kernel = flags.kernel === undefined ? undefined : parseRelease(flags.kernel);
  const cpus = flags.cpus === undefined ? undefined : parseCount('--cpus', flags.cpus, MAX_CPUS);
  const depth = flags.depth === undefined ? undefined : parseDepth(flags.depth);
  const shown = parseDifferences(flags.differences);
  x86BackendNamed(flags.backend);
  if (flags.predict === true) return predict(file, ofPredict(flags), output);
  if (flags.marks !== undefined)
    throw new UsageError('ERR_OPTION', '--marks is for --predict: give both, or neither');
  let bar: Progress | null = null;
  const input = await openInput(file, (bytes) => bar?.advance(bytes));
  try {
    bar = progress(input.source.size);
    const trace = await openTrace(input.source, {
      codecs: nodeCodecs,
      keepGoing: flags.keepGoing ?? false,
      ...(kind === null ? {} : { kind }),
    });
    const { cpus: stated } = trace.header;
    if (cpus !== undefined && stated !== null && cpus < stated)
      throw tooFew(cpus, `the recording says that the machine has ${stated}`);
    const result = await inLockstep(trace, {
      backend: ({ pcid, pti }) => x86BackendNamed(flags.backend, { pcid, invpcid: pcid, pti }),
      kernel,
      cpus,
      depth,
      pcid: flags.pcid,
      pti: flags.pti,
    });
    bar.stop();
    if (cpus !== undefined && result.outside > 0)
      throw tooFew(cpus, `${result.outside} records are of CPUs from ${cpus} on`);
    const view = validateView(result, {
      toolVersion: output.toolVersion,
      header: trace.header,
      status: trace.status(),
      rules: DECISIONS,
      fields: FIELDS[result.depth],
      // A program that reads JSON takes what it wants; a reader is shown a few.
      differences: format === 'json' && flags.differences !== undefined ? shown : undefined,
    });
    const parts = { fields: flags.fields ?? false, differences: shown };
    writeAnswer(view, () => validateBlocks(view, parts), format, output);
    return finish(view, output);
  } finally {
    bar?.stop();
    await input.close();
  }
}

const tooFew = (cpus: number, why: string): UsageError =>
  new UsageError(
    'ERR_CPU_RANGE',
    `--cpus ${cpus}: ${why}; give as many as it had, or leave the option out`,
  );

/** Gives the exit code: what differs differs, also in a recording with holes. */
function finish({ verdict, lost, input }: ValidateView, output: Output): number {
  if (verdict === 'different') return Exit.exceeded;
  const why = [
    ...(verdict === 'undecided'
      ? ["nothing could be decided; 'shootdown record --depth probes' prints what to record"]
      : []),
    ...(lost.counted + lost.uncounted > 0 ? ['events were lost'] : []),
    ...(input.problems > 0 ? ['parts of the input could not be read'] : []),
    ...(input.outside > 0 ? ['records of CPUs that the machine has not: give --cpus'] : []),
  ];
  if (why.length === 0) return Exit.ok;
  output.warn(`incomplete: ${why.join(', ')}`);
  return Exit.incomplete;
}

/** What --predict takes. @throws UsageError ERR_OPTION for an option that means nothing there. */
function ofPredict(flags: ValidateFlags): Parameters<typeof predict>[1] {
  const { cpus, depth, differences, fields } = flags;
  for (const [name, value] of Object.entries({ cpus, depth, differences, fields }))
    if (value !== undefined)
      throw new UsageError('ERR_OPTION', `--${name} is not for --predict: leave one of them out`);
  return flags;
}

/** @throws UsageError ERR_OPTION */
function parseDepth(word: string): Depth {
  const depths = Object.keys(FIELDS) as Depth[];
  const depth = depths.find((known) => known === word);
  if (depth !== undefined) return depth;
  throw new UsageError(
    'ERR_OPTION',
    `--depth ${word}: expected one of ${depths.join(', ')} (default: as deep as the recording goes)`,
  );
}

/** @throws UsageError ERR_OPTION */
function parseDifferences(word: string | undefined): number {
  if (word === undefined) return SHOWN;
  const count = /^\d+$/.test(word) ? Number(word) : -1;
  if (count >= 0 && count <= MOST_SHOWN) return count;
  throw new UsageError(
    'ERR_OPTION',
    `--differences ${word}: expected a whole number from 0 to ${MOST_SHOWN}`,
  );
}

/** Adds the command to `program`; `done` is told its exit code. */
export function addValidate(program: Command, output: Output, done: (code: number) => void): void {
  program
    .command('validate')
    .description(
      'the model in lockstep with a recorded trace: does it decide what the recorded kernel decided',
    )
    .argument(
      '<file>',
      'ftrace text, trace-cmd report text or trace.dat, plain or gzip; - for standard input',
    )
    .option('--kernel <release>', `${RELEASES.join(', ')} (default: found in the recording)`)
    .option('--cpus <n>', 'CPUs of the recorded machine (default: found)')
    .option('--pcid', 'the CPUs have PCIDs (default: found)')
    .option('--no-pcid', 'they have none')
    .option('--pti', 'page tables are isolated (no record shows it)')
    .option('--depth <depth>', `${Object.keys(FIELDS).join(', ')} (default: found)`)
    .option('--backend <name>', X86_BACKEND_NAMES.join(', '), 'native')
    .option('--differences <n>', `print so many, 0 to ${MOST_SHOWN} (default: ${SHOWN})`)
    .option('--fields', 'print which fields are inputs and which are judged')
    .option('--predict', 'predict the flushes instead, from everything else in the trace')
    .option('--marks <from,to>', 'with --predict: count between these lines of trace_marker')
    .option('-f, --format <format>', 'text, md, json', 'text')
    .option(
      '--input-format <kind>',
      'ftrace, trace-cmd-report or trace.dat, if the content misleads',
    )
    .option('--keep-going', 'judge what can be read of a damaged input')
    .action(async (file: string, flags: ValidateFlags) => {
      done(await validate(file, flags, output));
    });
}

/**
 * `shootdown calibrate`: how long the parts of a shootdown take in a recorded trace, and what that
 * makes of the cost table. All decisions about the answer are whatif's and report's.
 */
import { writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { UsageError } from '@shootdown/machine';
import { calibrateBlocks, type CalibrateView, calibrateView, costProfile } from '@shootdown/report';
import { openTrace } from '@shootdown/trace';
import { nodeCodecs } from '@shootdown/trace/node';
import { calibrate as measure } from '@shootdown/whatif';
import { parseDocumentFormat, writeAnswer } from './answer.ts';
import { backendNamed } from './backends.ts';
import { costsWith } from './costProfile.ts';
import { Exit } from './exitCodes.ts';
import { openInput } from './input.ts';
import { jsonText } from './json.ts';
import { parseKind } from './options.ts';
import { progress, type Progress } from './progress.ts';
import type { Output } from './replay.ts';

/** The options as commander gives them. */
export interface CalibrateFlags {
  readonly clock?: string;
  readonly tscMhz?: string;
  readonly output?: string;
  readonly format: string;
  readonly inputFormat?: string;
  readonly keepGoing?: boolean;
}

/** Runs the command; gives the exit code. */
export async function calibrate(
  file: string,
  flags: CalibrateFlags,
  output: Output,
): Promise<number> {
  const format = parseDocumentFormat(flags.format);
  const kind = flags.inputFormat === undefined ? null : parseKind(flags.inputFormat);
  const tscMhz = flags.tscMhz === undefined ? undefined : parseMhz(flags.tscMhz);
  let bar: Progress | null = null;
  const input = await openInput(file, (bytes) => bar?.advance(bytes));
  try {
    bar = progress(input.source.size);
    const trace = await openTrace(input.source, {
      codecs: nodeCodecs,
      keepGoing: flags.keepGoing ?? false,
      ...(kind === null ? {} : { kind }),
    });
    const table = costsWith(backendNamed('native'));
    const measured = await measure(trace, { table, clock: flags.clock, tscMhz });
    bar.stop();
    const view = calibrateView(measured, { toolVersion: output.toolVersion, file: trace.name });
    writeAnswer(view, () => calibrateBlocks(view), format, output);
    return finish(view, flags.output, output);
  } finally {
    bar?.stop();
    await input.close();
  }
}

/** Writes the profile, if there is one to write; gives the exit code. */
function finish(view: CalibrateView, path: string | undefined, output: Output): number {
  if (view.intervals.every(({ lengths }) => lengths === null)) {
    output.warn("no data: 'shootdown record' prints what to record");
    return Exit.incomplete;
  }
  if (path === undefined) return Exit.ok;
  if (view.entries.length === 0) {
    output.warn(`${path}: not written, no entry of the cost table can be had from this trace`);
    return Exit.incomplete;
  }
  try {
    writeFileSync(path, `${jsonText(costProfile(view), 2)}\n`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError('ERR_OPTION', `--output ${path}: cannot be written (${why})`);
  }
  return Exit.ok;
}

/** @throws UsageError ERR_OPTION */
function parseMhz(word: string): number {
  const mhz = /^\d+(?:\.\d+)?$/.test(word) ? Number(word) : 0;
  if (mhz > 0 && Number.isFinite(mhz)) return mhz;
  throw new UsageError(
    'ERR_OPTION',
    `--tsc-mhz ${word}: expected the frequency of the TSC in MHz, as 2593.906`,
  );
}

/** Adds the command to `program`; `done` is told its exit code. */
export function addCalibrate(program: Command, output: Output, done: (code: number) => void): void {
  program
    .command('calibrate')
    .description(
      'measure a recorded trace: how long each part of a shootdown takes, as costs for run',
    )
    .argument(
      '<file>',
      'ftrace text, trace-cmd report text or trace.dat, plain or gzip; - for standard input',
    )
    .option(
      '--clock <name>',
      'the clock it was recorded with, if it does not say: local, mono, ...',
    )
    .option('--tsc-mhz <n>', 'frequency of the TSC, for times in ticks')
    .option('-o, --output <file>', 'write a cost profile, which run --costs reads')
    .option('-f, --format <format>', 'text, md, json', 'text')
    .option(
      '--input-format <kind>',
      'ftrace, trace-cmd-report or trace.dat, if the content misleads',
    )
    .option('--keep-going', 'measure what can be read of a damaged input')
    .action(async (file: string, flags: CalibrateFlags) => {
      done(await calibrate(file, flags, output));
    });
}

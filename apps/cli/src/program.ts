/** The command line: names, options, help. Each action parses its words and calls one function. */
import { Command, CommanderError } from 'commander';
import { type Parameter, type Workload, WORKLOADS } from '@shootdown/linux-mm';
import { DEFAULT_RELEASE, RELEASES } from '@shootdown/mmu-gather';
import {
  backendsSchema,
  calibrateSchema,
  predictSchema,
  replaySchema,
  runSchema,
  validateSchema,
} from '@shootdown/report';
import { parseCpuList, UsageError } from '@shootdown/machine';
import { Exit } from './exitCodes.ts';
import { FORMATS } from './options.ts';
import { recordCommands } from './record.ts';
import { probeCommands } from './recordProbes.ts';
import { BACKEND_NAMES } from './backends.ts';
import { addBackends } from './listBackends.ts';
import { EDITION_NAMES } from './editions.ts';
import { addCalibrate } from './calibrate.ts';
import { FALLIBLE } from './options.ts';
import { run as runWorkload, type RunFlags } from './run.ts';
import { type Output, replay, type ReplayFlags } from './replay.ts';
import { addValidate } from './validate.ts';

/** The options of `record` as commander gives them. */
interface RecordFlags {
  readonly isolated: string;
  readonly seconds: string;
  readonly depth: string;
}

/** What `record` prints, by depth. */
const DEPTHS: ReadonlyMap<string, typeof recordCommands> = new Map([
  ['calls', recordCommands],
  ['probes', probeCommands],
]);

/**
 * Runs the command line `words` (without node and script); gives the exit code. Throws what the
 * commands throw.
 */
export async function run(words: readonly string[], output: Output): Promise<number> {
  let code: number = Exit.ok;
  const program = new Command('shootdown')
    .description(
      'Which CPUs are interrupted by TLB work, by whom, and what another design would leave.',
    )
    .version(output.toolVersion)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => output.write(text),
      writeErr: (text) => output.complain(text),
    })
    .showSuggestionAfterError();
  program
    .command('replay')
    .description(
      'answer from a recorded trace: who interrupts whom with TLB work, why, and what would be left',
    )
    .argument(
      '<file>',
      'ftrace text, trace-cmd report text or trace.dat, plain or gzip; - for standard input',
    )
    .option(
      '--isolated <cpus>',
      'the CPUs that should be quiet, as a kernel cpu list: 6-7,9 or 0-31:2/4 or all',
    )
    .option('--cpu-list <cpus>', 'only calls from or to these CPUs')
    .option(
      '--from <time>',
      'start here: seconds as the trace prints them, or +seconds from its first event',
    )
    .option('--to <time>', 'end here')
    .option('-f, --format <format>', FORMATS.join(', '), 'text')
    .option(
      '--input-format <kind>',
      'ftrace, trace-cmd-report or trace.dat, if the content misleads',
    )
    .option('--budget <calls>', 'exit 1 if more TLB calls than this reach the isolated CPUs')
    .option('--keep-going', 'report what can be read of a damaged input')
    .option(
      '--strict',
      'exit 4 if the answer is incomplete: events lost, parts unreadable, evidence below A',
    )
    .action(async (file: string, flags: ReplayFlags) => {
      code = await replay(file, flags, output);
    });
  program
    .command('record')
    .description('print the commands that record a trace which answers')
    .option('--isolated <cpus>', 'the CPUs that should be quiet', '6-7')
    .option('--seconds <n>', 'how long', '10')
    .option('--depth <depth>', 'calls, for replay; probes, for validate', 'calls')
    .action((flags: RecordFlags) => {
      const isolated = parseCpuList(flags.isolated, null);
      if (!/^[1-9]\d*$/.test(flags.seconds))
        throw new UsageError(
          'ERR_OPTION',
          `--seconds ${flags.seconds}: expected a whole number of seconds`,
        );
      const commands = DEPTHS.get(flags.depth);
      if (commands === undefined)
        throw new UsageError(
          'ERR_OPTION',
          `--depth ${flags.depth}: expected ${Array.from(DEPTHS.keys()).join(' or ')}`,
        );
      output.write(commands(isolated, Number(flags.seconds)));
    });
  const workloads = program
    .command('run')
    .description(
      'run a workload on a modelled kernel and machine: who is interrupted, why, and how long it takes',
    );
  for (const workload of WORKLOADS)
    workloadCommand(workloads, workload).action((flags: RunFlags) => {
      code = runWorkload(workload, flags, output);
    });
  const done = (exit: number): void => {
    code = exit;
  };
  addBackends(program, output, done);
  addCalibrate(program, output, done);
  addValidate(program, output, done);
  program
    .command('schema')
    .description('print the JSON Schema of -f json')
    .argument('[command]', 'replay, run, backends, calibrate, validate or predict', 'replay')
    .action((command: string) => {
      const schema = SCHEMAS.get(command);
      if (schema === undefined)
        throw new UsageError(
          'ERR_OPTION',
          `schema ${command}: expected one of ${Array.from(SCHEMAS.keys()).join(', ')}`,
        );
      output.write(`${JSON.stringify(schema, null, 2)}\n`);
    });
  try {
    await program.parseAsync(words, { from: 'user' });
  } catch (error) {
    // Commander has already said what is wrong; help and version are not errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.ok : Exit.usage;
    throw error;
  }
  return code;
}

const SCHEMAS: ReadonlyMap<string, unknown> = new Map([
  ['replay', replaySchema],
  ['run', runSchema],
  ['backends', backendsSchema],
  ['calibrate', calibrateSchema],
  ['validate', validateSchema],
  ['predict', predictSchema],
]);

/** The command of one workload: what all have, and its own parameters. */
function workloadCommand(parent: Command, { name, title, threads, parameters }: Workload): Command {
  const command = parent
    .command(name)
    .description(title)
    .option('--cpus <n>', 'CPUs of the machine', '8')
    .option('--threads <n>', `threads of the workload, on a CPU each (default: ${threads ?? 2})`)
    .option('--isolated <cpus>', 'CPUs on which an unrelated process spins')
    .option('--lazy <cpus>', 'CPUs on which a thread of the workload sleeps all the time')
    .option('--kernel <release>', RELEASES.join(', '), DEFAULT_RELEASE)
    .option('--backend <name>', BACKEND_NAMES.join(', '), 'native')
    .option('--edition <name>', `a posted series: ${EDITION_NAMES.join(', ')}`, 'baseline')
    .option('--memory <size>', 'memory of the machine, as 64M or 20G (default: what it needs)')
    .option('--kconfig <option=y|n...>', 'changes to the configuration, as PT_RECLAIM=n')
    .option(
      '--fail <name=chance...>',
      `how often an allocation that may fail does: ${FALLIBLE.join(', ')}, from 0 to 1`,
    )
    .option('--costs <file>', 'a cost profile: entries of the cost table, as calibrate -o writes')
    .option('--seed <n>', 'of the choices that the model leaves open', '1')
    .option('-o, --output <file>', 'write what a recording would show, as ftrace text')
    .option('-f, --format <format>', 'text, md, json', 'text');
  for (const parameter of parameters)
    command.option(`--${parameter.name} <${placeholder(parameter)}>`, described(parameter));
  return command;
}

function placeholder({ fallback, unit }: Parameter): string {
  if (unit === 'bytes') return 'size';
  return typeof fallback === 'number' ? 'n' : 'list';
}

function described({ help, fallback, unit }: Parameter): string {
  const words = unit === 'bytes' ? `${Number(fallback) / 2 ** 20}M` : String(fallback);
  return `${help} (default: ${words})`;
}

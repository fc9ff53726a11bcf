/**
 * `shootdown run`: composes a kernel, has a workload run on it by the clock, and prints what it
 * counted. What happens is the kernel code's business.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import {
  formatCpuList,
  Machine,
  MAX_CPUS,
  MAX_FRAMES,
  PAGE_SIZE,
  parseCpuList,
  type TraceRecord,
  UsageError,
} from '@shootdown/machine';
import {
  composeKernel,
  DEFAULT_RELEASE,
  KERNEL_COSTS,
  type Release,
  RELEASES,
} from '@shootdown/mmu-gather';
import {
  type Choice,
  framesFor,
  mmFunctions,
  type PhaseCounts,
  setUpWorkload,
  sum,
  type Workload,
} from '@shootdown/linux-mm';
import { type PhaseView, runBlocks, type RunView } from '@shootdown/report';
import { runByClock } from '@shootdown/sim';
import { type RecordedEvent, type RecordedTask, TextWriter } from '@shootdown/trace';
import { parseDocumentFormat, writeAnswer } from './answer.ts';
import { backendNamed } from './backends.ts';
import { costsWith, readCostProfile } from './costProfile.ts';
import { editionNamed } from './editions.ts';
import { Exit } from './exitCodes.ts';
import { parseCount, parseFailures, parseKconfig, parseParameters, parseSize } from './options.ts';
import type { Output } from './replay.ts';

/** The options that every workload has, as commander gives them; its own parameters beside. */
export interface RunFlags {
  readonly cpus: string;
  readonly threads?: string;
  readonly isolated?: string;
  readonly lazy?: string;
  readonly kernel: string;
  readonly backend: string;
  readonly edition: string;
  readonly memory?: string;
  readonly seed: string;
  readonly fail?: readonly string[];
  readonly kconfig?: readonly string[];
  readonly costs?: string;
  readonly output?: string;
  readonly format: string;
  readonly [parameter: string]: string | readonly string[] | undefined;
}

/** Runs the command; gives the exit code. */
export function run(workload: Workload, flags: RunFlags, output: Output): number {
  const format = parseDocumentFormat(flags.format);
  const view = simulate(workload, flags, output);
  writeAnswer(view, () => runBlocks(view), format, output);
  // A WARN of the kernel is a finding.
  if (view.warnings.length === 0) return Exit.ok;
  output.warn(`the kernel warned: ${view.warnings.join('; ')}`);
  return Exit.exceeded;
}

function simulate(workload: Workload, flags: RunFlags, output: Output): RunView {
  const cpus = parseCount('--cpus', flags.cpus, MAX_CPUS);
  const threads =
    flags.threads === undefined
      ? Math.min(workload.threads ?? DEFAULT_THREADS, cpus)
      : parseCount('--threads', flags.threads, cpus);
  const isolated = flags.isolated === undefined ? [] : parseCpuList(flags.isolated, cpus);
  const lazyCpus = flags.lazy === undefined ? [] : parseCpuList(flags.lazy, cpus);
  const values = parseParameters(workload.parameters, flags);
  const choice: Choice = { threads, values, isolated, lazyCpus };
  const needed = framesFor(workload, choice);
  if (needed > MAX_FRAMES)
    throw new UsageError(
      'ERR_MEMORY',
      `${workload.name} needs ${Math.ceil(needed / FRAMES_PER_TIB)} TiB of memory with these parameters, and a ` +
        `machine has ${MAX_FRAMES / FRAMES_PER_TIB} TiB at most: ask for less`,
    );
  const frames =
    flags.memory === undefined
      ? needed
      : Math.floor(parseSize('--memory', flags.memory) / PAGE_SIZE);
  const backend = backendNamed(flags.backend);
  const release = releaseNamed(flags.kernel);
  const editions = editionNamed(flags.edition);
  const profile =
    flags.costs === undefined ? null : readCostProfile(flags.costs, costsWith(backend));
  const trace = flags.output === undefined ? null : new TraceFile(flags.output, cpus);
  try {
    const machine = new Machine({
      cpus,
      frames,
      sink: trace?.sink,
      environment: backend.environment?.(cpus),
    });
    const k = composeKernel({
      machine,
      backend,
      functions: mmFunctions,
      kernel: release,
      editions,
      kconfig: parseKconfig(flags.kconfig ?? []),
      frames,
      nodes: workload.nodes ?? 1,
    });
    const phases = setUpWorkload(k, workload, choice);
    const costs = { ...KERNEL_COSTS, ...backend.costs, ...profile?.costs };
    const failures = parseFailures(flags.fail ?? []);
    const seed = parseCount('--seed', flags.seed, Number.MAX_SAFE_INTEGER);
    const { timeNs, ops, interrupts } = withoutStack(() =>
      runByClock(machine, { costs, seed, failures }),
    );
    trace?.end();
    const counts = phases.counts;
    return {
      schemaVersion: 1,
      command: 'run',
      toolVersion: output.toolVersion,
      workload: workload.name,
      title: workload.title,
      parameters: values,
      cpus,
      threads,
      isolated: formatCpuList(isolated),
      lazy: formatCpuList(lazyCpus),
      kernel: k.release,
      backend: backend.id,
      editions: k.editions,
      costProfile:
        profile === null ? null : { file: profile.file, entries: Object.keys(profile.costs) },
      simulated: { timeNs, ops, interrupts },
      phases: counts.map(phaseView),
      total: phaseView({ ...counts.reduce(sum), name: 'all' }),
      warnings: Array.from(k.warnings),
    };
  } finally {
    trace?.close();
  }
}

/**
 * Memory that is short, or a program that goes wrong, is the user's business, and which coroutines met
 * it is not.
 */
function withoutStack<T>(drive: () => T): T {
  try {
    return drive();
  } catch (error) {
    const isUsers =
      error instanceof UsageError && (error.code === 'ERR_MEMORY' || error.code === 'ERR_WORKLOAD');
    throw isUsers && error.cause instanceof UsageError ? error.cause : error;
  }
}

const DEFAULT_THREADS = 2;
const FRAMES_PER_TIB = 2 ** 40 / PAGE_SIZE;

function releaseNamed(name: string): Release {
  const release = RELEASES.find((known) => known === name);
  if (release !== undefined) return release;
  throw new UsageError(
    'ERR_KERNEL',
    `--kernel ${name}: expected one of ${RELEASES.join(', ')} (default ${DEFAULT_RELEASE})`,
  );
}

const phaseView = ({ ipis, flushes, ...rest }: PhaseCounts): PhaseView => ({
  ...rest,
  ipis: ipis.map(({ func, origin, sends, interrupts }) => ({
    function: func,
    during: origin,
    sends,
    interrupts,
  })),
  flushes: Object.entries(flushes)
    .map(([key, count]) => {
      const [reason = 0, pages = 0] = key.split(':').map(Number);
      return { reason, pages, count };
    })
    .toSorted((a, b) => b.reason - a.reason || a.pages - b.pages),
});

/** The run as ftrace text, which `replay` reads. */
class TraceFile {
  private readonly file: number;
  private readonly writer: TextWriter;
  private open = true;

  constructor(path: string, cpus: number) {
    try {
      this.file = openSync(path, 'w');
    } catch (error) {
      throw new UsageError(
        'ERR_OPTION',
        `--output ${path}: cannot be written (${error instanceof Error ? error.message : String(error)})`,
      );
    }
    this.writer = new TextWriter((text) => writeSync(this.file, text), { cpus });
  }

  readonly sink = ({ task, event, ...rest }: TraceRecord): void => {
    const who = taskOf(task);
    this.writer.record({ ...rest, task: who, event: event as RecordedEvent });
  };

  end(): void {
    this.writer.end();
  }

  close(): void {
    if (this.open) closeSync(this.file);
    this.open = false;
  }
}

interface KernelTask {
  readonly pid: number;
  readonly comm: string;
  readonly tgid: number;
}

const isTask = (who: unknown): who is KernelTask =>
  typeof who === 'object' && who !== null && 'pid' in who && 'comm' in who && 'tgid' in who;

/** The task of a record as a recording names it; null is an idle CPU. */
function taskOf(who: unknown): RecordedTask | null {
  if (!isTask(who) || who.pid === 0) return null;
  return { pid: who.pid, comm: who.comm, tgid: who.tgid };
}

/**
 * `shootdown replay`: reads a trace, counts, and prints. All decisions about the answer are
 * whatif's and report's.
 */
import { parseCpuList, UsageError } from '@shootdown/machine';
import {
  type Block,
  renderMarkdown,
  renderText,
  replayBlocks,
  replayView,
  type ReplayView,
  type Style,
} from '@shootdown/report';
import { openTrace, type OpenedTrace } from '@shootdown/trace';
import { nodeCodecs } from '@shootdown/trace/node';
import { CALL_KINDS, countReplay, type ObservedCall } from '@shootdown/whatif';
import { Exit } from './exitCodes.ts';
import { openInput } from './input.ts';
import { jsonText } from './json.ts';
import { parseBudget, parseFormat, parseKind, parseWindow } from './options.ts';
import { progress, type Progress } from './progress.ts';

/** The options as commander gives them. */
export interface ReplayFlags {
  readonly isolated?: string;
  readonly cpuList?: string;
  readonly from?: string;
  readonly to?: string;
  readonly format: string;
  readonly inputFormat?: string;
  readonly budget?: string;
  readonly keepGoing?: boolean;
  readonly strict?: boolean;
}

/** Where the answer goes. */
export interface Output {
  readonly style: Style;
  readonly toolVersion: string;
  write(text: string): void;
  /** One line about the answer that is not part of it. */
  warn(text: string): void;
  /**
   * What commander says of a command line it cannot take: an error in one or two lines, or the
   * help.
   */
  complain(text: string): void;
}

/** Runs the command; gives the exit code. */
export async function replay(file: string, flags: ReplayFlags, output: Output): Promise<number> {
  const format = parseFormat(flags.format);
  const budget = flags.budget === undefined ? null : parseBudget(flags.budget);
  const kind = flags.inputFormat === undefined ? null : parseKind(flags.inputFormat);
  if (budget !== null && flags.isolated === undefined) {
    throw new UsageError(
      'ERR_BUDGET',
      '--budget counts TLB calls to isolated CPUs: give --isolated too',
    );
  }
  // A list that is no list is refused before any file is opened.
  for (const list of [flags.isolated, flags.cpuList])
    if (list !== undefined && !namesLast(list)) parseCpuList(list, null);
  let bar: Progress | null = null;
  const input = await openInput(file, (bytes) => bar?.advance(bytes));
  try {
    bar = progress(input.source.size);
    const trace = await openTrace(input.source, {
      codecs: nodeCodecs,
      keepGoing: flags.keepGoing ?? false,
      ...(kind === null ? {} : { kind }),
    });
    const unit = trace.header.clock.unit === 'ticks' ? 'ticks' : 'us';
    const onCall = format === 'ndjson' ? ndjson(output, unit) : undefined;
    const view = await answer(trace, flags, input.source.size, output, onCall);
    bar.stop();
    print(view, format, output);
    return exitCode(view, budget, flags, output);
  } finally {
    bar?.stop();
    await input.close();
  }
}

async function answer(
  trace: OpenedTrace,
  flags: ReplayFlags,
  bytes: number | null,
  output: Output,
  onCall: ((call: ObservedCall) => void) | undefined,
): Promise<ReplayView> {
  const { header } = trace;
  // ftrace's header counts the CPUs that are online, whose numbers may be higher: there the trace's
  // end decides.
  const limit = header.kind === 'ftrace' ? null : header.cpus;
  const cpuList = (list: string): ReturnType<typeof parseCpuList> =>
    parseCpuList(list, namesLast(list) ? header.cpus : limit);
  const isolated = flags.isolated === undefined ? [] : cpuList(flags.isolated);
  const counts = await countReplay(trace, {
    isolated,
    only: flags.cpuList === undefined ? undefined : cpuList(flags.cpuList),
    ...parseWindow(flags.from, flags.to, header.clock.unit),
    onCall,
  });
  const { from, to } = counts.cut;
  if (from !== null && to !== null && to < from) {
    throw new UsageError('ERR_TIME', `--to ${flags.to} is before --from ${flags.from}`);
  }
  for (const list of [flags.isolated, flags.cpuList]) {
    if (list === undefined || counts.records === 0) continue;
    parseCpuList(list, counts.cpus);
    if (namesLast(list) && counts.cpus !== header.cpus) {
      const why = `the header counts ${header.cpus} CPUs online, but there is a CPU ${counts.cpus - 1}`;
      throw new UsageError('ERR_CPU_LIST', `cpu list '${list}': ${why}; name the CPUs`);
    }
  }
  return replayView(counts, {
    toolVersion: output.toolVersion,
    file: trace.name,
    bytes,
    header,
    kinds: CALL_KINDS,
  });
}

/** Whether a cpu list hangs on how many CPUs there are. */
const namesLast = (list: string): boolean => /\ball\b|N/.test(list);

/**
 * One line per call as it is read, in the words of the report, which follows as the last line. What
 * a task was doing is said as it is known then: the report may know better.
 */
function ndjson(output: Output, unit: 'us' | 'ticks'): (call: ObservedCall) => void {
  return ({ evidence, time, from, to, comm, pid, origin, func, kind }) => {
    const where = { evidence, unit, time, from, to };
    const what = { task: comm, pid, in: origin, function: func, kind };
    output.write(`${jsonText({ type: 'call', ...where, ...what })}\n`);
  };
}

function print(view: ReplayView, format: ReturnType<typeof parseFormat>, output: Output): void {
  const blocks = (): readonly Block[] => replayBlocks(view);
  if (format === 'json') output.write(`${jsonText(view, 2)}\n`);
  else if (format === 'ndjson') output.write(`${jsonText({ type: 'report', ...view })}\n`);
  else if (format === 'md') output.write(renderMarkdown(blocks()));
  else output.write(renderText(blocks(), output.style));
}

function exitCode(
  view: ReplayView,
  budget: number | null,
  flags: ReplayFlags,
  output: Output,
): number {
  if (view.evidence.level === null) {
    output.warn(`no data: ${view.evidence.why}; 'shootdown record' prints what to record`);
    return Exit.incomplete;
  }
  // Over is over, whatever else is not in the trace.
  const tlbCalls = view.received?.tlbCalls ?? 0;
  if (budget !== null && tlbCalls > budget) {
    const least = view.complete ? '' : 'at least ';
    const calls = `${least}${tlbCalls} TLB calls to CPUs ${view.isolated}`;
    output.warn(`over budget: ${calls}, ${budget} allowed`);
    return Exit.exceeded;
  }
  if (view.complete || (budget === null && flags.strict !== true)) return Exit.ok;
  const option = budget === null ? '--strict' : '--budget';
  output.warn(`incomplete (${option}): ${incompleteness(view)}`);
  return Exit.incomplete;
}

/** Why a view is not complete. */
function incompleteness(view: ReplayView): string {
  if (view.lost.counted + view.lost.uncounted > 0) return 'events were lost';
  if (view.input.unreadable.count > 0) return 'parts of the input could not be read';
  if (view.evidence.level === 'A') return 'calls were sent before csd_queue_cpu was recorded';
  return `evidence ${view.evidence.level ?? 'none'}: ${view.evidence.why}`;
}

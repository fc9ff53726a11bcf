/**
 * Recordings of a real kernel against the model: the same programs with the same parameters, and what
 * each counts between the same marks.
 */
import { readFileSync } from 'node:fs';
import { Machine } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import { composeKernel, KERNEL_COSTS } from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import { mmFunctions } from './mmFunctions.ts';
import { WORKLOADS } from './workloads/all.ts';
import type { PhaseCounts } from './workloads/phases.ts';
import { framesFor, setUpWorkload, type Values } from './workloads/workload.ts';

/** tlb_flush events by `reason:pages`. */
export type Flushes = Readonly<Record<string, number>>;

/** One recorded run. */
export interface Recording {
  readonly machine: string;
  /** The workload's name. */
  readonly program: string;
  readonly arguments: Readonly<Record<string, string>>;
  readonly phases: Readonly<Record<string, Flushes>>;
}

const FIXTURE = new URL('../fixtures/linux-6.12.117.json', import.meta.url);

const read = JSON.parse(readFileSync(FIXTURE, 'utf8')) as {
  readonly runs: Readonly<Record<string, Recording>>;
};

/** By name: `W1-madvise-T2-N50`. */
export const RECORDINGS: Readonly<Record<string, Recording>> = read.runs;

/** Parameters of ours by what the recorded program calls them. */
const PARAMETERS: Readonly<Record<string, string>> = {
  N: 'iterations',
  gap_us: 'gap-us',
  list: 'list',
  other: 'other',
  procs: 'processes',
  sleep_us: 'sleep-us',
  spin: 'spinners',
};

/** Phases of later rounds have shorter names in the recording of W7. */
const SAME_PHASE: Readonly<Record<string, string>> = {
  'split by mprotect 1 page': 'split',
  'collapse, then zap the huge page': 'zap huge',
};

/** Runs the model as the recorded program was run; gives its phases. */
export function modelled({ program, arguments: given }: Recording): readonly PhaseCounts[] {
  const workload = WORKLOADS.find(({ name }) => name === program);
  if (workload === undefined) throw new Error(`there is no workload ${program}`);
  const values: Record<string, number | readonly number[]> = {};
  for (const { name, fallback } of workload.parameters) values[name] = fallback;
  for (const [name, word] of Object.entries(given)) {
    const parameter = PARAMETERS[name];
    if (parameter === undefined || values[parameter] === undefined) continue;
    const isList = typeof values[parameter] === 'object';
    values[parameter] = isList ? word.split(',').map(Number) : Number(word);
  }
  const choice = { threads: Number(given['T'] ?? 2), values: values satisfies Values };
  const frames = framesFor(workload, choice);
  const machine = new Machine({ cpus: 8, frames });
  const nodes = workload.nodes ?? 1;
  const backend = native();
  const parts = {
    machine,
    backend,
    functions: mmFunctions,
    kernel: '6.12.117',
    frames,
    nodes,
  } as const;
  const phases = setUpWorkload(composeKernel(parts), workload, choice);
  runByClock(machine, { costs: KERNEL_COSTS });
  return phases.counts;
}

/** One phase on both sides, the events of switches left out: those are other tasks' business too. */
export interface Comparison {
  readonly phase: string;
  readonly recorded: Flushes;
  readonly modelled: Flushes;
}

const withoutSwitches = (flushes: Flushes): Flushes =>
  Object.fromEntries(
    Object.entries(flushes)
      .filter(([key]) => !key.startsWith('0:'))
      .toSorted(([a], [b]) => (a < b ? 1 : -1)),
  );

const added = (a: Flushes, b: Flushes): Flushes => {
  const both: Record<string, number> = { ...a };
  for (const [key, count] of Object.entries(b)) both[key] = (both[key] ?? 0) + count;
  return both;
};

const COMPARED = new Map<Recording, readonly Comparison[]>();

/** Both sides of every phase of a recording; run once. */
export function compare(recording: Recording): readonly Comparison[] {
  const known = COMPARED.get(recording) ?? comparePhases(recording);
  COMPARED.set(recording, known);
  return known;
}

function comparePhases(recording: Recording): readonly Comparison[] {
  return modelled(recording).map(({ name, flushes }) => {
    const later = recording.phases[SAME_PHASE[name] ?? ''] ?? {};
    const recorded = added(recording.phases[name] ?? {}, later);
    return {
      phase: name,
      recorded: withoutSwitches(recorded),
      modelled: withoutSwitches(flushes),
    };
  });
}

/** Whether both sides counted the same. */
export const isEqual = ({ recorded, modelled: model }: Comparison): boolean =>
  JSON.stringify(recorded) === JSON.stringify(model);

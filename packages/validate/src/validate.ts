/** A whole recording in lockstep with the model. */
import {
  DEFAULT_RELEASE,
  type Edition,
  type Release,
  RELEASES,
  rulesOf,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import type { OpenedTrace, RecordedRecord } from '@shootdown/trace';
import { type Score, totalOf } from './decisions.ts';
import type { Depth } from './fields.ts';
import type { Handler } from './handler.ts';
import { handlersOf, isBelow } from './handlers.ts';
import { Lockstepper } from './lockstep.ts';
import type { ValidationResult } from './result.ts';
import { type Finding, kindOf, refuse, type Survey, survey } from './survey.ts';
import { closeSwitch } from './switches.ts';

/** Features of the CPUs, of which a backend is made. */
export interface CpuFeatures {
  readonly pcid: boolean;
  readonly pti: boolean;
}

/** What to validate with. What is not said is found in the recording. */
export interface ValidateOptions {
  /** Makes the backend for CPUs with these features. */
  readonly backend: (features: CpuFeatures) => TlbBackend;
  /** Default: the release whose rules fit the recording's front best. */
  readonly kernel?: Release | undefined;
  readonly cpus?: number | undefined;
  readonly pcid?: boolean | undefined;
  /** Default false. */
  readonly pti?: boolean | undefined;
  readonly depth?: Depth | undefined;
  readonly editions?: readonly Edition[] | undefined;
}

/** So many records are looked at before the model is built. */
const FRONT = 1 << 15;
/** So many records later releases that do not fit are given up. */
const STRETCH = 1 << 10;
/** So many more differences than the best are no accident. */
const HOPELESS = 4;

/** Events that say that a CPU comes or goes. */
const HOTPLUG = /^cpuhp_(?:enter|multi_enter)$/;

/**
 * Validates `trace`, which must not have been read before.
 *
 * @throws UsageError ERR_VALIDATE for a recording that cannot be judged, by what is missing;
 * TraceFormatError what its reader throws.
 */
export async function validate(
  trace: OpenedTrace,
  options: ValidateOptions,
): Promise<ValidationResult> {
  const source = trace.batches()[Symbol.asyncIterator]();
  try {
    return await drive(trace, source, options);
  } finally {
    await source.return?.();
  }
}

async function drive(
  trace: OpenedTrace,
  source: AsyncIterator<readonly RecordedRecord[]>,
  options: ValidateOptions,
): Promise<ValidationResult> {
  const front: (readonly RecordedRecord[])[] = [];
  const gaps: (readonly number[])[] = [];
  let records = 0;
  const known = new Map<number, number>();
  while (records < FRONT) {
    const next = await source.next();
    if (next.done === true) break;
    front.push(next.value);
    gaps.push(newGaps(trace, known));
    records += next.value.length;
  }
  if (records === 0) throw refuse(trace.name, 'it has no events');
  const found = survey(trace, front.flat(), options);
  let trials = trialsOf(trace, found, options);
  const feed = (batch: readonly RecordedRecord[], missing: readonly number[]): void => {
    for (let from = 0; from < batch.length; from += STRETCH) {
      const stretch = batch.slice(from, from + STRETCH);
      for (const { validation } of trials) for (const record of stretch) validation.record(record);
      if (trials.length > 1) trials = plausible(trials);
    }
    for (const { validation } of trials) validation.gap(missing);
  };
  front.forEach((batch, at) => feed(batch, gaps[at] ?? []));
  for (let next = await source.next(); next.done !== true; next = await source.next())
    feed(next.value, newGaps(trace, known));
  const [best, ...others] = fittest(trials);
  if (best === undefined) throw refuse(trace.name, 'no release to try');
  const like = others.flatMap(({ releases }) => releases);
  return best.validation.result(trace, kernelOf(best, like));
}

/** One release, or some that decide alike, tried on a recording. */
interface Trial {
  readonly releases: readonly Release[];
  /** Why it is this one, if nothing has to be tried. */
  readonly by: string | null;
  readonly validation: Validation;
}

/** As told, as the recording says, or every set of rules that there is. */
function trialsOf(trace: OpenedTrace, found: Survey, options: ValidateOptions): readonly Trial[] {
  const { kernel } = trace.header;
  const only = (release: Release, by: string): readonly Trial[] => [
    {
      releases: [release],
      by,
      validation: new Validation(found, { ...options, kernel: release }),
    },
  ];
  if (options.kernel !== undefined) return only(options.kernel, 'as told');
  const named = RELEASES.find((release) => seriesOf(release) === seriesOf(kernel ?? ''));
  if (named !== undefined) return only(named, `the header, ${kernel ?? ''}`);
  return apart().map((releases) => ({
    releases,
    by: null,
    validation: new Validation(found, { ...options, kernel: releases.at(-1) }),
  }));
}

const seriesOf = (release: string): string => release.split('.').slice(0, 2).join('.');

/** Without those that are hopelessly behind. */
function plausible(trials: readonly Trial[]): readonly Trial[] {
  const least = Math.min(...trials.map(({ validation }) => validation.differences));
  return trials.filter(({ validation }) => validation.differences <= least + HOPELESS);
}

/** Those that fit best; the default release's first, else the newest. */
function fittest(trials: readonly Trial[]): readonly Trial[] {
  const least = Math.min(...trials.map(({ validation }) => validation.differences));
  return trials
    .filter(({ validation }) => validation.differences === least)
    .toSorted((a, b) => age(b) - age(a));
}

const age = ({ releases }: Trial): number =>
  releases.includes(DEFAULT_RELEASE)
    ? RELEASES.length
    : RELEASES.indexOf(releases.at(-1) ?? '6.18');

function kernelOf({ releases, by, validation }: Trial, like: readonly Release[]): Finding<Release> {
  const value = releases.includes(DEFAULT_RELEASE)
    ? DEFAULT_RELEASE
    : (releases.at(-1) ?? DEFAULT_RELEASE);
  if (by !== null) return { value, by };
  const others = [...releases, ...like].filter((release) => release !== value);
  const alike = others.length === 0 ? '' : `, as do those of ${others.join(', ')}`;
  return { value, by: `its rules fit best, with ${validation.differences} differences${alike}` };
}

/** Releases by what their TLB code decides: those that decide alike together. */
function apart(): readonly (readonly Release[])[] {
  const groups = new Map<string, Release[]>();
  for (const release of RELEASES) {
    const { cpumaskClearedLazily, trimsCpumask } = rulesOf(release);
    const key = `${cpumaskClearedLazily} ${trimsCpumask}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [release]);
    else group.push(release);
  }
  return Array.from(groups.values());
}

/** CPUs of which events are missing behind the batch that was just read; -1: of some CPU. */
function newGaps(trace: OpenedTrace, known: Map<number, number>): readonly number[] {
  const { gaps } = trace.status();
  const fresh: number[] = [];
  for (const [cpu, count] of gaps) {
    const key = cpu ?? -1;
    if (count === known.get(key)) continue;
    known.set(key, count);
    fresh.push(key);
  }
  return fresh;
}

/** Feeds records to a model and keeps the score. */
export class Validation {
  readonly #on: Lockstepper;
  readonly #found: Survey;
  readonly #options: ValidateOptions;
  readonly #handlers: ReadonlyMap<string, Handler>;
  readonly #unseen: Set<number>;
  readonly #gaps = new Set<number>();
  #outside = 0;

  constructor(found: Survey, options: ValidateOptions) {
    const { pcid, cpus, depth, recorded, wrapped, cpusSeen } = found;
    this.#found = found;
    this.#options = options;
    this.#handlers = handlersOf(depth);
    this.#on = new Lockstepper({
      backend: options.backend({ pcid: pcid.value, pti: options.pti ?? false }),
      cpus: cpus.value,
      kernel: options.kernel,
      editions: options.editions,
      recorded: shownBy(Array.from(recorded).filter((kind) => this.#handlers.has(kind))),
    });
    this.#unseen = new Set(wrapped ? cpusSeen : []);
    this.#on.bears = this.#unseen.size === 0;
  }

  /** How many decisions were not as recorded, so far. */
  get differences(): number {
    return this.#on.judge.differenceCount;
  }

  /** @throws UsageError ERR_VALIDATE for a CPU that is taken away. */
  record(record: RecordedRecord): void {
    const on = this.#on;
    const { model, judge } = on;
    const line = model.lines[record.cpu];
    if (line === undefined) {
      this.#outside++;
      return;
    }
    const kind = kindOf(record);
    if (isBelow(this.#found.depth, kind)) return;
    const seq = ++model.seq;
    judge.record = record;
    judge.seq = seq;
    if (line.onNext !== null) {
      const look = line.onNext;
      line.onNext = null;
      look();
    }
    if (this.#gaps.delete(record.cpu)) on.forget(record.cpu);
    line.settle(seq);
    if (!on.bears) this.#appeared(record.cpu);
    if (on.going[record.cpu]?.switching !== null && !isOfSwitch(kind, record))
      closeSwitch(on, line, record);
    const handler = this.#handlers.get(kind);
    if (handler === undefined) {
      if (kind === 'tracing_mark_write') this.#mark(record);
      else if (HOTPLUG.test(kind)) throw hotplug(record);
      return;
    }
    model.recorded.add(kind);
    const { event } = record;
    handler(on, line, record, event.kind === 'other' ? event.payload.text() : '');
  }

  /** Events of these CPUs are missing here: what was known does not hold any more. */
  gap(cpus: readonly number[]): void {
    for (const cpu of cpus) {
      this.#on.forget(cpu === -1 ? null : cpu);
      // They may lie anywhere before its next record.
      if (cpu !== -1) this.#gaps.add(cpu);
    }
  }

  /** What has come of it. */
  result(trace: OpenedTrace, kernel: Finding<Release>): ValidationResult {
    const { judge, model } = this.#on;
    const status = trace.status();
    return {
      trace: trace.name,
      records: status.records,
      outside: this.#outside,
      lost: status.lost.counted + status.lost.uncounted,
      depth: this.#found.depth,
      kernel,
      cpus: this.#found.cpus,
      pcid: this.#found.pcid,
      pti: {
        value: this.#options.pti ?? false,
        by: this.#options.pti === undefined ? 'assumed: no record shows it' : 'as told',
      },
      backend: model.k.backend.id,
      wrapped: this.#found.wrapped,
      scores: judge.all,
      workload: marked(judge.workload) ? judge.workload : null,
      differences: judge.differences,
      differenceCount: judge.differenceCount,
      resyncs: judge.resyncs,
      notes: status.notes,
    };
  }

  #appeared(cpu: number): void {
    this.#unseen.delete(cpu);
    this.#on.bears = this.#unseen.size === 0;
  }

  #mark({ event }: RecordedRecord): void {
    const text = event.kind === 'other' ? event.payload.text() : '';
    if (text.includes('WORKLOAD_BEGIN')) this.#on.judge.inWorkload = true;
    if (text.includes('WORKLOAD_END')) this.#on.judge.inWorkload = false;
  }
}

/** What code shows where there are such events: an answer may come by two of them. */
const shownBy = (kinds: readonly string[]): readonly string[] =>
  kinds.includes('should_flush_a') ? [...kinds, 'should_flush'] : kinds;

/** Records that lie inside switch_mm_irqs_off(). */
const isOfSwitch = (kind: string, { event }: RecordedRecord): boolean =>
  kind === 'cr3_a' || kind === 'cr3_b' || (event.kind === 'tlb_flush' && event.reason === 0);

const marked = (scores: Readonly<Record<string, Score>>): boolean =>
  Object.values(scores).some((score) => totalOf(score) > 0);

const hotplug = ({ cpu, time }: RecordedRecord): Error =>
  refuse(
    'the recording',
    `a CPU comes or goes (cpuhp event on CPU ${cpu} at ${time}): hotplug is not modelled, record without it`,
  );

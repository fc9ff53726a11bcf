/**
 * What a recording says about itself: which events it has, on which CPUs, and what the CPUs can do.
 * Looked up in its front, before the model is built.
 */
import { UsageError } from '@shootdown/machine';
import type { OpenedTrace, RecordedRecord } from '@shootdown/trace';
import type { Depth } from './fields.ts';
import { field } from './payload.ts';

/** Which features were found, and by what. */
export interface Finding<T> {
  readonly value: T;
  /** In words. */
  readonly by: string;
}

/** What was found. */
export interface Survey {
  readonly depth: Depth;
  readonly recorded: ReadonlySet<string>;
  readonly cpus: Finding<number>;
  readonly pcid: Finding<boolean>;
  /** Ring buffers were full before the recording ended: each CPU's records begin at another time. */
  readonly wrapped: boolean;
  /** CPUs that have records in the front. */
  readonly cpusSeen: ReadonlySet<number>;
}

/** A task-switch flush that keeps what an ASID holds needs PCIDs; so many without any have none. */
const ENOUGH_SWITCHES = 12;
const PCID_BITS = 0xfffn;

/** The kind by which handlers know a record. */
export const kindOf = ({ event }: RecordedRecord): string =>
  event.kind === 'other' ? event.name : event.kind;

/**
 * Looks at the front of a recording.
 *
 * @param cpus - how many the machine has, if the user says so.
 * @throws UsageError ERR_VALIDATE if nothing in it can be judged, or its times do not order events.
 */
export function survey(
  trace: OpenedTrace,
  front: readonly RecordedRecord[],
  told: {
    readonly cpus?: number | undefined;
    readonly pcid?: boolean | undefined;
    readonly depth?: Depth | undefined;
  },
): Survey {
  const { header, name } = trace;
  if (header.clock.name === 'local')
    throw refuse(
      name,
      "its clock is 'local', which is not the same on all CPUs: record with -C mono or -C x86-tsc",
    );
  const recorded = new Set<string>();
  const cpusSeen = new Set<number>();
  let kept = 0;
  let switches = 0;
  let tagged = 0;
  let untagged = 0;
  for (const record of front) {
    const kind = kindOf(record);
    recorded.add(kind);
    cpusSeen.add(record.cpu);
    const { event } = record;
    if (event.kind === 'tlb_flush' && event.reason === 0) {
      switches++;
      if (event.pages === 0) kept++;
    }
    if (event.kind === 'other' && (kind === 'cr3_a' || kind === 'cr3_b')) {
      const cr3 = field(event.payload.text(), 'cr3');
      if (cr3 === null) continue;
      if ((BigInt(cr3) & PCID_BITS) === 0n) untagged++;
      else tagged++;
    }
  }
  return {
    depth: told.depth ?? depthOf(name, recorded),
    recorded,
    cpus: cpusOf(trace, cpusSeen, told.cpus),
    pcid: pcidOf({ kept, switches, tagged, untagged }, told.pcid),
    wrapped: trace.status().lost.counted > 0 && trace.status().gaps.size === 0,
    cpusSeen,
  };
}

/** What an input cannot be validated for. */
export const refuse = (name: string, why: string): UsageError =>
  new UsageError('ERR_VALIDATE', `${name}: ${why}`);

const PROBES = ['flush_tlb_mm_range', 'flush_tlb_func', 'switch_mm'] as const;

function depthOf(name: string, recorded: ReadonlySet<string>): Depth {
  if (PROBES.every((probe) => recorded.has(probe))) return 'probes';
  const has = (kind: string): boolean => recorded.has(kind);
  if (has('tlb_flush') && has('sched_switch')) return has('csd_queue_cpu') ? 'csd' : 'tlb_flush';
  const missing = ['tlb_flush', 'sched_switch'].filter((kind) => !has(kind));
  throw refuse(
    name,
    `no ${missing.join(' and no ')} event in its front, so no decision can be judged: see shootdown record`,
  );
}

function cpusOf(
  { header, name }: OpenedTrace,
  seen: ReadonlySet<number>,
  told: number | undefined,
): Finding<number> {
  const least = Math.max(...seen) + 1;
  if (told !== undefined && told < least)
    throw refuse(
      name,
      `it has records of CPU ${least - 1}, so the machine has ${least} CPUs at least, not ${told}`,
    );
  if (told !== undefined) return { value: told, by: 'as told' };
  if (header.cpus !== null && header.cpus >= least) return { value: header.cpus, by: 'the header' };
  return { value: least, by: 'the highest CPU that has records' };
}

function pcidOf(
  counts: {
    readonly kept: number;
    readonly switches: number;
    readonly tagged: number;
    readonly untagged: number;
  },
  told: boolean | undefined,
): Finding<boolean> {
  const { kept, switches, tagged, untagged } = counts;
  if (told !== undefined) return { value: told, by: 'as told' };
  if (tagged > 0) return { value: true, by: `${tagged} values of CR3 with a PCID` };
  if (untagged > 0) return { value: false, by: `${untagged} values of CR3 without a PCID` };
  if (kept > 0) return { value: true, by: `${kept} switches that flushed nothing` };
  if (switches >= ENOUGH_SWITCHES)
    return { value: false, by: `${switches} switches, each of which flushed` };
  return { value: true, by: 'assumed: too few switches to tell' };
}

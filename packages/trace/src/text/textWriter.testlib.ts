/** Writes records and reads them again. */
import { Context, CONTEXT_UNKNOWN, cpuId, nanoseconds } from '@shootdown/machine';
import type { RecordedEvent, RecordedTask, TlbFlush } from '../events/shapes.ts';
import { open, recordsOf } from '../examples.testlib.ts';
import type { OpenedTrace } from '../openedTrace.ts';
import { TextWriter, type WritableRecord } from './textWriter.ts';

/** A task. */
export const WL: RecordedTask = { pid: 168, comm: 'wl', tgid: 168 };
/** An event. */
export const FLUSH: TlbFlush = { kind: 'tlb_flush', name: 'tlb_flush', pages: 1, reason: 4 };

/** A record of the task WL, interrupts on, unless said otherwise. */
export const record = (
  time: number,
  cpu: number,
  event: RecordedEvent,
  { task = WL, context = 0 }: Partial<Pick<WritableRecord, 'task' | 'context'>> = {},
): WritableRecord => ({ time: nanoseconds(time), cpu: cpuId(cpu), task, context, event });

/** The text of `records`, by chunk. */
export function written(records: readonly WritableRecord[], cpus: number): readonly string[] {
  const chunks: string[] = [];
  const writer = new TextWriter((text) => chunks.push(text), { cpus });
  for (const one of records) writer.record(one);
  writer.end();
  return chunks;
}

/** A record with its payload in full, to compare. */
interface Compared {
  readonly time: number;
  readonly cpu: number;
  readonly task: RecordedTask;
  readonly context: number;
  readonly event: unknown;
}

function compared({ time, cpu, task, context, event }: WritableRecord): Compared {
  return {
    time,
    cpu,
    task: task ?? { pid: 0, comm: '<idle>', tgid: null },
    context,
    event: plain(event),
  };
}

function plain(event: RecordedEvent): unknown {
  return event.kind === 'other' ? { ...event, payload: event.payload.text() } : event;
}

/** The same as the text can say it: targets ascending, the softirq below an NMI hidden. */
function expressible(one: WritableRecord): WritableRecord {
  const { context, event } = one;
  const nmi = context !== CONTEXT_UNKNOWN && (context & Context.nmi) !== 0;
  return {
    ...one,
    context: nmi ? context & ~Context.softirq : context,
    event:
      'targets' in event && event.targets !== null
        ? { ...event, targets: [...new Set(event.targets)].toSorted((a, b) => a - b) }
        : event,
  };
}

/** `records` as they should be read back, and as they are; times with the origin added. */
export async function throughText(
  records: readonly WritableRecord[],
  cpus: number,
): Promise<{
  readonly expected: readonly Compared[];
  readonly read: readonly Compared[];
  readonly trace: OpenedTrace;
}> {
  const trace = await open({ text: written(records, cpus).join('') });
  const origin = Number(trace.header.origin);
  const read = (await recordsOf(trace)).map((one) =>
    compared({ ...one, time: nanoseconds(one.time + origin) }),
  );
  return { expected: records.map(expressible).map(compared), read, trace };
}

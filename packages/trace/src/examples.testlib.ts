/** The recordings that ship with the project, for tests. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { RecordedEvent, RecordedRecord } from './events/shapes.ts';
import { type OpenOptions, openTrace } from './open.ts';
import type { OpenedTrace } from './openedTrace.ts';
import { bytesSource } from './source.ts';

/** Path of a recording. */
export function examplePath(name: string): string {
  return fileURLToPath(new URL(`../../../examples/traces/${name}`, import.meta.url));
}

/** Opens bytes, a text, or the recording of that name. */
export function open(
  input: { readonly example: string } | { readonly text: string } | { readonly bytes: Uint8Array },
  options?: OpenOptions,
): Promise<OpenedTrace> {
  if ('example' in input)
    return openTrace(bytesSource(input.example, readFileSync(examplePath(input.example))), options);
  const bytes = 'text' in input ? new TextEncoder().encode(input.text) : input.bytes;
  return openTrace(bytesSource('test', bytes), options);
}

/** All records of a trace. */
export async function recordsOf(trace: OpenedTrace): Promise<readonly RecordedRecord[]> {
  const records: RecordedRecord[] = [];
  for await (const batch of trace.batches()) records.push(...batch);
  return records;
}

/** How many records of each event. */
export function countsOf(records: readonly RecordedRecord[]): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { event } of records) counts[event.name] = (counts[event.name] ?? 0) + 1;
  return counts;
}

/** A record without what its form cannot say: payload text, and times finer than a microsecond. */
export function comparable({ time, cpu, task, event }: RecordedRecord): unknown {
  return {
    us: Math.floor((time + 500) / 1000),
    cpu,
    pid: task.pid,
    comm: task.comm,
    event: plain(event),
  };
}

function plain(event: RecordedEvent): unknown {
  if (event.kind === 'other') return { name: event.name };
  // Signed and unsigned 32-bit arguments print alike (fd: 0xffffffff).
  if (event.kind === 'sys_enter')
    return {
      name: event.name,
      args: event.args,
      values: event.values.map((value) => BigInt.asUintN(32, BigInt(value))),
    };
  return event;
}

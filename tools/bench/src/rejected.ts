/**
 * The designs that were tried and not taken, kept so that the reason for it can be measured again.
 * Both do what a reader has to do: a record per line, with its task, time and the fields of the
 * events that have a shape.
 */
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';

const LINE = /^ *(.+)-(\d+) +\[(\d+)\] (.{5}) +(\d+)\.(\d+): (\w+)[:( ] ?(.*)$/;

/** Field patterns by event. */
const FIELDS: ReadonlyMap<string, RegExp> = new Map([
  ['tlb_flush', /pages:(-?\d+) reason:.*\((\d)\)/],
  ['csd_queue_cpu', /cpu=(\d+) callsite=([^ +]+)\S* func=([^ +]+)\S* csd=(\S+)/],
  ['csd_function_entry', /func=([^ ,]+), csd=(\S+)/],
  ['csd_function_exit', /func=([^ ,]+), csd=(\S+)/],
  ['ipi_send_cpumask', /cpumask=(\S+) callsite=([^ +]+)\S* callback=([^ +]+)/],
  ['ipi_send_cpu', /cpu=(\d+) callsite=([^ +]+)\S* callback=([^ +]+)/],
  ['call_function_entry', /vector=(\d+)/],
  ['call_function_exit', /vector=(\d+)/],
  ['sched_switch', /prev_comm=(.*) prev_pid=(\d+) .* next_comm=(.*) next_pid=(\d+)/],
]);

interface Row {
  readonly comm: string;
  readonly pid: number;
  readonly cpu: number;
  readonly flags: string;
  readonly time: number;
  readonly event: string;
  readonly fields: readonly string[] | null;
}

function row(line: string): Row | null {
  const match = LINE.exec(line);
  if (match === null) return null;
  const [, comm = '', pid, cpu, flags = '', seconds, fraction, event = '', payload = ''] = match;
  const time = Number(seconds) * 1e9 + Number(fraction) * 1e3;
  return {
    comm,
    pid: Number(pid),
    cpu: Number(cpu),
    flags,
    time,
    event,
    fields: FIELDS.get(event)?.exec(payload) ?? null,
  };
}

/**
 * readline and regular expressions: what most readers of ftrace text do. Gives the number of
 * records.
 */
export async function readlineAndRegex(chunks: AsyncIterable<Uint8Array>): Promise<number> {
  let records = 0;
  for await (const line of createInterface({ input: Readable.from(chunks), crlfDelay: Infinity }))
    if (row(line) !== null) records++;
  return records;
}

/** Decode a chunk to a string, split it, regular expressions. Gives the number of records. */
export async function splitAndRegex(chunks: AsyncIterable<Uint8Array>): Promise<number> {
  const decoder = new TextDecoder('latin1');
  let records = 0;
  let carry = '';
  for await (const chunk of chunks) {
    const lines = (carry + decoder.decode(chunk)).split('\n');
    carry = lines.pop() ?? '';
    for (const line of lines) if (row(line) !== null) records++;
  }
  return records;
}

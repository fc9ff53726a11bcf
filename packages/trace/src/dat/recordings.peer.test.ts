import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Context, formatCpuList } from '@shootdown/machine';
import { beforeAll, describe, expect, test } from 'vitest';
import { portableCodecs } from '../codecs.ts';
import type { RecordedEvent, RecordedRecord } from '../events/shapes.ts';
import { bytesSource } from '../source.ts';
import { readContainer } from './container.ts';
import { writeDat } from './datWriter.testlib.ts';
import type { DatContainer } from './parts.ts';
import {
  converted,
  datSource,
  printedTime,
  readAll,
  type ReadTrace,
  reportLines,
  reportText,
} from './traceCmd.testlib.ts';
import { nodeCodecs } from '../node.ts';

const EXAMPLES = fileURLToPath(new URL('../../../../examples/traces/', import.meta.url));

const RECORDINGS = [
  { name: 'qemu-6.12-thp-collapse.v7-zstd.dat', records: 5955 },
  { name: 'qemu-6.12-isolated67.v7-zstd.dat', records: 6908 },
];

/**
 * Times of records with the same properties, without the objects that two readings cannot share.
 */
function plain(record: RecordedRecord): unknown {
  const { event } = record;
  return {
    ...record,
    event: event.kind === 'other' ? { ...event, payload: event.payload.text() } : event,
  };
}

const hex = (value: number): string => `0x${BigInt.asUintN(64, BigInt(value)).toString(16)}`;

/** Parts of what trace-cmd prints for `event`, offsets taken away. */
function printedParts(event: RecordedEvent): readonly string[] {
  switch (event.kind) {
    case 'tlb_flush':
      return [`pages=${event.pages} `, `(${event.reason})`];
    case 'csd_queue_cpu':
      return [
        `cpu=${event.target} callsite=${event.callsite} func=${event.func} csd=${hex(event.csd)}`,
      ];
    case 'csd_function_entry':
    case 'csd_function_exit':
      return [`func=${event.func}, csd=${event.csd === 0 ? '(nil)' : hex(event.csd)}`];
    case 'ipi_send': {
      const targets =
        event.name === 'ipi_send_cpu'
          ? `cpu=${event.targets?.[0]}`
          : `cpumask=${formatCpuList(event.targets ?? [])}`;
      return [`${targets} callsite=${event.callsite} callback=${event.callback}`];
    }
    case 'vector_entry':
    case 'vector_exit':
      return [`vector=${event.vector}`];
    case 'sched_switch':
      return [`${event.prevComm}:${event.prevPid} [`, `==> ${event.nextComm}:${event.nextPid} [`];
    case 'sys_enter':
      return event.args.map(
        (arg, i) =>
          `${arg}: 0x${BigInt.asUintN(64, BigInt(event.values[i] as number))
            .toString(16)
            .padStart(8, '0')}`,
      );
    case 'sys_exit':
      return [hex(event.ret)];
    case 'ipi_raise':
    case 'ipi_entry':
    case 'ipi_exit':
    case 'page_fault':
    case 'other':
    default:
      return [];
  }
}

function tally(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of names) counts[one] = (counts[one] ?? 0) + 1;
  return counts;
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** The flag characters of trace-cmd report -l. */
function printedFlags(context: number): string {
  const digit = (shift: number): string => ((context >> shift) & 15).toString(16).replace('0', '.');
  const irqs =
    context & Context.irqsOff
      ? context & Context.bhOff
        ? 'D'
        : 'd'
      : context & Context.bhOff
        ? 'b'
        : '.';
  const hard = (context & Context.hardirq) !== 0;
  const soft = (context & Context.softirq) !== 0;
  const where = hard && soft ? 'H' : hard ? 'h' : soft ? 's' : '.';
  const resched = context & Context.needResched ? 'n' : '.';
  return `${irqs}${resched}${where}${digit(Context.preemptDepthShift)}${digit(Context.migrateDisableShift)}`;
}

describe.each(RECORDINGS)('$name', ({ name, records: expectedCount }) => {
  const file = EXAMPLES + name;
  let original: ReadTrace;

  beforeAll(async () => {
    original = await readAll(new Uint8Array(readFileSync(file)));
  });

  test('counts of each event type are those of trace-cmd report', () => {
    expect(original.error).toBe(null);
    expect(original.records.length).toBe(expectedCount);
    expect(tally(original.records.map(({ event }) => event.name))).toEqual(
      tally(reportLines(file).map((line) => line.name)),
    );
  });

  test.each([
    { flags: [], digits: 6 as const },
    { flags: ['-t'], digits: 9 as const },
  ])(
    'every record has the CPU, task, name and time to $digits digits that trace-cmd prints, in its order',
    ({ flags, digits }) => {
      const ours = original.records.map((record) => {
        const { task, cpu, event } = record;
        return {
          comm: task.comm,
          pid: task.pid,
          cpu: Number(cpu),
          time: printedTime(original, record, digits),
          name: event.name,
        };
      });
      const theirs = reportLines(file, ...flags).map(({ comm, pid, cpu, time, name: event }) => ({
        comm,
        pid,
        cpu,
        time,
        name: event,
      }));
      expect(ours).toEqual(theirs);
    },
  );

  test('every typed event says what trace-cmd prints, symbols without their offsets', () => {
    let compared = 0;
    for (const [i, line] of reportLines(file).entries()) {
      const printed = line.payload.replaceAll(/\+0x[0-9a-f]+/g, '');
      for (const part of printedParts((original.records[i] as RecordedRecord).event)) {
        expect(printed, `record ${i}`).toContain(part);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(expectedCount * 0.9);
  });

  test('every record has the context whose flags trace-cmd report -l prints', () => {
    const flags = reportText(file, '-l')
      .split('\n')
      .flatMap((line) => /^.{8}-\d+ +\d+(\S{5})\s/.exec(line)?.[1] ?? []);
    // N is both kinds of need-resched, n the first of them: the one that is recorded as such.
    expect(original.records.map(({ context }) => printedFlags(context))).toEqual(
      flags.map((printed) => printed.replace(/^(.)N/, '$1n')),
    );
  });

  test('v6, v7 as it is, v7 with zlib and v7 with zstd, by either codecs, give equal records', async () => {
    const expected = original.records.map(plain);
    const container = await readContainer(
      datSource(converted(file, '--file-version', '6')),
      nodeCodecs,
    );
    const forms: readonly Uint8Array[] = [
      converted(file, '--file-version', '6'),
      converted(file, '--file-version', '7', '--compression', 'none'),
      converted(file, '--file-version', '7', '--compression', 'zstd'),
      await rewritten(container, 'zlib'),
    ];
    for (const bytes of forms) {
      for (const codecs of [nodeCodecs, portableCodecs]) {
        const again = await readAll(bytes, {}, codecs);
        expect(again.error).toBe(null);
        expect(again.records.map(plain)).toEqual(expected);
        expect({ ...again.trace.header, layout: '', version: 0 }).toEqual({
          ...original.trace.header,
          layout: '',
          version: 0,
        });
      }
    }
  });

  test('the header names the kernel, the clock and the CPUs, and nothing was lost', () => {
    const { trace } = original;
    expect(trace.header).toMatchObject({
      kernel: '6.12.111+deb12-amd64',
      cpus: 8,
      version: 7,
      layout: 'v7, zstd, 64-bit, little endian',
    });
    expect(trace.header.clock).toEqual({ name: 'mono', unit: 'ns', resolution: 1 });
    expect(trace.header.origin % 1_000_000_000n).toBe(0n);
    expect(trace.status()).toMatchObject({
      records: expectedCount,
      problemCount: 0,
      lost: { counted: 0, uncounted: 0 },
      notes: [],
    });
  });
});

/** The same recording in a compression that this trace-cmd was built without. */
async function rewritten(container: DatContainer, compression: 'zlib'): Promise<Uint8Array> {
  const { file, headerPage, formats, kallsyms, printk, cmdlines, buffers } = container;
  const clock = new TextEncoder().encode(`${container.options.traceClock ?? ''}\0`);
  const uname = new TextEncoder().encode(`Linux host ${container.options.kernel ?? ''} x86_64\0`);
  const cpus: Uint8Array[] = [];
  for (const { offset, size } of buffers[0]?.cpus ?? []) cpus.push(await file.read(offset, size));
  return writeDat({
    abi: { littleEndian: true, longSize: 8 },
    version: 7,
    compression,
    headerPage,
    formats,
    kallsyms: text(kallsyms),
    printk: text(printk),
    cmdlines,
    options: [
      [4, clock],
      [5, uname],
    ],
    buffers: [{ name: '', clock: 'mono', cpus }],
  });
}

test('a source without a known size is read all the same', async () => {
  const bytes = new Uint8Array(readFileSync(EXAMPLES + (RECORDINGS[0] as { name: string }).name));
  const { openDat } = await import('./openDat.ts');
  const trace = await openDat(
    { ...datSource(bytes), ...bytesSource('x', bytes), size: null, read: datSource(bytes).read },
    nodeCodecs,
  );
  let count = 0;
  for await (const batch of trace.batches()) count += batch.length;
  expect(count).toBe(5955);
});

/**
 * What trace-cmd itself (3.1.6 in CI) makes of a file: the outside truth for the reader's tests.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { OpenedTrace, ReadOptions } from '../openedTrace.ts';
import { nodeCodecs } from '../node.ts';
import type { RecordedRecord } from '../events/shapes.ts';
import { bytesSource, type Codecs } from '../source.ts';
import type { RandomAccessSource } from './datFile.ts';
import { openDat } from './openDat.ts';

/** One record as trace-cmd report prints it. */
export interface ReportLine {
  readonly buffer: string;
  readonly comm: string;
  readonly pid: number;
  readonly cpu: number;
  /** As printed: seconds, a dot, digits; or digits only. */
  readonly time: string;
  readonly name: string;
  readonly payload: string;
}

const LINE =
  /^(?:(?<buffer>\S+): +)? *(?<comm>.+?)-(?<pid>\d+) +\[(?<cpu>\d+)\] +(?<time>[\d.]+): (?<name>\S+): *(?<payload>.*)$/;

/** The records of `file`, by trace-cmd. */
export function reportLines(file: string, ...flags: readonly string[]): ReportLine[] {
  const lines = reportText(file, ...flags).split('\n');
  return lines.flatMap((line) => {
    const found = LINE.exec(line)?.groups;
    if (found === undefined) return [];
    const { buffer = '', comm = '', pid, cpu, time = '', name = '', payload = '' } = found;
    return [{ buffer, comm, pid: Number(pid), cpu: Number(cpu), time, name, payload }];
  });
}

/** trace-cmd report's whole text. */
export function reportText(file: string, ...flags: readonly string[]): string {
  const command = ['report', ...flags, '-i', file];
  return execFileSync('trace-cmd', command, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}

/** Converts `from`; gives the bytes. */
export function converted(from: string, ...flags: readonly string[]): Uint8Array {
  const to = join(temporaryDirectory(), 'converted.dat');
  execFileSync('trace-cmd', ['convert', '-i', from, '-o', to, ...flags], { stdio: 'ignore' });
  return new Uint8Array(readFileSync(to));
}

/** Writes `bytes` where trace-cmd can read them. */
export function asFile(bytes: Uint8Array): string {
  const path = join(temporaryDirectory(), 'trace.dat');
  writeFileSync(path, bytes);
  return path;
}

/** One folder per test file, gone when its process ends. */
let folder: string | null = null;
function temporaryDirectory(): string {
  if (folder === null) {
    const made = mkdtempSync(join(tmpdir(), 'shootdown-dat-'));
    folder = made;
    process.on('exit', () => rmSync(made, { recursive: true, force: true }));
  }
  return mkdtempSync(join(folder, 'file-'));
}

/** A source with random access over `bytes`. */
export function datSource(bytes: Uint8Array): RandomAccessSource {
  const source = bytesSource('test.dat', bytes);
  return {
    ...source,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  };
}

/** A trace, opened and read to its end. */
export interface ReadTrace {
  readonly trace: OpenedTrace;
  readonly records: readonly RecordedRecord[];
  /** What batches() threw at its end. */
  readonly error: unknown;
}

/** Opens and reads `bytes`. What opening throws is thrown. */
export async function readAll(
  bytes: Uint8Array,
  options: ReadOptions = {},
  codecs: Codecs = nodeCodecs,
): Promise<ReadTrace> {
  const trace = await openDat(datSource(bytes), codecs, options);
  const records: RecordedRecord[] = [];
  let error: unknown = null;
  try {
    for await (const batch of trace.batches()) for (const record of batch) records.push(record);
  } catch (thrown) {
    error = thrown;
  }
  return { trace, records, error };
}

/** A record's time as trace-cmd prints it: seconds, and microseconds or nanoseconds. */
export function printedTime({ trace }: ReadTrace, record: RecordedRecord, digits: 6 | 9): string {
  const step = digits === 6 ? 1000n : 1n;
  const time = (trace.header.origin + BigInt(record.time) + step / 2n) / step;
  const second = 10n ** BigInt(digits);
  return `${time / second}.${String(time % second).padStart(digits, '0')}`;
}

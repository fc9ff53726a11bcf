/**
 * Opens an input by what it holds, not by what it is called. Compressed inputs are opened first;
 * then a magic number, a header or the form of the first line decides. What is recognised but not
 * read is refused by name, with the command that makes something readable of it.
 */
import { UsageError } from '@shootdown/machine';
import { portableCodecs } from './codecs.ts';
import { openDat } from './dat/openDat.ts';
import { type TraceFormatDetails, TraceFormatError } from './errors.ts';
import type { OpenedTrace, ReadOptions, TraceKind } from './openedTrace.ts';
import { bytesSource, type ByteSource, type Codecs } from './source.ts';
import { readTextHeader } from './text/headers.ts';
import { openText } from './text/openText.ts';

/** Options of openTrace. */
export interface OpenOptions extends ReadOptions {
  /** How compressed inputs are opened; libraries in plain JavaScript unless given. */
  readonly codecs?: Codecs;
  /** Reads the input as this kind, whatever it looks like. */
  readonly kind?: TraceKind;
}

/** So much of the front decides. An ftrace header has under 2 KiB. */
const HEAD = 1 << 16;
/**
 * A trace.dat needs random access; from a pipe or compressed it is held in memory up to this size.
 */
const MAX_IN_MEMORY: number = 1 << 28;

/** Formats that are known and not read, and what to do with them. */
const KNOWN: readonly {
  readonly magic: readonly number[];
  readonly found: string;
  readonly hint: string;
}[] = [
  {
    magic: [0x50, 0x45, 0x52, 0x46, 0x49, 0x4c, 0x45, 0x32],
    found: 'a perf.data file',
    hint: 'record with trace-cmd instead, see shootdown record',
  },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], found: 'a zstd file', hint: 'decompress it with zstd -d' },
  { magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a], found: 'an xz file', hint: 'decompress it with xz -d' },
  { magic: [0x42, 0x5a, 0x68], found: 'a bzip2 file', hint: 'decompress it with bzip2 -d' },
  { magic: [0x50, 0x4b, 0x03, 0x04], found: 'a zip archive', hint: 'unpack it' },
  {
    magic: [0x7f, 0x45, 0x4c, 0x46],
    found: 'an ELF binary',
    hint: 'give the trace, not the program',
  },
];
const DAT_MAGIC = [0x17, 0x08, 0x44];
const GZIP_MAGIC = [0x1f, 0x8b];
const EXPECTED = 'ftrace text, trace-cmd report text or trace.dat (plain or gzip)';

/**
 * Recognises `source` and opens it.
 *
 * @throws TraceFormatError when it is empty, of no known kind, of a kind that is not read, or
 * damaged at its very front.
 */
export async function openTrace(
  source: ByteSource,
  options: OpenOptions = {},
): Promise<OpenedTrace> {
  const codecs = options.codecs ?? portableCodecs;
  const refuse: Refuse = (details) => new TraceFormatError(source.name, details);
  const empty = (found: string): TraceFormatError =>
    refuse({ code: 'ERR_TRACE_EMPTY', at: { byte: 0 }, expected: EXPECTED, found });
  let front = await peek(source.chunks(), refuse);
  try {
    if (front.head.length === 0) throw empty('an empty file');
    const compressed = startsWith(front.head, GZIP_MAGIC);
    if (compressed) front = await peek(codecs.gunzip(front.chunks), refuse);
    if (front.head.length === 0) throw empty('gzip of nothing');
    return await openFront(source, front, compressed, codecs, options, refuse);
  } catch (error) {
    // A refused pipe is let go of, or its writer would keep us waiting.
    await front.close();
    throw error;
  }
}

/** Opens what `front` begins, by what it begins with. */
async function openFront(
  source: ByteSource,
  { head, chunks, close }: Front,
  compressed: boolean,
  codecs: Codecs,
  options: OpenOptions,
  refuse: Refuse,
): Promise<OpenedTrace> {
  if (options.kind === 'trace.dat' || (options.kind === undefined && startsWith(head, DAT_MAGIC))) {
    if (!compressed && source.read !== undefined) {
      await close();
      return openDat({ ...source, read: source.read }, codecs, options);
    }
    const bytes = await collect(chunks, refuse, options);
    return openDat(bytesSource(source.name, bytes), codecs, options);
  }
  if (options.kind === undefined) refuseKnown(head, refuse);
  const lines = new TextDecoder().decode(head).split('\n');
  const header = readTextHeader(lines, options.kind ?? null);
  if (header === null) {
    const found = `'${(lines[0] ?? '').slice(0, 60).replace(/[^\x20-\x7e]/g, '?')}'`;
    const hint = 'see shootdown record for what to record';
    throw refuse({ code: 'ERR_TRACE_KIND', at: { line: 1 }, expected: EXPECTED, found, hint });
  }
  return openText(source.name, chunks, header, options);
}

function refuseKnown(head: Uint8Array, refuse: Refuse): void {
  const unsupported = (found: string, hint: string): TraceFormatError =>
    refuse({ code: 'ERR_TRACE_UNSUPPORTED', at: { byte: 0 }, expected: EXPECTED, found, hint });
  for (const { magic, found, hint } of KNOWN)
    if (startsWith(head, magic)) throw unsupported(found, hint);
  const text = new TextDecoder().decode(head.subarray(0, 4096));
  if (/^\s*(?:\{|\[\s*\{)/.test(text))
    throw unsupported('JSON', 'give the recording it was made from');
  if (/^# tracer: function_graph/m.test(text))
    throw unsupported('function_graph text', 'its lines name no task: record events, tracer nop');
  // perf script: `comm  pid [cpu]  time:  system:event: ...`, no dash before the pid. Under a
  // tracer's header only a command can look like that.
  if (
    !text.startsWith('# tracer:') &&
    /^.{0,20}\s\d+(?:\/\d+)?\s+\[\d+\]\s+\d+\.\d+:\s+\S+:\S+:/m.test(text)
  ) {
    throw unsupported('perf script text', 'record with trace-cmd instead, see shootdown record');
  }
  const nul = head.indexOf(0);
  if (nul !== -1) {
    throw refuse({
      code: 'ERR_TRACE_KIND',
      at: { byte: nul },
      expected: EXPECTED,
      found: 'binary data of an unknown kind',
    });
  }
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, i) => bytes[i] === byte);
}

type Refuse = (details: TraceFormatDetails) => TraceFormatError;

/** The front of an input, and all of it from the front again. */
interface Front {
  readonly head: Uint8Array;
  readonly chunks: AsyncGenerator<Uint8Array, void, undefined>;
  /** Lets go of the source, whether or not `chunks` was begun. */
  readonly close: () => Promise<void>;
}

/**
 * Reads the front of `chunks` and gives it back together with chunks that start from the front
 * again. An error behind the front waits its turn.
 */
async function peek(chunks: AsyncIterable<Uint8Array>, refuse: Refuse): Promise<Front> {
  const iterator = chunks[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  let length = 0;
  let failed: unknown = null;
  let ended = false;
  while (length < HEAD && !ended && failed === null) {
    try {
      const next = await iterator.next();
      if (next.done === true) ended = true;
      else {
        first.push(next.value);
        length += next.value.length;
      }
    } catch (error) {
      failed = error;
    }
  }
  if (failed instanceof UsageError) throw failed;
  if (failed !== null && length === 0) {
    const found = failed instanceof Error ? failed.message : 'nothing';
    const code = /unexpected end/.test(found) ? 'ERR_TRACE_TRUNCATED' : 'ERR_TRACE_CORRUPT';
    throw refuse({ code, at: { byte: 0 }, expected: EXPECTED, found });
  }
  const head = new Uint8Array(Math.min(length, HEAD));
  let at = 0;
  for (const chunk of first) {
    head.set(chunk.subarray(0, Math.min(chunk.length, HEAD - at)), at);
    at = Math.min(HEAD, at + chunk.length);
  }
  async function* again(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* first.splice(0);
      if (failed !== null) throw failed;
      for (;;) {
        const next = await iterator.next();
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }
  const close = async (): Promise<void> => {
    await iterator.return?.();
  };
  return { head, chunks: again(), close };
}

/**
 * All of `chunks`, up to MAX_IN_MEMORY. With `keepGoing`, a stream that breaks off gives what came
 * before.
 */
async function collect(
  chunks: AsyncIterable<Uint8Array>,
  refuse: Refuse,
  options: OpenOptions,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of chunks) {
      length += chunk.length;
      if (length > MAX_IN_MEMORY) {
        const found = 'more than that';
        const expected = `at most ${MAX_IN_MEMORY} bytes of trace.dat from a pipe or a compressed file`;
        throw refuse({
          code: 'ERR_TRACE_TOO_LARGE',
          at: { byte: MAX_IN_MEMORY },
          expected,
          found,
          hint: 'decompress it to a file first',
        });
      }
      parts.push(chunk);
    }
  } catch (error) {
    if (error instanceof TraceFormatError || error instanceof UsageError) throw error;
    if (options.keepGoing !== true) {
      const found = error instanceof Error ? error.message : String(error);
      throw refuse({
        code: 'ERR_TRACE_TRUNCATED',
        at: { byte: length },
        expected: 'more of the compressed trace.dat',
        found,
      });
    }
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

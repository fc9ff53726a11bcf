/**
 * Reads ftrace text and `trace-cmd report` text. One pass over the bytes: the front of a line by
 * LineParser, the event's name by a table, the payload by the event's decoder; strings are made
 * once per distinct value, never per line.
 */
import { type CpuId, cpuId, MAX_CPUS, nanoseconds, UsageError } from '@shootdown/machine';
import { kindOf } from '../events/kinds.ts';
import type { Payload, RecordedEvent, RecordedRecord } from '../events/shapes.ts';
import { type MaskForm, type PayloadDecoder, textDecoder } from '../events/textDecoders.ts';
import { type TraceErrorCode, TraceFormatError } from '../errors.ts';
import type { OpenedTrace, ReadOptions, TraceHeader, TraceStatus } from '../openedTrace.ts';
import { Problems } from '../problems.ts';
import { at, Char, textOf } from './bytes.ts';
import { Fields } from './fields.ts';
import { LOST_LINE, REPORT_LINE, type TextHeader } from './headers.ts';
import { Interner } from './interner.ts';
import { describeLayout } from './layout.ts';
import { LineParser } from './lineParser.ts';
import { type Block, blocksOfLines, LineTooLongError } from './lines.ts';

/** What to do with an event of some name, decided once per name. */
interface NamedEvent {
  readonly name: string;
  readonly decode: PayloadDecoder | null;
  /** Its text may run over several lines: marks that programs wrote, stack traces. */
  readonly multiline: boolean;
}

const MULTILINE: ReadonlySet<string> = new Set([
  'print',
  'tracing_mark_write',
  'bprint',
  'bputs',
  'kernel_stack',
  'user_stack',
  'raw_data',
]);
/** Event names are C identifiers of the kernel; this is far beyond any. */
const MAX_NAME = 128;
const EXPECTED_LINE = 'TASK-PID [CPU] FLAGS TIME: EVENT';

class TextPayload implements Payload {
  readonly #bytes: Uint8Array;
  readonly #start: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
  }

  text(): string {
    return textOf(this.#bytes, this.#start, this.#end);
  }
}

/**
 * Opens a text whose header has been read from its first lines. `chunks` starts at the first byte.
 */
export function openText(
  name: string,
  chunks: AsyncIterable<Uint8Array>,
  header: TextHeader,
  options: ReadOptions,
): OpenedTrace {
  const reader = new TextReader(name, header, options);
  return {
    name,
    header: {
      kind: header.layout.kind,
      version: null,
      layout: describeLayout(header.layout),
      cpus: header.cpus,
      kernel: header.kernel,
      clock: { name: null, unit: header.ticks ? 'ticks' : 'ns', resolution: header.resolution },
      origin: header.origin * 1_000_000_000n,
      buffers: [],
    } satisfies TraceHeader,
    batches: () => reader.batches(chunks),
    status: () => reader.status(),
  };
}

class TextReader {
  readonly #header: TextHeader;
  readonly #problems: Problems;
  readonly #parser: LineParser;
  readonly #fields = new Fields();
  readonly #origin: number;
  readonly #names: Interner<NamedEvent>;
  readonly #calls: Interner<NamedEvent>;
  readonly #returns: Interner<NamedEvent>;
  readonly #lost = new Map<CpuId, number>();
  readonly #gaps = new Map<CpuId | null, number>();
  readonly #notes: string[];
  #uncounted = 0;
  #gapHere = false;
  #line = 0;
  #records = 0;
  #previous: NamedEvent | null = null;
  #ended = false;

  constructor(source: string, header: TextHeader, options: ReadOptions) {
    this.#header = header;
    this.#problems = new Problems(source, options.keepGoing ?? false);
    this.#parser = new LineParser(header.layout);
    this.#origin = Number(header.origin);
    this.#notes = [...header.notes];
    const form: MaskForm = header.layout.kind === 'ftrace' ? 'hex-words' : 'cpu-list';
    const named = (name: string): NamedEvent => ({
      name,
      decode: textDecoder(name, kindOf(name), form),
      multiline: MULTILINE.has(name),
    });
    this.#names = new Interner(named);
    this.#calls = new Interner((text) => named(text.replace(/^sys_/, 'sys_enter_')));
    this.#returns = new Interner((text) => named(text.replace(/^sys_/, 'sys_exit_')));
  }

  async *batches(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<readonly RecordedRecord[]> {
    const blocks = blocksOfLines(chunks);
    try {
      for (;;) {
        const block = await this.#next(blocks);
        if (block === null) break;
        for (const records of this.#block(block)) {
          this.#records += records.length;
          yield records;
        }
      }
      this.#ended = true;
    } finally {
      // Whoever stops early lets go of the source too.
      await blocks.return(undefined);
    }
  }

  /**
   * The next block; what the decompressor or the line splitter throws is a problem of the input,
   * placed behind the last line read.
   */
  async #next(blocks: AsyncIterator<Block>): Promise<Block | null> {
    try {
      const next = await blocks.next();
      return next.done === true ? null : next.value;
    } catch (error) {
      if (error instanceof TraceFormatError || error instanceof UsageError) throw error;
      const found = error instanceof Error ? error.message : String(error);
      const expected =
        error instanceof LineTooLongError ? 'a text line' : 'more of the compressed data';
      const hint = 'use --keep-going for what could be read up to here';
      this.#problems.add({
        code: codeOf(error, found),
        at: { line: this.#line + 1 },
        expected,
        found,
        hint,
      });
      return null;
    }
  }

  status(): TraceStatus {
    const inline = [...this.#lost.values()].reduce((sum, n) => sum + n, 0);
    const notes = [...this.#notes];
    const { promised } = this.#header;
    if (this.#ended && promised !== null && promised > this.#records) {
      notes.push(
        `the header promises ${promised} entries, the file holds ${this.#records}: an excerpt, or cut`,
      );
    }
    return {
      records: this.#records,
      // The header's number and the marks inside count the same losses, each as far as it saw them.
      lost: {
        byCpu: this.#lost,
        counted: Math.max(this.#header.lost, inline),
        uncounted: this.#uncounted,
      },
      gaps: this.#gaps,
      problems: this.#problems.list,
      problemCount: this.#problems.count,
      notes,
    };
  }

  /** The records of a block, cut at each line that says that events are missing here. */
  *#block({ bytes, end }: Block): Generator<RecordedRecord[]> {
    let records: RecordedRecord[] = [];
    for (let start = 0; start < end;) {
      let stop = bytes.indexOf(Char.newline, start);
      if (stop === -1 || stop >= end) {
        stop = end;
        this.#notes.push(
          'the last line has no newline: if the file was cut, its last event may be wrong',
        );
      }
      this.#line++;
      const last = stop > start && at(bytes, stop - 1) === 13 ? stop - 1 : stop;
      if (last > start) {
        const record = this.#parser.parse(bytes, start, last)
          ? this.#record(bytes, start, last)
          : this.#otherLine(bytes, start, last);
        if (record !== null) records.push(record);
        if (this.#gapHere) {
          this.#gapHere = false;
          yield records;
          records = [];
        }
      }
      start = stop + 1;
    }
    if (records.length > 0) yield records;
  }

  #record(bytes: Uint8Array, start: number, end: number): RecordedRecord | null {
    const parser = this.#parser;
    let i = parser.name;
    // trace-cmd --ts-diff: `(+123)` in front of the name.
    if (i < end && at(bytes, i) === Char.openParen) {
      while (i < end && at(bytes, i) !== Char.closeParen) i++;
      for (i++; i < end && at(bytes, i) === Char.space; i++);
    }
    const nameStart = i;
    let c = 0;
    while (i < end && (c = at(bytes, i)) !== Char.colon && c !== Char.openParen && c !== Char.space)
      i++;
    if (i === nameStart || i - nameStart > MAX_NAME || parser.cpu >= MAX_CPUS)
      return this.#unreadable(bytes, start, end, EXPECTED_LINE);
    let event: NamedEvent | null;
    let payload = i + 1;
    if (c === Char.colon || i === end) event = this.#names.get(bytes, nameStart, i);
    else if (c === Char.openParen) event = this.#calls.get(bytes, nameStart, i);
    else if (i + 3 < end && at(bytes, i + 1) === Char.minus && at(bytes, i + 2) === Char.greater) {
      event = this.#returns.get(bytes, nameStart, i);
      payload = i + 3;
    } else {
      event = this.#withoutColon(bytes, nameStart, i);
      payload = nameStart;
    }
    if (event === null)
      return this.#unreadable(bytes, start, end, "a colon behind the event's name");
    while (payload < end && at(bytes, payload) === Char.space) payload++;
    this.#previous = event;
    return {
      time: nanoseconds((parser.high - this.#origin) * 1_000_000_000 + parser.low),
      cpu: cpuId(parser.cpu),
      task: parser.task,
      context: parser.context,
      event: this.#event(event, bytes, payload, end),
    };
  }

  /** `<stack trace>`, whose frames follow; and what another tracer than nop prints, by its name. */
  #withoutColon(bytes: Uint8Array, start: number, end: number): NamedEvent | null {
    if (at(bytes, start) === Char.less) {
      return this.#other(textOf(bytes, start, end) === '<user' ? 'user_stack' : 'kernel_stack');
    }
    return this.#header.tracer === null ? null : this.#other(this.#header.tracer);
  }

  #other(name: string): NamedEvent {
    return { name, decode: null, multiline: true };
  }

  #event(
    { name, decode }: NamedEvent,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): RecordedEvent {
    if (decode !== null) {
      this.#fields.set(bytes, start, end);
      const event = decode(this.#fields);
      if (event !== null) return event;
      // Counted as what it is called; what it says is not guessed.
      this.#problems.add({
        code: 'ERR_TRACE_LINE',
        at: { line: this.#line },
        expected: `the fields of ${name}`,
        found: quote(bytes, start, end),
        hint: 'use --keep-going to count the event without its fields',
      });
    }
    return { kind: 'other', name, payload: new TextPayload(bytes, start, end) };
  }

  /**
   * A line that is not an event: header, loss mark, stack frame, or the rest of a mark that a
   * program wrote.
   */
  #otherLine(bytes: Uint8Array, start: number, end: number): null {
    if (at(bytes, start) === Char.hash) return null;
    const line = textOf(bytes, start, Math.min(end, start + 400));
    // A byte order mark hides the first line's #; decoding takes it off.
    if (line.startsWith('#')) return null;
    const lost = LOST_LINE.exec(line);
    if (lost !== null) {
      const cpu = cpuId(Number(lost[1]));
      const whose = cpu < MAX_CPUS ? cpu : null;
      this.#gaps.set(whose, (this.#gaps.get(whose) ?? 0) + 1);
      this.#gapHere = true;
      if (lost[2] === undefined || cpu >= MAX_CPUS || lost[2].length > 15) this.#uncounted++;
      else this.#lost.set(cpu, (this.#lost.get(cpu) ?? 0) + Number(lost[2]));
      return null;
    }
    if (
      REPORT_LINE.test(line) ||
      /^\s*=> /.test(line) ||
      this.#previous?.multiline === true ||
      line.trim() === ''
    )
      return null;
    return this.#unreadable(bytes, start, end, EXPECTED_LINE);
  }

  #unreadable(bytes: Uint8Array, start: number, end: number, expected: string): null {
    this.#problems.add({
      code: 'ERR_TRACE_LINE',
      at: { line: this.#line },
      expected,
      found: quote(bytes, start, end),
      hint: 'use --keep-going to read over such lines',
    });
    return null;
  }
}

/** What ended the blocks: an endless line, a stream that was cut, or one that is damaged. */
function codeOf(error: unknown, found: string): TraceErrorCode {
  if (error instanceof LineTooLongError) return 'ERR_TRACE_LINE';
  return /unexpected end/.test(found) ? 'ERR_TRACE_TRUNCATED' : 'ERR_TRACE_CORRUPT';
}

/** The start of a line as one line of printable characters. */
function quote(bytes: Uint8Array, start: number, end: number): string {
  const text = textOf(bytes, start, Math.min(end, start + 60)).replace(/[^\x20-\x7e]/g, '?');
  return `'${text}${end - start > 60 ? '…' : ''}'`;
}

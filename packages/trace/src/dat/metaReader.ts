/**
 * Reads the parts of a trace.dat before and between the ring buffers: strings, counts, sizes and
 * texts, one after the other. It reads ahead in large pieces of the file, or walks a section that
 * has been decompressed, and it never reads or allocates past the end that it was given.
 */
import type { TraceFormatError } from '../errors.ts';
import type { DatFile } from './datFile.ts';

const READ_AHEAD = 256 * 1024;
const FARTHEST = 2 ** 51;
const decoder = new TextDecoder();

/** A place in the metadata that moves forward as things are taken. */
export class MetaReader {
  readonly #file: DatFile;
  #window: Uint8Array;
  #at = 0;
  /** File offset of the window's first byte; for a decompressed section, where the section lies. */
  #windowStart: number;
  readonly #end: number | null;

  private constructor(file: DatFile, window: Uint8Array, start: number, end: number | null) {
    this.#file = file;
    this.#window = window;
    this.#windowStart = start;
    this.#end = end;
  }

  /** Over the file's bytes from `start` up to `end`. */
  static overFile(file: DatFile, start: number, end: number = file.size): MetaReader {
    return new MetaReader(file, new Uint8Array(0), start, Math.min(end, file.size));
  }

  /** Over a section that is in memory, and lies at `start` in the file. */
  static overBytes(file: DatFile, bytes: Uint8Array, start: number): MetaReader {
    return new MetaReader(file, bytes, start, null);
  }

  /** Where in the file the next byte is; inside a decompressed section, where that section is. */
  get position(): number {
    return this.#end === null ? this.#windowStart : this.#windowStart + this.#at;
  }

  /** Bytes up to the end. */
  get remaining(): number {
    return this.#end === null ? this.#window.length - this.#at : this.#end - this.position;
  }

  error(expected: string, found: string, hint?: string): TraceFormatError {
    return this.#file.error('ERR_TRACE_CORRUPT', this.position, expected, found, hint);
  }

  /** The next `length` bytes; they keep a larger block alive. */
  async take(length: number, what: string): Promise<Uint8Array> {
    if (length > this.remaining) throw this.#short(length, what);
    if (this.#at + length > this.#window.length) {
      const position = this.position;
      this.#window = await this.#file.read(
        position,
        Math.min(this.remaining, Math.max(length, READ_AHEAD)),
      );
      this.#windowStart = position;
      this.#at = 0;
      if (this.#window.length < length) throw this.#short(length, what);
    }
    const bytes = this.#window.subarray(this.#at, this.#at + length);
    this.#at += length;
    return bytes;
  }

  async u8(what: string): Promise<number> {
    return (await this.#view(1, what)).getUint8(0);
  }

  async u16(what: string): Promise<number> {
    return (await this.#view(2, what)).getUint16(0, this.#file.littleEndian);
  }

  async u32(what: string): Promise<number> {
    return (await this.#view(4, what)).getUint32(0, this.#file.littleEndian);
  }

  /**
   * A 64-bit offset or size: what is beyond 2^51 is 2^51, past the end of any file, so that sums of
   * a few stay exact and checks refuse it.
   */
  async u64(what: string): Promise<number> {
    return Math.min(
      Number((await this.#view(8, what)).getBigUint64(0, this.#file.littleEndian)),
      FARTHEST,
    );
  }

  /** `length` bytes of text, refused when there are more than `most`. */
  async text(length: number, most: number, what: string): Promise<string> {
    return decoder.decode(await this.block(length, most, what));
  }

  /** `length` bytes, refused when there are more than `most`. */
  async block(length: number, most: number, what: string): Promise<Uint8Array> {
    if (length > this.remaining) throw this.#short(length, what);
    if (length > most) {
      throw this.#file.error(
        'ERR_TRACE_TOO_LARGE',
        this.position,
        `at most ${most} bytes of ${what}`,
        `${length}`,
      );
    }
    return this.take(length, what);
  }

  /** A string up to its NUL, of at most `most` bytes. */
  async string(most: number, what: string): Promise<string> {
    const bytes: number[] = [];
    for (;;) {
      const byte = await this.u8(what);
      if (byte === 0) return decoder.decode(Uint8Array.from(bytes));
      bytes.push(byte);
      if (bytes.length > most)
        throw this.error(`${what}, at most ${most} bytes and a NUL`, 'a longer one');
    }
  }

  /** Takes `word` and its NUL, or throws. */
  async expect(word: string): Promise<void> {
    const found = decoder.decode(await this.take(word.length + 1, `the word ${word}`));
    if (found !== `${word}\0`)
      throw this.error(`the word '${word}' just before`, JSON.stringify(found.slice(0, 24)));
  }

  async #view(length: number, what: string): Promise<DataView> {
    const bytes = await this.take(length, what);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  #short(length: number, what: string): TraceFormatError {
    const found = `the end after ${Math.max(0, this.remaining)}`;
    const expected = `${length} bytes of ${what}`;
    if (this.#end === null) return this.error(expected, found);
    return this.#file.error(
      'ERR_TRACE_TRUNCATED',
      this.position,
      expected,
      found,
      'was the file copied whole?',
    );
  }
}

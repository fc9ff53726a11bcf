/**
 * Where a CPU's ring-buffer pages come from: windows of the file, or chunks of it decompressed one
 * at a time. Taking a block is synchronous while the bytes are at hand; `fill` is awaited when they
 * are not. Neither holds more than one window and one block.
 */
import type { TraceFormatError } from '../errors.ts';
import type { DatFile } from './datFile.ts';
import type { CpuExtent } from './parts.ts';
import type { Block } from './values.ts';

/** A chunk decompresses to at most this; trace-cmd makes them of ten pages. */
const MOST_CHUNK = 16 << 20;

/** Pages in memory. */
export interface PageBlock extends Block {
  /**
   * Where in the file the block is: the byte of an error in it. For a decompressed chunk every byte
   * of it is the chunk's.
   */
  readonly byte: number;
  readonly exact: boolean;
  /** The file ends here although the extent does not. */
  readonly cut: boolean;
}

/** `fill` must be awaited; there is nothing more; or a block. */
export type Taken = 'fill' | 'end' | PageBlock;

/** One CPU's blocks, in order. */
export interface BlockSource {
  /**
   * The next block. Throws TraceFormatError when it cannot be had; asked again, it goes on behind
   * it.
   */
  take(): Taken;
  fill(): Promise<void>;
}

/** Pages as they are. */
export class RawBlocks implements BlockSource {
  readonly #file: DatFile;
  readonly #window: number;
  readonly #end: number;
  #at: number;
  #ready: Uint8Array | null = null;

  /** @param window - bytes to read at once, a multiple of the page size. */
  constructor(file: DatFile, extent: CpuExtent, window: number) {
    this.#file = file;
    this.#window = window;
    this.#at = extent.offset;
    this.#end = extent.offset + extent.size;
  }

  take(): Taken {
    if (this.#at >= this.#end) return 'end';
    const bytes = this.#ready;
    if (bytes === null) return 'fill';
    this.#ready = null;
    const byte = this.#at;
    const cut = bytes.length < Math.min(this.#window, this.#end - byte);
    this.#at = cut ? this.#end : byte + bytes.length;
    return { bytes, view: viewOf(bytes), byte, exact: true, cut };
  }

  async fill(): Promise<void> {
    this.#ready = await this.#file.read(this.#at, Math.min(this.#window, this.#end - this.#at));
  }
}

/** Pages in chunks: a count, then per chunk its compressed size, its size, its bytes. */
export class ChunkBlocks implements BlockSource {
  readonly #file: DatFile;
  readonly #window: number;
  readonly #pageSize: number;
  readonly #end: number;
  /** Where in the file the next unread chunk begins. */
  #at: number;
  #bytes: Uint8Array = new Uint8Array(0);
  #bytesStart: number;
  /** Chunks still to come; null before their number has been read. */
  #left: number | null = null;
  /** What the next step needs at hand. */
  #needed = 4;
  /** The file ended before that. */
  #short = false;

  constructor(file: DatFile, extent: CpuExtent, window: number, pageSize: number) {
    this.#file = file;
    this.#window = window;
    this.#pageSize = pageSize;
    this.#at = extent.offset;
    this.#bytesStart = extent.offset;
    // The stated size leaves out the count at the front.
    this.#end = extent.size === 0 ? extent.offset : extent.offset + extent.size + 4;
  }

  take(): Taken {
    if (this.#left === null) {
      if (this.#at >= this.#end) return 'end';
      if (!this.#has(4)) return 'fill';
      this.#left = this.#u32(0);
      this.#at += 4;
      if (this.#left > (this.#end - this.#at) / 8) {
        throw this.#stop(
          'ERR_TRACE_CORRUPT',
          `at most ${Math.floor((this.#end - this.#at) / 8)} chunks`,
          `${this.#left}`,
        );
      }
    }
    if (this.#left === 0) return 'end';
    if (!this.#has(8)) return 'fill';
    const packed = this.#u32(0);
    const size = this.#u32(4);
    const start = this.#at;
    const behind = start + 8 + packed;
    if (behind > this.#end)
      throw this.#stop(
        'ERR_TRACE_CORRUPT',
        `a chunk of at most ${this.#end - start - 8} bytes`,
        `${packed}`,
      );
    const fault = this.#chunkFault(packed, size, start);
    if (fault === null && !this.#has(8 + packed)) return 'fill';
    this.#at = behind;
    this.#left--;
    if (fault !== null) throw fault;
    const from = start + 8 - this.#bytesStart;
    const bytes = this.#file.decompress(
      this.#bytes.subarray(from, from + packed),
      size,
      start,
      'a chunk of pages',
    );
    return { bytes, view: viewOf(bytes), byte: start, exact: false, cut: false };
  }

  async fill(): Promise<void> {
    const start = this.#at;
    this.#bytes = await this.#file.read(
      start,
      Math.min(Math.max(this.#needed, this.#window), this.#end - start),
    );
    this.#bytesStart = start;
    this.#short = this.#bytes.length < this.#needed;
  }

  /**
   * Whether `length` bytes from #at are at hand. Throws when there are not as many in the file, or
   * in this CPU's part of it.
   */
  #has(length: number): boolean {
    if (this.#at + length <= this.#bytesStart + this.#bytes.length && this.#at >= this.#bytesStart)
      return true;
    this.#needed = length;
    if (this.#short || this.#at + length > this.#file.size) {
      throw this.#stop('ERR_TRACE_TRUNCATED', `${length} bytes of a chunk`, 'the end of the file');
    }
    if (this.#at + length > this.#end)
      throw this.#stop(
        'ERR_TRACE_CORRUPT',
        `${length} bytes of a chunk`,
        "the end of this CPU's data",
      );
    return false;
  }

  /** Sizes that no compressor would state. Such a chunk can be passed over unread. */
  #chunkFault(packed: number, size: number, start: number): TraceFormatError | null {
    if (size > MOST_CHUNK) {
      return this.#file.error(
        'ERR_TRACE_TOO_LARGE',
        start,
        `a chunk that makes at most ${MOST_CHUNK} bytes`,
        `${size}`,
      );
    }
    if (size === 0 || size % this.#pageSize !== 0) {
      return this.#file.error(
        'ERR_TRACE_CORRUPT',
        start,
        `a chunk of whole pages of ${this.#pageSize} bytes`,
        `${size} bytes`,
      );
    }
    // What does not compress grows by less than an eighth.
    const most = size + (size >> 3) + 1024;
    return packed > most
      ? this.#file.error(
          'ERR_TRACE_CORRUPT',
          start,
          `at most ${most} bytes that make ${size}`,
          `${packed}`,
        )
      : null;
  }

  #u32(offset: number): number {
    return viewOf(this.#bytes).getUint32(
      this.#at - this.#bytesStart + offset,
      this.#file.littleEndian,
    );
  }

  /** The rest of this CPU cannot be found any more. */
  #stop(
    code: 'ERR_TRACE_CORRUPT' | 'ERR_TRACE_TRUNCATED',
    expected: string,
    found: string,
  ): TraceFormatError {
    const error = this.#file.error(code, this.#at, expected, found);
    this.#left = 0;
    return error;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * A trace.dat being read: its bytes, its byte order and the errors that point into it. Every number
 * in it is somebody's claim until it is bounded.
 */
import { type TraceErrorCode, TraceFormatError } from '../errors.ts';
import type { ByteSource, Codecs } from '../source.ts';

/**
 * A source with random access, which a trace.dat needs: its directory stands at the end, its CPUs
 * side by side.
 */
export type RandomAccessSource = ByteSource & Required<Pick<ByteSource, 'read'>>;

/** A compressed piece of a trace.dat, of the compressor that its header names. */
export type Compression = 'none' | 'zlib' | 'zstd';

/** A trace.dat file. */
export class DatFile {
  readonly source: RandomAccessSource;
  readonly codecs: Codecs;
  /** Bytes in the file; no claim is larger. */
  readonly size: number;
  /** Set once the header has said so. */
  littleEndian = true;
  compression: Compression = 'none';

  constructor(source: RandomAccessSource, codecs: Codecs) {
    this.source = source;
    this.codecs = codecs;
    this.size = source.size ?? Number.MAX_SAFE_INTEGER;
  }

  /** An error at `byte`. */
  error(
    code: TraceErrorCode,
    byte: number,
    expected: string,
    found: string,
    hint?: string,
  ): TraceFormatError {
    return new TraceFormatError(this.source.name, {
      code,
      at: { byte },
      expected,
      found,
      ...(hint === undefined ? {} : { hint }),
    });
  }

  /** Up to `length` bytes from `offset`; fewer only at the end of the file. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const wanted = Math.min(length, this.size - offset);
    return wanted <= 0 ? new Uint8Array(0) : this.source.read(offset, wanted);
  }

  /** Decompresses one piece. `byte` is where it lies in the file. */
  decompress(data: Uint8Array, size: number, byte: number, what: string): Uint8Array {
    const kind = this.compression;
    if (kind === 'none') {
      throw this.error(
        'ERR_TRACE_CORRUPT',
        byte,
        `${what} as it is, for the file names no compressor`,
        'compressed data',
      );
    }
    try {
      return this.codecs[kind](data, size);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw this.error(
        'ERR_TRACE_CORRUPT',
        byte,
        `${what}, ${size} bytes compressed by ${kind}`,
        `data that does not decompress (${why})`,
      );
    }
  }
}

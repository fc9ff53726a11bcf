/** Where bytes come from. The reader opens no file: applications do, and hand over one of these. */

/**
 * An input that can be read from start to end, more than once; and, if it is a file, at any offset.
 */
export interface ByteSource {
  /** What the user called it; stands at the front of every error. */
  readonly name: string;
  /** Bytes in all; null when nobody knows (a pipe). */
  readonly size: number | null;
  /** The bytes in order. Chunks belong to the receiver. A pipe can be asked once only. */
  chunks(): AsyncIterable<Uint8Array>;
  /**
   * Up to `length` bytes from `offset`, fewer only at the end; absent when there is no random
   * access. The bytes belong to the receiver.
   */
  read?: (offset: number, length: number) => Promise<Uint8Array>;
}

/**
 * How compressed bytes are opened. Two implementations: libraries in plain JavaScript (the
 * default), and Node's own (`@shootdown/trace/node`).
 */
export interface Codecs {
  /**
   * Decompresses a gzip stream of one or more members. Throws at the end, after all that could be
   * read, when the stream is cut or damaged.
   */
  gunzip(chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
  /**
   * Decompresses one zlib chunk to exactly `size` bytes; throws when it is damaged or has another
   * size. Never allocates much more than `size`.
   */
  zlib(data: Uint8Array, size: number): Uint8Array;
  /** The same for one zstd frame. */
  zstd(data: Uint8Array, size: number): Uint8Array;
}

/** A source over bytes that are in memory. */
export function bytesSource(
  name: string,
  bytes: Uint8Array,
): ByteSource & Required<Pick<ByteSource, 'read'>> {
  return {
    name,
    size: bytes.length,
    async *chunks() {
      yield bytes;
    },
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  };
}

/**
 * Decompression by Node's own zlib: the same codecs as `portableCodecs`, several times as fast.
 * zstd is in node:zlib from 22.15 and 23.8 on; an older Node gets the portable one. The only file
 * of this package that needs Node.
 */
import * as zlib from 'node:zlib';
import { portableCodecs } from './codecs.ts';
import type { Codecs } from './source.ts';

/** Node keeps at least this much output per step; more only makes fewer pieces to join. */
const MAX_STEP = 1024 * 1024;

/**
 * gzip input is handed over in slices, so that what one slice makes (1032 times its size at most)
 * stays small.
 */
const SLICE = 32 * 1024;

/**
 * Output comes in pieces of this size: each is a round trip to zlib's thread. The piece in which
 * damage shows is lost, which matters when there are few; so the input is kept up to RETRY bytes, to
 * be read again by the portable codec, which loses less.
 */
const PIECE = 256 * 1024;
const RETRY = 4 * 1024 * 1024;

/** Codecs by node:zlib. */
export const nodeCodecs: Codecs = {
  gunzip,
  zlib: (data, size) => exactly(size, zlib.inflateSync(data, limits(size))),
  zstd:
    typeof zlib.zstdDecompressSync === 'function'
      ? (data, size) => exactly(size, zlib.zstdDecompressSync(data, limits(size)))
      : (data, size) => portableCodecs.zstd(data, size),
};

/** Node throws when the output would pass maxOutputLength, having made at most one step more. */
function limits(size: number): { maxOutputLength: number; chunkSize: number } {
  return { maxOutputLength: Math.max(size, 1), chunkSize: Math.min(Math.max(size, 64), MAX_STEP) };
}

function exactly(size: number, out: Uint8Array): Uint8Array {
  if (out.length !== size) throw new Error(`the output is ${out.length} bytes long, not ${size}`);
  return new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
}

async function* gunzip(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const stream = zlib.createGunzip({ chunkSize: PIECE });
  let ready: Uint8Array[] = [];
  let failure: Error | null = null;
  // zlib ends by itself at what is no further member: zeros that pad the file.
  let ended = false;
  let wake: (() => void) | null = null;
  let kept: Uint8Array[] | null = [];
  let keptBytes = 0;
  let given = 0;
  let offset = 0;
  // A listener that takes every piece at once: pieces waiting inside the stream would be dropped
  // with it when it fails.
  stream.on('data', (out: Uint8Array) =>
    ready.push(new Uint8Array(out.buffer, out.byteOffset, out.byteLength)),
  );
  stream.on('error', (error: Error) => {
    failure ??= error;
    wake?.();
  });
  stream.on('end', () => {
    ended = true;
    wake?.();
  });
  const settled = (start: (done: () => void) => void): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
      if (failure === null && !ended) start(resolve);
      else resolve();
    });
  try {
    reading: for await (const chunk of chunks) {
      keptBytes += chunk.length;
      if (keptBytes > RETRY) kept = null;
      kept?.push(chunk);
      for (let at = 0; at < chunk.length; at += SLICE) {
        const made = ready;
        ready = [];
        const slice = chunk.subarray(at, at + SLICE);
        const written = settled((done) => stream.write(slice, () => done()));
        // zlib works on the next slice in a thread of its own while the receiver works on this one.
        for (const piece of made) {
          given += piece.length;
          yield piece;
        }
        await written;
        offset += slice.length;
        if (failure !== null) break reading;
        // What zlib has not taken must be padding; bytesWritten is what it has.
        if (ended && !zeros(slice, stream.bytesWritten - (offset - slice.length))) {
          failure = new Error('data behind the last gzip member');
          break reading;
        }
      }
    }
    // The listener of 'end' wakes this.
    if (failure === null && !ended) await settled(() => stream.end());
    for (const piece of ready) {
      given += piece.length;
      yield piece;
    }
    if (failure !== null && kept !== null) yield* behind(kept, given);
    if (failure !== null) throw failure;
  } finally {
    stream.destroy();
  }
}

/** What the portable codec can read of `input` behind the first `given` bytes. */
async function* behind(input: readonly Uint8Array[], given: number): AsyncGenerator<Uint8Array> {
  async function* again(): AsyncGenerator<Uint8Array> {
    yield* input;
  }
  let at = 0;
  try {
    for await (const piece of portableCodecs.gunzip(again())) {
      const from = Math.max(0, given - at);
      at += piece.length;
      if (from < piece.length) yield piece.subarray(from);
    }
  } catch {
    // The damage is the one that is about to be reported.
  }
}

/** Whether `bytes` from `start` on are zeros. */
function zeros(bytes: Uint8Array, start: number): boolean {
  for (let i = Math.max(0, start); i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

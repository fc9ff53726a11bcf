/**
 * Files and pipes as byte sources; nothing else in the project opens a file to be read as a trace.
 */
import { createReadStream, type Stats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { UsageError } from '@shootdown/machine';
import type { ByteSource } from '@shootdown/trace';

/** Read in pieces of this size: large enough that the number of system calls does not matter. */
const CHUNK = 1 << 20;

/** An input and how to close it. */
export interface OpenedInput {
  readonly source: ByteSource;
  close(): Promise<void>;
}

/**
 * Opens `path`, or standard input for `-`.
 *
 * @param onBytes - told how many more bytes were read, for a progress bar.
 * @throws UsageError ERR_INPUT_OPEN when there is no such file, or it may not be read.
 */
export async function openInput(
  path: string,
  onBytes: (bytes: number) => void,
): Promise<OpenedInput> {
  if (path === '-') return pipeInput('standard input', process.stdin, onBytes);
  let stats: Stats;
  try {
    stats = await stat(path);
  } catch (error) {
    throw new UsageError('ERR_INPUT_OPEN', `${path}: ${reason(error)}`);
  }
  if (stats.isDirectory())
    throw new UsageError(
      'ERR_INPUT_OPEN',
      `${path}: is a directory; give a trace file, or - for standard input`,
    );
  // A FIFO, or /dev/stdin: it can be read once, in order.
  if (!stats.isFile()) {
    return pipeInput(path, createReadStream(path, { highWaterMark: CHUNK }), onBytes);
  }
  try {
    const file = await open(path);
    const source: ByteSource = {
      name: path,
      size: stats.size,
      async *chunks() {
        for (let offset = 0; ;) {
          const { bytesRead, buffer } = await file.read(new Uint8Array(CHUNK), 0, CHUNK, offset);
          if (bytesRead === 0) return;
          offset += bytesRead;
          onBytes(bytesRead);
          yield buffer.subarray(0, bytesRead);
        }
      },
      async read(offset, length) {
        const buffer = new Uint8Array(length);
        let filled = 0;
        while (filled < length) {
          const { bytesRead } = await file.read(buffer, filled, length - filled, offset + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        onBytes(filled);
        return buffer.subarray(0, filled);
      },
    };
    return { source, close: () => file.close() };
  } catch (error) {
    throw new UsageError('ERR_INPUT_OPEN', `${path}: ${reason(error)}`);
  }
}

/** A stream that is read once; closing it lets its writer go. */
function pipeInput(name: string, stream: Readable, onBytes: (bytes: number) => void): OpenedInput {
  const source: ByteSource = {
    name,
    size: null,
    async *chunks() {
      try {
        for await (const chunk of stream) {
          if (!(chunk instanceof Uint8Array)) continue;
          onBytes(chunk.length);
          yield chunk;
        }
      } catch (error) {
        throw new UsageError('ERR_INPUT_OPEN', `${name}: ${reason(error)}`);
      }
    },
  };
  const close = (): Promise<void> => {
    stream.destroy();
    return Promise.resolve();
  };
  return { source, close };
}

/** An operating system's error in its own words. */
function reason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return 'no such file';
  if (code === 'EACCES') return 'permission denied';
  return error instanceof Error ? error.message : String(error);
}

/**
 * Chunks of bytes to blocks of whole lines. A block is new memory, so that what refers to its lines
 * may outlive the next block; a line that never ends is refused instead of filling memory.
 */
import { Char } from './bytes.ts';

/** No line of a trace is longer: a cpumask of 8192 CPUs in hexadecimal has 2,304 characters. */
export const MAX_LINE: number = 1 << 16;

/** Bytes that hold whole lines, except that the very last line of an input may lack its newline. */
export interface Block {
  readonly bytes: Uint8Array;
  readonly end: number;
}

/** Thrown when a line is longer than MAX_LINE; `offset` counts from the start of the input. */
export class LineTooLongError extends Error {
  readonly offset: number;

  constructor(offset: number) {
    super(`a line of more than ${MAX_LINE} bytes at byte ${offset}`);
    this.offset = offset;
  }
}

/** Cuts `chunks` into blocks that end with a newline; the last one ends where the input ends. */
export async function* blocksOfLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Block> {
  let carry = new Uint8Array(0);
  let offset = 0;
  for await (const chunk of chunks) {
    const newline = chunk.lastIndexOf(Char.newline);
    if (newline === -1) {
      if (carry.length + chunk.length > MAX_LINE) throw new LineTooLongError(offset);
      carry = join(carry, chunk);
      continue;
    }
    const bytes = carry.length === 0 ? chunk : join(carry, chunk);
    const end = carry.length + newline + 1;
    offset += end;
    carry = chunk.slice(newline + 1);
    yield { bytes, end };
    if (carry.length > MAX_LINE) throw new LineTooLongError(offset);
  }
  if (carry.length > 0) yield { bytes: carry, end: carry.length };
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

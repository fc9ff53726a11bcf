/**
 * Decompression in plain JavaScript, the default: fflate for gzip and zlib, fzstd for zstd. Neither
 * library checks what it has made, and both would follow a damaged or hostile input a long way, so
 * this file does the checking: a gzip member and a zlib chunk must match their checksums, a zstd
 * frame is walked block by block before anything is allocated for it, and no output grows past the
 * size that was stated.
 *
 * Bound: time spent on a hostile zstd frame. fzstd runs every sequence of a block (up to 98,047,
 * each up to 128 KiB) before the block's size is known; memory stays bounded. Node's own codecs
 * (`@shootdown/trace/node`) have no such gap. Not modelled: zstd content checksums and
 * dictionaries; trace-cmd writes neither.
 */
import { Gunzip, unzlibSync } from 'fflate';
import { Decompress } from 'fzstd';
import type { Codecs } from './source.ts';

/**
 * fflate decodes everything it is given before it hands anything over; deflate expands at most 1032
 * times, so one slice makes at most 8 MiB.
 */
const SLICE = 8192;
const DEFLATE_MAX_RATIO = 1032;

/** RFC 8878 asks decoders to support windows of 8 MiB, and encoders not to need more. */
const ZSTD_MAX_WINDOW = 8 * 1024 * 1024;
const ZSTD_MAX_BLOCK = 128 * 1024;

/** Codecs that need nothing but JavaScript. */
export const portableCodecs: Codecs = { gunzip, zlib, zstd };

async function* gunzip(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let ready: Uint8Array[] = [];
  let failure: Error | null = null;
  let crc = -1;
  let length = 0;
  let tail = new Uint8Array(0);
  let tailEnd = 0;
  /** Whether the member that is being read ends before byte `offset` of the input. */
  const endsAt = (offset: number): boolean | null => {
    const end = tail.length - (tailEnd - offset);
    if (end < 8 || end > tail.length) return null;
    const view = new DataView(tail.buffer, tail.byteOffset + end - 8, 8);
    return view.getUint32(0, true) === ~crc >>> 0 && view.getUint32(4, true) === length;
  };
  const endMember = (offset: number): void => {
    const same = endsAt(offset);
    if (same === null) failure ??= new Error('gzip: a member ends before its checksum');
    else if (!same) failure ??= new Error('gzip: wrong checksum or length');
    crc = -1;
    length = 0;
  };
  let padding = false;
  /** Zeros behind the last member pad the file; the member's own checksum may end in zeros too. */
  const padded = (slice: Uint8Array): boolean => {
    const used = slice.findLastIndex((byte) => byte !== 0) + 1;
    const at = tailEnd - slice.length + used;
    return used < slice.length && Array.from({ length: 8 }, (_, k) => at + k).some(endsAt);
  };
  const stream = new Gunzip((out) => {
    if (out.length === 0) return;
    crc = crc32(crc, out);
    length = (length + out.length) >>> 0;
    ready.push(out);
  });
  stream.onmember = endMember;
  reading: for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += SLICE) {
      const slice = chunk.subarray(at, at + SLICE);
      const longer = new Uint8Array(Math.min(tail.length, 64) + slice.length);
      longer.set(tail.subarray(tail.length - Math.min(tail.length, 64)));
      longer.set(slice, longer.length - slice.length);
      tail = longer;
      tailEnd += slice.length;
      if (padding) {
        if (slice.every((byte) => byte === 0)) continue;
        failure = new Error('gzip: data behind the last member');
        break reading;
      }
      try {
        stream.push(slice);
      } catch (error) {
        if (failure === null && padded(slice)) padding = true;
        else failure ??= toError(error);
      }
      yield* ready;
      ready = [];
      if (failure !== null) break reading;
    }
  }
  if (failure === null && !padding) endMember(tailEnd);
  if (failure !== null) throw failure;
}

function zlib(data: Uint8Array, size: number): Uint8Array {
  if (data.length < 6 || size > data.length * DEFLATE_MAX_RATIO)
    throw new Error(`zlib: ${data.length} bytes cannot hold ${size}`);
  // One byte more than stated, so that a longer output shows; what lies past it is decoded into
  // nothing.
  const out = unzlibSync(data, { out: new Uint8Array(size + 1) });
  if (out.length !== size) throw new Error(`zlib: the output is not ${size} bytes long`);
  const stated = new DataView(data.buffer, data.byteOffset + data.length - 4, 4).getUint32(
    0,
    false,
  );
  if (adler32(out) !== stated) throw new Error('zlib: wrong checksum');
  return out;
}

function zstd(data: Uint8Array, size: number): Uint8Array {
  checkZstdFrame(data, size);
  const out = new Uint8Array(size);
  let length = 0;
  const stream = new Decompress((block) => {
    if (length + block.length > size)
      throw new Error(`zstd: the output is longer than ${size} bytes`);
    out.set(block, length);
    length += block.length;
  });
  stream.push(data, true);
  if (length !== size) throw new Error(`zstd: the output is ${length} bytes long, not ${size}`);
  return out;
}

/**
 * Throws unless `data` is one whole frame of believable blocks, whose header does not contradict
 * `size`.
 */
function checkZstdFrame(data: Uint8Array, size: number): void {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (data.length < 9 || view.getUint32(0, true) !== 0xfd2fb528)
    throw new Error('zstd: not a frame');
  const descriptor = view.getUint8(4);
  const single = (descriptor & 0x20) !== 0;
  if ((descriptor & 0x0b) !== 0) throw new Error('zstd: a dictionary or a reserved bit');
  let at = 5;
  if (!single) {
    const window = view.getUint8(at++);
    const base = 2 ** (10 + (window >> 3));
    if (base + (base / 8) * (window & 7) > ZSTD_MAX_WINDOW)
      throw new Error('zstd: the window is larger than 8 MiB');
  }
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag > 0 ? 1 << sizeFlag : single ? 1 : 0;
  if (at + sizeBytes > data.length) throw new Error('zstd: the frame header is cut');
  if (sizeBytes > 0) {
    let stated = 0;
    for (let i = sizeBytes - 1; i >= 0; i--) stated = stated * 256 + view.getUint8(at + i);
    if (sizeBytes === 2) stated += 256;
    if (stated !== size) throw new Error(`zstd: the frame states ${stated} bytes, not ${size}`);
  }
  at += sizeBytes;
  let budget = size;
  for (let last = false; !last;) {
    if (at + 3 > data.length) throw new Error('zstd: the frame is cut');
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    last = (header & 1) !== 0;
    const type = (header >> 1) & 3;
    const length = header >> 3;
    if (type === 3 || length > ZSTD_MAX_BLOCK) throw new Error('zstd: not a block');
    // A stored or repeated block says how much it makes; a compressed one shows when it is opened.
    if (type !== 2) budget -= length;
    if (budget < 0) throw new Error(`zstd: the output is longer than ${size} bytes`);
    at += 3 + (type === 1 ? 1 : length);
  }
  if (at + ((descriptor & 4) !== 0 ? 4 : 0) !== data.length)
    throw new Error('zstd: the frame does not end with its data');
}

const CRC_TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (let i = 0; i < bytes.length; i++)
    crc = (CRC_TABLE[(crc ^ (bytes[i] as number)) & 0xff] as number) ^ (crc >>> 8);
  return crc;
}

function adler32(bytes: Uint8Array): number {
  let a = 1;
  let b = 0;
  for (let i = 0; i < bytes.length;) {
    // 3800 additions of bytes cannot overflow 32 bits.
    const end = Math.min(i + 3800, bytes.length);
    for (; i < end; i++) b += a += bytes[i] as number;
    a %= 65521;
    b %= 65521;
  }
  return ((b << 16) | a) >>> 0;
}

function toError(value: unknown): Error {
  return value instanceof Error ? value : new Error(String(value));
}

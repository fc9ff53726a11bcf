/**
 * How values are read out of a record, one reader per field, made once per event type. A reader
 * gets the block that the record lies in and where the record begins and ends there. The block's
 * end is checked by DataView, the record's end here or, for fields at fixed offsets, once per
 * record.
 */
import { MAX_REASONS } from '../events/kinds.ts';
import { type CpuId, cpuId, MAX_CPUS } from '@shootdown/machine';
import type { Field } from './eventFormat.ts';

/** Bytes that hold whole pages, and two views of them. */
export interface Block {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** A record whose contents contradict its format: `expected` and `found` go into the error. */
export class RecordFault extends Error {
  readonly expected: string;
  readonly found: string;

  constructor(expected: string, found: string) {
    super(`expected ${expected}, found ${found}`);
    this.expected = expected;
    this.found = found;
  }
}

/** What the file says about numbers: byte order, and the kernel's long. */
export interface Abi {
  readonly littleEndian: boolean;
  readonly longSize: 4 | 8;
}

/** Reads a number from a record that begins at `start`. */
export type NumberReader = (view: DataView, start: number) => number;

/**
 * A reader for a field of 1, 2, 4 or 8 bytes; null for any other. 8 bytes are read as signed: an
 * address, a long, a full flush's -1.
 */
export function numberReader(
  field: Field,
  abi: Abi,
  signed: boolean = field.signed,
): NumberReader | null {
  const { offset } = field;
  const le = abi.littleEndian;
  if (field.location !== 'field' || field.array) return null;
  switch (field.size) {
    case 1:
      return signed
        ? (view, start) => view.getInt8(start + offset)
        : (view, start) => view.getUint8(start + offset);
    case 2:
      return signed
        ? (view, start) => view.getInt16(start + offset, le)
        : (view, start) => view.getUint16(start + offset, le);
    case 4:
      return signed
        ? (view, start) => view.getInt32(start + offset, le)
        : (view, start) => view.getUint32(start + offset, le);
    case 8: {
      const high = offset + (le ? 4 : 0);
      const low = offset + (le ? 0 : 4);
      return (view, start) =>
        view.getInt32(start + high, le) * 0x1_0000_0000 + view.getUint32(start + low, le);
    }
    default:
      return null;
  }
}

/** Where the bytes of a field are. */
export interface Span {
  start: number;
  end: number;
}

/**
 * Fills `into` with the place of a field's bytes in the record from `start` to `end`. @throws
 * RecordFault when that is outside the record.
 */
export function locate(
  field: Field,
  abi: Abi,
  view: DataView,
  start: number,
  end: number,
  into: Span,
): void {
  const at = start + field.offset;
  if (field.location === 'field') {
    into.start = at;
    // `char buf[]` at the end of a format: size 0, as long as the record.
    into.end = field.size === 0 && field.array ? end : at + field.size;
  } else {
    if (at + 4 > end)
      throw new RecordFault(
        `field ${field.name} inside its record`,
        `a record of ${end - start} bytes`,
      );
    const word = view.getUint32(at, abi.littleEndian);
    into.start = (word & 0xffff) + (field.location === 'rel' ? at + 4 : start);
    into.end = into.start + (word >>> 16);
  }
  if (into.start > end || into.end > end) {
    throw new RecordFault(
      `field ${field.name} inside its record of ${end - start} bytes`,
      `one that ends at ${into.end - start}`,
    );
  }
}

/**
 * The CPUs of a bitmask that is an array of the kernel's longs, so that on a big-endian machine
 * each word counts from its other end.
 */
export function cpusOfMask(bytes: Uint8Array, start: number, end: number, abi: Abi): CpuId[] {
  const cpus: CpuId[] = [];
  const flip = abi.littleEndian ? 0 : abi.longSize - 1;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte === 0) continue;
    const first = ((at - start) ^ flip) * 8;
    for (let bit = 0; bit < 8; bit++) if ((byte >> bit) & 1) cpus.push(checkCpu(first + bit));
  }
  if (flip !== 0) cpus.sort((a, b) => a - b);
  return cpus;
}

/** `cpu`, if a kernel can have one. @throws RecordFault */
export function checkCpu(cpu: number): CpuId {
  if (cpu >= MAX_CPUS || cpu < 0) throw new RecordFault(`a CPU below ${MAX_CPUS}`, `CPU ${cpu}`);
  return cpuId(cpu);
}

/** `reason`, if a kernel can have it. @throws RecordFault */
export function checkReason(reason: number): number {
  if (reason >= 0 && reason < MAX_REASONS) return reason;
  throw new RecordFault(`a reason below ${MAX_REASONS}`, String(reason));
}

const decoder = new TextDecoder();

/**
 * Strings of bytes up to a NUL, decoded once each: a trace repeats a few command names millions of
 * times.
 */
export class StringPool {
  readonly #known = new Map<number, { readonly bytes: Uint8Array; readonly text: string }>();

  /** The string between `start` and the first NUL before `end`. */
  get(bytes: Uint8Array, start: number, end: number): string {
    let hash = 0;
    let stop = start;
    for (; stop < end; stop++) {
      const byte = bytes[stop] as number;
      if (byte === 0) break;
      hash = (Math.imul(hash, 31) + byte) | 0;
    }
    const known = this.#known.get(hash);
    if (known !== undefined && sameBytes(known.bytes, bytes, start, stop)) return known.text;
    const copy = bytes.slice(start, stop);
    const text = decoder.decode(copy);
    if (this.#known.size >= 65_536) this.#known.clear();
    this.#known.set(hash, { bytes: copy, text });
    return text;
  }
}

function sameBytes(known: Uint8Array, bytes: Uint8Array, start: number, stop: number): boolean {
  if (known.length !== stop - start) return false;
  for (let i = 0; i < known.length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}

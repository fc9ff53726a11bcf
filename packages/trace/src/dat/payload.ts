/**
 * The payload of an event that has no shape of its own: `field=value ...` in the order of its
 * format, made only when somebody asks.
 */
import { formatCpuList } from '@shootdown/machine';
import type { Payload } from '../events/shapes.ts';
import type { EventFormat, Field } from './eventFormat.ts';
import { type Abi, type Block, cpusOfMask, locate, RecordFault, type Span } from './values.ts';

/** A long array is shown up to here. */
const MOST_ELEMENTS = 64;

const ELEMENT_SIZE: ReadonlyMap<string, number> = new Map([
  ['u16', 2],
  ['__u16', 2],
  ['short', 2],
  ['unsigned short', 2],
  ['u32', 4],
  ['__u32', 4],
  ['int', 4],
  ['unsigned int', 4],
  ['u64', 8],
  ['__u64', 8],
]);

const decoder = new TextDecoder();

/** Text of one record, on demand. Keeps the block that holds the record alive. */
export class DatPayload implements Payload {
  readonly #format: EventFormat;
  readonly #abi: Abi;
  readonly #block: Block;
  readonly #start: number;
  readonly #end: number;

  constructor(format: EventFormat, abi: Abi, block: Block, start: number, end: number) {
    this.#format = format;
    this.#abi = abi;
    this.#block = block;
    this.#start = start;
    this.#end = end;
  }

  text(): string {
    return this.#format.fields.map((field) => `${field.name}=${this.#value(field)}`).join(' ');
  }

  #value(field: Field): string {
    const span: Span = { start: 0, end: 0 };
    try {
      locate(field, this.#abi, this.#block.view, this.#start, this.#end, span);
      if (!field.array) return this.#scalar(field, span.start);
      if (field.type === 'char') return this.#string(span);
      if (field.type === 'cpumask_t')
        return formatCpuList(cpusOfMask(this.#block.bytes, span.start, span.end, this.#abi));
      return this.#elements(field, span);
    } catch (fault) {
      if (!(fault instanceof RecordFault)) throw fault;
      return '?';
    }
  }

  #scalar(field: Field, at: number): string {
    if (![1, 2, 4, 8].includes(field.size))
      return this.#elements(field, { start: at, end: at + field.size });
    const value = this.#integer(at, field.size);
    if (field.type.endsWith('*')) return `0x${value.toString(16)}`;
    return String(field.signed ? BigInt.asIntN(field.size * 8, value) : value);
  }

  #string({ start, end }: Span): string {
    const { bytes } = this.#block;
    let stop = start;
    while (stop < end && bytes[stop] !== 0) stop++;
    return decoder.decode(bytes.subarray(start, stop));
  }

  #elements(field: Field, { start, end }: Span): string {
    const long = field.type === 'unsigned long' || field.type === 'long';
    const size = long ? this.#abi.longSize : (ELEMENT_SIZE.get(field.type) ?? 1);
    const parts: string[] = [];
    for (let at = start; at + size <= end && parts.length < MOST_ELEMENTS; at += size) {
      parts.push(`0x${this.#integer(at, size).toString(16)}`);
    }
    const more = end - start > parts.length * size + size - 1 ? ',...' : '';
    return `{${parts.join(',')}${more}}`;
  }

  #integer(at: number, size: number): bigint {
    let value = 0n;
    for (let i = 0; i < size; i++) {
      value =
        (value << 8n) |
        BigInt(this.#block.view.getUint8(this.#abi.littleEndian ? at + size - 1 - i : at + i));
    }
    return value;
  }
}

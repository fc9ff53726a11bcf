/** Ring-buffer pages and event records for test files: see datWriter.testlib.ts. */
import { Out, type WriterAbi } from './writerBytes.testlib.ts';

/** One event of a page. */
export type PageEvent =
  | { readonly record: Uint8Array; readonly delta: number; readonly long?: boolean }
  | { readonly discarded: number; readonly delta: number }
  | { readonly extend: number }
  | { readonly stamp: bigint }
  | { readonly pad: true };

/** One ring-buffer page. */
export interface Page {
  readonly time: bigint;
  readonly events: readonly PageEvent[];
  /** Events lost before the page: a number, or that nobody counted. */
  readonly missed?: number | 'uncounted';
}

/** Writes pages as the kernel lays them out. */
export function pagesOf(abi: WriterAbi, pageSize: number, pages: readonly Page[]): Uint8Array {
  const all = new Out(abi);
  for (const { time, events, missed } of pages) {
    const data = new Out(abi);
    for (const event of events) writeEvent(abi, data, event);
    const flags = missed === undefined ? 0 : missed === 'uncounted' ? 2 ** 31 : 2 ** 31 + 2 ** 30;
    all
      .u64(time)
      .long(data.length + flags)
      .raw(data.bytes);
    if (typeof missed === 'number') all.long(missed);
    if (all.length % pageSize === 0 && data.length === 0)
      throw new Error('a page without an event');
    all.align(pageSize);
  }
  return all.bytes;
}

function writeEvent(abi: WriterAbi, out: Out, event: PageEvent): void {
  const word = (type: number, delta: number): Out =>
    out.u32(abi.littleEndian ? type + delta * 32 : type * 2 ** 27 + delta);
  if ('pad' in event) word(29, 0);
  else if ('extend' in event)
    word(30, event.extend % 2 ** 27).u32(Math.floor(event.extend / 2 ** 27));
  else if ('stamp' in event)
    word(31, Number(event.stamp & 0x7ffffffn)).u32(Number((event.stamp >> 27n) & 0xffffffffn));
  else if ('discarded' in event)
    word(29, event.delta)
      .u32(event.discarded + 4)
      .raw(new Uint8Array(event.discarded));
  else {
    const padded = Math.ceil(event.record.length / 4) * 4;
    if (event.long === true || padded > 112) word(0, event.delta).u32(padded + 4);
    else word(padded / 4, event.delta);
    out.raw(event.record).raw(new Uint8Array(padded - event.record.length));
  }
}

/**
 * A field: its C declaration, its size, whether it is signed. A `__data_loc` or `__rel_loc`
 * declaration has size 4.
 */
export type WriterField = readonly [declaration: string, size: number, signed: boolean];

/** What a field holds: a number, or bytes; of a located field, bytes that go behind all fields. */
export type WriterValue = bigint | number | Uint8Array;

/** An event type that can be written. */
export class WriterEvent {
  readonly id: number;
  readonly text: string;
  readonly system: string;
  readonly #abi: WriterAbi;
  readonly #fields: {
    readonly offset: number;
    readonly size: number;
    readonly located: 'data' | 'rel' | null;
  }[] = [];
  #size = 8;

  constructor(
    abi: WriterAbi,
    system: string,
    name: string,
    id: number,
    fields: readonly WriterField[],
  ) {
    this.#abi = abi;
    this.id = id;
    this.system = system;
    const lines = [
      `name: ${name}`,
      `ID: ${id}`,
      'format:',
      '\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;',
      '\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;',
      '\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;',
      '\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;',
      '',
    ];
    for (const [declaration, size, signed] of fields) {
      const align = declaration.includes('[') && !declaration.startsWith('__') ? 1 : size;
      this.#size = Math.ceil(this.#size / align) * align;
      lines.push(
        `\tfield:${declaration};\toffset:${this.#size};\tsize:${size};\tsigned:${signed ? 1 : 0};`,
      );
      const located = declaration.startsWith('__data_loc')
        ? 'data'
        : declaration.startsWith('__rel_loc')
          ? 'rel'
          : null;
      this.#fields.push({ offset: this.#size, size, located });
      this.#size += size;
    }
    this.text = `${lines.join('\n')}\n\nprint fmt: "made for a test"\n`;
  }

  /** One record. */
  record(pid: number, values: readonly WriterValue[], flags = 0, preemptCount = 0): Uint8Array {
    const out = new Out(this.#abi).u16(this.id).u8(flags).u8(preemptCount).u32(pid);
    const tail = new Out(this.#abi);
    for (const [i, { offset, size, located }] of this.#fields.entries()) {
      out.raw(new Uint8Array(offset - out.length));
      const value = values[i] as WriterValue;
      if (located !== null && typeof value === 'object') {
        const at = this.#size + tail.length - (located === 'rel' ? offset + 4 : 0);
        out.u32(value.length * 65536 + at);
        tail.raw(value);
      } else if (typeof value === 'object') {
        out.raw(value).raw(new Uint8Array(size - value.length));
      } else if (size === 8) out.u64(value);
      else if (size === 4) out.u32(Number(value));
      else if (size === 2) out.u16(Number(value));
      else out.u8(Number(value));
    }
    return out.raw(tail.bytes).bytes;
  }
}

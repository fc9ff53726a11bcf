/**
 * Writes small trace.dat files for tests, of every kind that the recordings at hand are not: big endian, 4-byte long,
 * zlib, several buffers, lost events, time extends, absolute stamps. Written from the man pages trace-cmd.dat.v6(5)
 * and v7(5), not from the reader; trace-cmd itself reads the result.
 */
import { deflateSync, zstdCompressSync } from 'node:zlib';

/** Byte order and the size of a long. */
export interface WriterAbi {
  readonly littleEndian: boolean;
  readonly longSize: 4 | 8;
}

/** Bytes, appended. */
export class Out {
  readonly #abi: WriterAbi;
  #bytes = new Uint8Array(4096);
  length = 0;

  constructor(abi: WriterAbi) {
    this.#abi = abi;
  }

  /** What was written; a copy. */
  get bytes(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }

  raw(bytes: ArrayLike<number>): this {
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  u8(value: number): this {
    return this.raw([value & 255]);
  }

  u16(value: number): this {
    const at = this.#room(2);
    this.#view().setUint16(at, value, this.#abi.littleEndian);
    return this;
  }

  u32(value: number): this {
    const at = this.#room(4);
    this.#view().setUint32(at, value >>> 0, this.#abi.littleEndian);
    return this;
  }

  u64(value: bigint | number): this {
    const at = this.#room(8);
    this.#view().setBigUint64(at, BigInt.asUintN(64, BigInt(value)), this.#abi.littleEndian);
    return this;
  }

  long(value: bigint | number): this {
    return this.#abi.longSize === 8 ? this.u64(value) : this.u32(Number(BigInt.asUintN(32, BigInt(value))));
  }

  text(text: string): this {
    return this.raw(new TextEncoder().encode(text));
  }

  /** A string and its NUL. */
  string(text: string): this {
    return this.text(text).u8(0);
  }

  /** Overwrites what is at `at`. */
  patch64(at: number, value: number): void {
    this.#view().setBigUint64(at, BigInt(value), this.#abi.littleEndian);
  }

  align(to: number): this {
    return this.raw(new Uint8Array((to - (this.length % to)) % to));
  }

  #room(length: number): number {
    const at = this.length;
    this.length += length;
    if (this.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.length, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return at;
  }

  #view(): DataView {
    return new DataView(this.#bytes.buffer);
  }
}

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
    all.u64(time).long(data.length + flags).raw(data.bytes);
    if (typeof missed === 'number') all.long(missed);
    if (all.length % pageSize === 0 && data.length === 0) throw new Error('a page without an event');
    all.align(pageSize);
  }
  return all.bytes;
}

function writeEvent(abi: WriterAbi, out: Out, event: PageEvent): void {
  const word = (type: number, delta: number): Out =>
    out.u32(abi.littleEndian ? type + delta * 32 : type * 2 ** 27 + delta);
  if ('pad' in event) word(29, 0);
  else if ('extend' in event) word(30, event.extend % 2 ** 27).u32(Math.floor(event.extend / 2 ** 27));
  else if ('stamp' in event) word(31, Number(event.stamp & 0x7ffffffn)).u32(Number((event.stamp >> 27n) & 0xffffffffn));
  else if ('discarded' in event) word(29, event.delta).u32(event.discarded + 4).raw(new Uint8Array(event.discarded));
  else {
    const padded = Math.ceil(event.record.length / 4) * 4;
    if (event.long === true || padded > 112) word(0, event.delta).u32(padded + 4);
    else word(padded / 4, event.delta);
    out.raw(event.record).raw(new Uint8Array(padded - event.record.length));
  }
}

/** A field: its C declaration, its size, whether it is signed. A `__data_loc` or `__rel_loc` declaration has size 4. */
export type WriterField = readonly [declaration: string, size: number, signed: boolean];

/** What a field holds: a number, or bytes; of a located field, bytes that go behind all fields. */
export type WriterValue = bigint | number | Uint8Array;

/** An event type that can be written. */
export class WriterEvent {
  readonly id: number;
  readonly text: string;
  readonly system: string;
  readonly #abi: WriterAbi;
  readonly #fields: { readonly offset: number; readonly size: number; readonly located: 'data' | 'rel' | null }[] = [];
  #size = 8;

  constructor(abi: WriterAbi, system: string, name: string, id: number, fields: readonly WriterField[]) {
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
      lines.push(`\tfield:${declaration};\toffset:${this.#size};\tsize:${size};\tsigned:${signed ? 1 : 0};`);
      const located = declaration.startsWith('__data_loc') ? 'data' : declaration.startsWith('__rel_loc') ? 'rel' : null;
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

/** What goes into a file. */
export interface DatSpec {
  readonly abi: WriterAbi;
  readonly version: 6 | 7;
  readonly compression?: 'none' | 'zlib' | 'zstd';
  readonly pageSize?: number;
  readonly headerPage?: string;
  readonly formats: readonly { readonly system: string; readonly text: string }[];
  readonly kallsyms?: string;
  readonly printk?: string;
  readonly cmdlines?: string;
  /** Ids and data, beside those that the writer makes itself. */
  readonly options?: readonly (readonly [id: number, data: Uint8Array])[];
  /** The first is the main one. Pages per CPU. */
  readonly buffers: readonly { readonly name: string; readonly clock?: string; readonly cpus: readonly Uint8Array[] }[];
}

/** The text of header_page for `abi`. */
export function headerPageText({ longSize }: WriterAbi, pageSize: number): string {
  return [
    '\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;',
    `\tfield: local_t commit;\toffset:8;\tsize:${longSize};\tsigned:1;`,
    '\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;',
    `\tfield: char data;\toffset:${8 + longSize};\tsize:${pageSize - 8 - longSize};\tsigned:0;`,
    '',
  ].join('\n');
}

/** An option's data from text. */
export const optionText = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);

/** Writes the file. */
export function writeDat(spec: DatSpec): Uint8Array {
  const { abi, version, pageSize = 4096 } = spec;
  const out = new Out(abi).raw([0x17, 0x08, 0x44]).text('tracing').string(String(version));
  out.u8(abi.littleEndian ? 0 : 1).u8(abi.longSize).u32(pageSize);
  return version === 6 ? writeV6(spec, out, pageSize) : writeV7(spec, out, pageSize);
}

function headerInfo(spec: DatSpec, out: Out, pageSize: number): void {
  const page = spec.headerPage ?? headerPageText(spec.abi, pageSize);
  const event = '# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n';
  out.string('header_page').u64(page.length).text(page).string('header_event').u64(event.length).text(event);
}

function ftraceFormats(spec: DatSpec, out: Out): void {
  const own = spec.formats.filter(({ system }) => system === 'ftrace');
  out.u32(own.length);
  for (const { text } of own) out.u64(text.length).text(text);
}

function systemFormats(spec: DatSpec, out: Out): void {
  const systems = Object.entries(Object.groupBy(spec.formats, ({ system }) => system)).filter(([system]) => system !== 'ftrace');
  out.u32(systems.length);
  for (const [system, formats = []] of systems) {
    out.string(system).u32(formats.length);
    for (const { text } of formats) out.u64(text.length).text(text);
  }
}

function writeV6(spec: DatSpec, out: Out, pageSize: number): Uint8Array {
  const { kallsyms = '', printk = '', cmdlines = '', buffers } = spec;
  headerInfo(spec, out, pageSize);
  ftraceFormats(spec, out);
  systemFormats(spec, out);
  out.u32(kallsyms.length).text(kallsyms).u32(printk.length).text(printk).u64(cmdlines.length).text(cmdlines);
  out.u32(buffers[0]?.cpus.length ?? 0).string('options  ');
  for (const [id, data] of spec.options ?? []) out.u16(id).u32(data.length).raw(data);
  const places: number[] = [];
  for (const { name } of buffers.slice(1)) {
    out.u16(3).u32(9 + name.length);
    places.push(out.length);
    out.u64(0).string(name);
  }
  out.u16(0);
  for (const [i, { cpus }] of buffers.entries()) {
    const place = places[i - 1];
    if (place !== undefined) out.patch64(place, out.length);
    out.string('flyrecord');
    const table = out.length;
    for (const pages of cpus) out.u64(0).u64(pages.length);
    for (const [cpu, pages] of cpus.entries()) {
      out.align(pageSize).patch64(table + cpu * 16, out.length);
      out.raw(pages);
    }
  }
  return out.bytes;
}

function writeV7(spec: DatSpec, out: Out, pageSize: number): Uint8Array {
  const { abi, compression = 'none', kallsyms = '', printk = '', cmdlines = '', buffers } = spec;
  const pack = (bytes: Uint8Array): Uint8Array => new Uint8Array(compression === 'zlib' ? deflateSync(bytes) : zstdCompressSync(bytes));
  out.string(compression).string('1');
  const first = out.length;
  out.u64(0);
  const directory = new Out(abi);
  const section = (id: number, fill: (body: Out) => void): void => {
    directory.u16(id).u32(8).u64(out.length);
    const plain = new Out(abi);
    fill(plain);
    const body = new Out(abi);
    if (compression === 'none') body.raw(plain.bytes);
    else {
      const packed = pack(plain.bytes);
      body.u32(packed.length).u32(plain.length).raw(packed);
    }
    out.u16(id).u16(compression === 'none' ? 0 : 1).u32(0).u64(body.length).raw(body.bytes);
  };
  section(16, (body) => headerInfo(spec, body, pageSize));
  section(17, (body) => ftraceFormats(spec, body));
  section(18, (body) => systemFormats(spec, body));
  section(19, (body) => body.u32(kallsyms.length).text(kallsyms));
  section(20, (body) => body.u32(printk.length).text(printk));
  section(21, (body) => body.u64(cmdlines.length).text(cmdlines));
  for (const [id, data] of spec.options ?? []) directory.u16(id).u32(data.length).raw(data);
  for (const { name, clock = 'local', cpus } of buffers) {
    const option = new Out(abi).u64(out.length).string(name).string(clock).u32(pageSize).u32(cpus.length);
    const start = out.length;
    out.u16(3).u16(compression === 'none' ? 0 : 1).u32(0).u64(0);
    for (const [cpu, pages] of cpus.entries()) {
      out.align(pageSize);
      const at = out.length;
      if (compression === 'none' || pages.length === 0) out.raw(pages);
      else writeChunks(out, pages, pageSize, pack);
      option.u32(cpu).u64(at).u64(compression === 'none' ? pages.length : Math.max(0, out.length - at - 4));
    }
    out.patch64(start + 8, out.length - start - 16);
    directory.u16(3).u32(option.length).raw(option.bytes);
  }
  // Two options sections, so that the chain is walked.
  directory.u16(0).u32(8).u64(0);
  const second = out.length;
  out.u16(0).u16(0).u32(0).u64(directory.length).raw(directory.bytes);
  out.patch64(first, out.length);
  out.u16(0).u16(0).u32(0).u64(14).u16(0).u32(8).u64(second);
  return out.bytes;
}

function writeChunks(out: Out, pages: Uint8Array, pageSize: number, pack: (bytes: Uint8Array) => Uint8Array): void {
  const step = pageSize * 3;
  out.u32(Math.ceil(pages.length / step));
  for (let at = 0; at < pages.length; at += step) {
    const plain = pages.slice(at, at + step);
    const packed = pack(plain);
    out.u32(packed.length).u32(plain.length).raw(packed);
  }
}

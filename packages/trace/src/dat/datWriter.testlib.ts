/**
 * Writes small trace.dat files for tests, of every kind that the recordings at hand are not: big
 * endian, 4-byte long, zlib, several buffers, lost events, time extends, absolute stamps. Written
 * from the man pages trace-cmd.dat.v6(5) and v7(5), not from the reader; trace-cmd itself reads the
 * result.
 */
import { deflateSync, zstdCompressSync } from 'node:zlib';
import { Out, type WriterAbi } from './writerBytes.testlib.ts';

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
  readonly buffers: readonly {
    readonly name: string;
    readonly clock?: string;
    readonly cpus: readonly Uint8Array[];
  }[];
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
  out
    .u8(abi.littleEndian ? 0 : 1)
    .u8(abi.longSize)
    .u32(pageSize);
  return version === 6 ? writeV6(spec, out, pageSize) : writeV7(spec, out, pageSize);
}

function headerInfo(spec: DatSpec, out: Out, pageSize: number): void {
  const page = spec.headerPage ?? headerPageText(spec.abi, pageSize);
  const event =
    '# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n';
  out
    .string('header_page')
    .u64(page.length)
    .text(page)
    .string('header_event')
    .u64(event.length)
    .text(event);
}

function ftraceFormats(spec: DatSpec, out: Out): void {
  const own = spec.formats.filter(({ system }) => system === 'ftrace');
  out.u32(own.length);
  for (const { text } of own) out.u64(text.length).text(text);
}

function systemFormats(spec: DatSpec, out: Out): void {
  const systems = Object.entries(Object.groupBy(spec.formats, ({ system }) => system)).filter(
    ([system]) => system !== 'ftrace',
  );
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
  out
    .u32(kallsyms.length)
    .text(kallsyms)
    .u32(printk.length)
    .text(printk)
    .u64(cmdlines.length)
    .text(cmdlines);
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
  const pack = (bytes: Uint8Array): Uint8Array =>
    new Uint8Array(compression === 'zlib' ? deflateSync(bytes) : zstdCompressSync(bytes));
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
    out
      .u16(id)
      .u16(compression === 'none' ? 0 : 1)
      .u32(0)
      .u64(body.length)
      .raw(body.bytes);
  };
  section(16, (body) => headerInfo(spec, body, pageSize));
  section(17, (body) => ftraceFormats(spec, body));
  section(18, (body) => systemFormats(spec, body));
  section(19, (body) => body.u32(kallsyms.length).text(kallsyms));
  section(20, (body) => body.u32(printk.length).text(printk));
  section(21, (body) => body.u64(cmdlines.length).text(cmdlines));
  for (const [id, data] of spec.options ?? []) directory.u16(id).u32(data.length).raw(data);
  for (const { name, clock = 'local', cpus } of buffers) {
    const option = new Out(abi)
      .u64(out.length)
      .string(name)
      .string(clock)
      .u32(pageSize)
      .u32(cpus.length);
    const start = out.length;
    out
      .u16(3)
      .u16(compression === 'none' ? 0 : 1)
      .u32(0)
      .u64(0);
    for (const [cpu, pages] of cpus.entries()) {
      out.align(pageSize);
      const at = out.length;
      if (compression === 'none' || pages.length === 0) out.raw(pages);
      else writeChunks(out, pages, pageSize, pack);
      option
        .u32(cpu)
        .u64(at)
        .u64(compression === 'none' ? pages.length : Math.max(0, out.length - at - 4));
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

function writeChunks(
  out: Out,
  pages: Uint8Array,
  pageSize: number,
  pack: (bytes: Uint8Array) => Uint8Array,
): void {
  const step = pageSize * 3;
  out.u32(Math.ceil(pages.length / step));
  for (let at = 0; at < pages.length; at += step) {
    const plain = pages.slice(at, at + step);
    const packed = pack(plain);
    out.u32(packed.length).u32(plain.length).raw(packed);
  }
}

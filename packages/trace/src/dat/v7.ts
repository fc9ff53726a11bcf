/**
 * trace.dat version 7: sections, each with a header, found through options. Options sections form a
 * chain; each ends with option DONE, which holds the place of the next. A section may be compressed
 * as a whole; the pages of a compressed buffer are compressed in chunks, CPU by CPU.
 */
import { MAX_CPUS } from '@shootdown/machine';
import type { CpuExtent, DatBuffer, DatContainer, FormatText } from './parts.ts';
import { checkPageSize, META_LIMITS, readFormats, readHeaderInfo, readSystems } from './parts.ts';
import type { DatFile } from './datFile.ts';
import { MetaReader } from './metaReader.ts';
import { type DatOptions, noOptions, takeOption } from './options.ts';

const OPTIONS = 0;
const BUFFER = 3;
const HEADER_INFO = 16;
const FTRACE_EVENTS = 17;
const EVENT_FORMATS = 18;
const KALLSYMS = 19;
const PRINTK = 20;
const CMDLINES = 21;
const BUFFER_TEXT = 22;

const SECTION_HEADER = 16;

interface Directory {
  readonly options: DatOptions;
  /** By option id: where the section is. */
  readonly sections: Map<number, number>;
  readonly buffers: { readonly offset: number; readonly buffer: Omit<DatBuffer, 'compressed'> }[];
  text: boolean;
}

/** Reads the rest of a version 7 file; `reader` stands behind the page size. */
export async function readV7(file: DatFile, reader: MetaReader): Promise<DatContainer> {
  const at = reader.position;
  const compressor = await reader.string(META_LIMITS.name, 'the name of the compressor');
  await reader.string(META_LIMITS.name, 'the version of the compressor');
  if (compressor !== 'none' && compressor !== 'zlib' && compressor !== 'zstd') {
    const hint = 'convert it with trace-cmd convert --compression none';
    throw file.error(
      'ERR_TRACE_UNSUPPORTED',
      at,
      'compressor none, zlib or zstd',
      JSON.stringify(compressor),
      hint,
    );
  }
  file.compression = compressor;
  const directory = await readDirectory(file, await reader.u64('the place of the first options'));
  const formats: FormatText[] = [];
  let left: number = META_LIMITS.formats;
  const headerPage = await readHeaderInfo(
    await openSection(file, directory, HEADER_INFO, 'HEADER_INFO'),
  );
  if (directory.sections.has(FTRACE_EVENTS)) {
    left = await readFormats(
      await openSection(file, directory, FTRACE_EVENTS, 'FTRACE_EVENTS'),
      'ftrace',
      formats,
      left,
    );
  }
  await readSystems(
    await openSection(file, directory, EVENT_FORMATS, 'EVENT_FORMATS'),
    formats,
    left,
  );
  return {
    file,
    version: 7,
    headerPage,
    formats,
    kallsyms: await readBlob(file, directory, KALLSYMS, 'KALLSYMS'),
    printk: await readBlob(file, directory, PRINTK, 'PRINTK'),
    cmdlines: new TextDecoder().decode(await readBlob(file, directory, CMDLINES, 'CMDLINES')),
    options: directory.options,
    buffers: await readBuffers(file, directory),
  };
}

async function readDirectory(file: DatFile, first: number): Promise<Directory> {
  const directory: Directory = {
    options: noOptions(),
    sections: new Map(),
    buffers: [],
    text: false,
  };
  const seen = new Set<number>();
  let left: number = META_LIMITS.options;
  for (let next = first; next !== 0;) {
    if (seen.has(next))
      throw file.error(
        'ERR_TRACE_CORRUPT',
        next,
        'options sections that end',
        'a chain that comes back here',
      );
    seen.add(next);
    const { reader } = await readSection(file, next, OPTIONS, 'options', META_LIMITS.options);
    next = 0;
    while (reader.remaining > 0) {
      const id = await reader.u16('the id of an option');
      const size = await reader.u32('the size of an option');
      const byte = reader.position;
      left -= size + 6;
      if (left < 0)
        throw file.error(
          'ERR_TRACE_TOO_LARGE',
          byte,
          `at most ${META_LIMITS.options} bytes of options`,
          'more',
        );
      const data = await reader.take(size, `option ${id}`);
      if (id === 0) {
        next = await MetaReader.overBytes(file, data, byte).u64('the place of the next options');
        break;
      }
      await takeDirectoryOption(file, directory, id, data, byte);
    }
  }
  return directory;
}

async function takeDirectoryOption(
  file: DatFile,
  directory: Directory,
  id: number,
  data: Uint8Array,
  byte: number,
): Promise<void> {
  if (id === BUFFER) {
    directory.buffers.push(await readBufferOption(file, data, byte));
    if (directory.buffers.length > 256)
      throw file.error('ERR_TRACE_TOO_LARGE', byte, 'at most 256 buffers', 'more');
  } else if (id >= HEADER_INFO && id <= CMDLINES) {
    directory.sections.set(
      id,
      await MetaReader.overBytes(file, data, byte).u64('the place of a section'),
    );
  } else if (id === BUFFER_TEXT) {
    directory.text = true;
  } else {
    takeOption(directory.options, file, id, data, byte);
  }
}

async function readBufferOption(
  file: DatFile,
  data: Uint8Array,
  byte: number,
): Promise<Directory['buffers'][number]> {
  const reader = MetaReader.overBytes(file, data, byte);
  const offset = await reader.u64('the place of a buffer');
  const name = await reader.string(META_LIMITS.name, 'the name of a buffer');
  const clock = await reader.string(META_LIMITS.name, 'the clock of a buffer');
  const pageSize = await reader.u32('the page size of a buffer');
  checkPageSize(reader, pageSize);
  const count = await reader.u32('the number of CPUs of a buffer');
  const cpus: CpuExtent[] = [];
  for (let i = 0; i < count; i++) {
    const cpu = await reader.u32('the number of a CPU');
    if (cpu >= MAX_CPUS) throw reader.error(`a CPU below ${MAX_CPUS}`, String(cpu));
    const start = await reader.u64("the place of a CPU's data");
    cpus.push({ cpu, offset: start, size: await reader.u64("the size of a CPU's data") });
  }
  cpus.sort((a, b) => a.cpu - b.cpu);
  const twice = cpus.find((extent, i) => extent.cpu === cpus[i + 1]?.cpu);
  if (twice !== undefined)
    throw reader.error('each CPU of a buffer once', `CPU ${twice.cpu} twice`);
  return { offset, buffer: { name, clock, pageSize, cpus } };
}

async function readBuffers(file: DatFile, directory: Directory): Promise<readonly DatBuffer[]> {
  if (directory.buffers.length === 0) {
    const found = directory.text ? 'only the text of a latency tracer' : 'none';
    const hint = directory.text
      ? 'give the output of trace-cmd report instead'
      : 'was the recording stopped before it was written?';
    throw file.error('ERR_TRACE_UNSUPPORTED', 0, 'an option BUFFER', found, hint);
  }
  const buffers: DatBuffer[] = [];
  for (const { offset, buffer } of directory.buffers) {
    const header = MetaReader.overFile(file, offset);
    const { compressed } = await readSectionHeader(header, BUFFER, 'buffer');
    buffers.push({ ...buffer, compressed });
  }
  return [
    ...buffers.filter(({ name }) => name === ''),
    ...buffers.filter(({ name }) => name !== ''),
  ];
}

async function readSectionHeader(
  reader: MetaReader,
  id: number,
  what: string,
): Promise<{ compressed: boolean; size: number }> {
  const found = await reader.u16(`the header of the ${what} section`);
  if (found !== id)
    throw reader.error(`the header of the ${what} section (id ${id}) just before`, `id ${found}`);
  const flags = await reader.u16('the flags of a section');
  await reader.u32('the name of a section');
  return { compressed: (flags & 1) !== 0, size: await reader.u64('the size of a section') };
}

/** Opens the section at `offset`, decompressed when need be. */
async function readSection(
  file: DatFile,
  offset: number,
  id: number,
  what: string,
  most: number,
): Promise<{ reader: MetaReader }> {
  const reader = MetaReader.overFile(file, offset);
  const { compressed, size } = await readSectionHeader(reader, id, what);
  const start = offset + SECTION_HEADER;
  if (!compressed) return { reader: MetaReader.overFile(file, start, start + size) };
  const packedSize = await reader.u32(`the compressed size of the ${what} section`);
  const plainSize = await reader.u32(`the size of the ${what} section`);
  if (plainSize > most)
    throw file.error(
      'ERR_TRACE_TOO_LARGE',
      start,
      `a ${what} section of at most ${most} bytes`,
      `${plainSize}`,
    );
  const packed = await reader.take(packedSize, `the ${what} section`);
  return {
    reader: MetaReader.overBytes(
      file,
      file.decompress(packed, plainSize, start + 8, `the ${what} section`),
      start,
    ),
  };
}

async function openSection(
  file: DatFile,
  directory: Directory,
  id: number,
  name: string,
): Promise<MetaReader> {
  const offset = directory.sections.get(id);
  if (offset === undefined) throw file.error('ERR_TRACE_CORRUPT', 0, `an option ${name}`, 'none');
  return (
    await readSection(
      file,
      offset,
      id,
      name,
      id === KALLSYMS ? META_LIMITS.symbols : META_LIMITS.formats,
    )
  ).reader;
}

/** A section that holds one text after its size; absent is empty. */
async function readBlob(
  file: DatFile,
  directory: Directory,
  id: number,
  name: string,
): Promise<Uint8Array> {
  if (!directory.sections.has(id)) return new Uint8Array(0);
  const reader = await openSection(file, directory, id, name);
  const size =
    id === CMDLINES
      ? await reader.u64(`the size of ${name}`)
      : await reader.u32(`the size of ${name}`);
  return reader.block(size, id === KALLSYMS ? META_LIMITS.symbols : META_LIMITS.text, name);
}

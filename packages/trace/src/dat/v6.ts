/**
 * trace.dat version 6: everything in a fixed order, nothing compressed. After the CPU count come
 * tagged parts of ten bytes each: `options`, then `flyrecord` with the place of every CPU's pages.
 * Option BUFFER points at the `flyrecord` of a further buffer.
 */
import { MAX_CPUS } from '@shootdown/machine';
import type { CpuExtent, DatBuffer, DatContainer, FormatText } from './parts.ts';
import { checkPageSize, META_LIMITS, readFormats, readHeaderInfo, readSystems } from './parts.ts';
import type { DatFile } from './datFile.ts';
import { MetaReader } from './metaReader.ts';
import { cString, type DatOptions, noOptions, takeOption } from './options.ts';

interface Instance {
  readonly name: string;
  readonly offset: number;
}

/** Reads the rest of a version 6 file; `reader` stands behind the page size. */
export async function readV6(
  file: DatFile,
  reader: MetaReader,
  pageSize: number,
): Promise<DatContainer> {
  checkPageSize(reader, pageSize);
  const headerPage = await readHeaderInfo(reader);
  const formats: FormatText[] = [];
  const left = await readFormats(reader, 'ftrace', formats, META_LIMITS.formats);
  await readSystems(reader, formats, left);
  const kallsyms = (
    await reader.block(await reader.u32('the size of kallsyms'), META_LIMITS.symbols, 'kallsyms')
  ).slice();
  const printk = (
    await reader.block(
      await reader.u32('the size of the printk formats'),
      META_LIMITS.text,
      'printk formats',
    )
  ).slice();
  const cmdlines = await reader.text(
    await reader.u64('the size of the command names'),
    META_LIMITS.text,
    'command names',
  );
  const cpuCount = await reader.u32('the number of CPUs');
  if (cpuCount > MAX_CPUS)
    throw reader.error(`at most ${MAX_CPUS} CPUs just before`, String(cpuCount));

  const options = noOptions();
  const instances: Instance[] = [];
  let tag = await readTag(reader);
  if (tag === 'options  ') {
    await readOptions(file, reader, options, instances);
    tag = await readTag(reader);
  }
  if (tag === 'latency  ') {
    const hint =
      'the rest of this file is text: give the output of trace-cmd report, or record without a latency tracer';
    throw file.error(
      'ERR_TRACE_UNSUPPORTED',
      reader.position - 10,
      'ring-buffer pages (flyrecord)',
      'the text of a latency tracer',
      hint,
    );
  }
  if (tag !== 'flyrecord')
    throw reader.error(`'flyrecord' or 'options  ' just before`, JSON.stringify(tag));
  const buffers: DatBuffer[] = [await readFlyrecord(reader, '', pageSize, cpuCount)];
  for (const { name, offset } of instances) {
    const at = MetaReader.overFile(file, offset);
    await at.expect('flyrecord');
    buffers.push(await readFlyrecord(at, name, pageSize, cpuCount));
  }
  options.cpuCount ??= cpuCount;
  return { file, version: 6, headerPage, formats, kallsyms, printk, cmdlines, options, buffers };
}

/** Tags are nine characters and a NUL. */
async function readTag(reader: MetaReader): Promise<string> {
  return cString(await reader.take(10, 'a tag: options, flyrecord or latency'));
}

async function readOptions(
  file: DatFile,
  reader: MetaReader,
  options: DatOptions,
  instances: Instance[],
): Promise<void> {
  let left: number = META_LIMITS.options;
  for (;;) {
    const id = await reader.u16('the id of an option');
    if (id === 0) return;
    const size = await reader.u32('the size of an option');
    const byte = reader.position;
    const data = await reader.block(size, left, 'options, all together');
    left -= size + 6;
    if (id !== 3) {
      takeOption(options, file, id, data, byte);
      continue;
    }
    if (size < 9)
      throw file.error(
        'ERR_TRACE_CORRUPT',
        byte,
        'option BUFFER: an offset and a name',
        `${size} bytes`,
      );
    const offset = await MetaReader.overBytes(file, data, byte).u64('the place of a buffer');
    instances.push({ name: cString(data.subarray(8)), offset });
    if (instances.length > 256)
      throw file.error('ERR_TRACE_TOO_LARGE', byte, 'at most 256 buffers', 'more');
  }
}

async function readFlyrecord(
  reader: MetaReader,
  name: string,
  pageSize: number,
  cpuCount: number,
): Promise<DatBuffer> {
  const cpus: CpuExtent[] = [];
  for (let cpu = 0; cpu < cpuCount; cpu++) {
    const offset = await reader.u64("the place of a CPU's pages");
    cpus.push({ cpu, offset, size: await reader.u64("the size of a CPU's pages") });
  }
  return { name, clock: null, pageSize, compressed: false, cpus };
}

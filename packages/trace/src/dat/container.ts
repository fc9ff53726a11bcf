/**
 * Opens a trace.dat of either version up to its records. Formats: trace-cmd.dat.v6(5) and
 * trace-cmd.dat.v7(5).
 */
import type { Codecs } from '../source.ts';
import { DatFile, type RandomAccessSource } from './datFile.ts';
import { MetaReader } from './metaReader.ts';
import type { DatContainer } from './parts.ts';
import { readV6 } from './v6.ts';
import { readV7 } from './v7.ts';

const MAGIC = [0x17, 0x08, 0x44, ...new TextEncoder().encode('tracing')];

/** Reads everything but the records. */
export async function readContainer(
  source: RandomAccessSource,
  codecs: Codecs,
): Promise<DatContainer> {
  const file = new DatFile(source, codecs);
  if (file.size === 0) throw file.error('ERR_TRACE_EMPTY', 0, 'a trace.dat file', 'nothing');
  const reader = MetaReader.overFile(file, 0);
  const magic = await reader.take(MAGIC.length, 'the mark of a trace.dat file');
  if (MAGIC.some((byte, i) => magic[i] !== byte)) {
    throw file.error(
      'ERR_TRACE_KIND',
      0,
      'the mark of a trace.dat file (17 08 44 "tracing")',
      'other bytes',
    );
  }
  const version = await reader.string(16, "the file's version");
  if (version !== '6' && version !== '7') {
    throw file.error(
      'ERR_TRACE_UNSUPPORTED',
      MAGIC.length,
      'version 6 or 7',
      JSON.stringify(version),
      'convert it with trace-cmd convert',
    );
  }
  const endian = await reader.u8('the byte order');
  if (endian > 1) throw reader.error('byte order 0 or 1 just before', String(endian));
  file.littleEndian = endian === 0;
  const longSize = await reader.u8('the size of a long');
  if (longSize !== 4 && longSize !== 8)
    throw reader.error('a long of 4 or 8 bytes just before', String(longSize));
  const pageSize = await reader.u32('the page size');
  return version === '6' ? readV6(file, reader, pageSize) : readV7(file, reader);
}

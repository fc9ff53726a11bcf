/**
 * What a trace.dat holds beside its records, whichever version it is: the texts that describe the
 * events, the names, the options, and where each CPU's ring-buffer pages lie; and the parts that
 * both versions write alike.
 */
import type { DatFile } from './datFile.ts';
import type { MetaReader } from './metaReader.ts';
import type { DatOptions } from './options.ts';

/** One event's format text, as in /sys/kernel/tracing/events/SYSTEM/EVENT/format. */
export interface FormatText {
  readonly system: string;
  readonly text: string;
}

/**
 * Where one CPU's pages (or its chunks of compressed pages) lie. Not yet checked against the file's
 * size: the file may have been cut.
 */
export interface CpuExtent {
  readonly cpu: number;
  readonly offset: number;
  readonly size: number;
}

/** One ring buffer: the main one, or one of trace-cmd's -B. */
export interface DatBuffer {
  /** Empty for the main buffer. */
  readonly name: string;
  /** Null: the one that option TRACECLOCK names. */
  readonly clock: string | null;
  readonly pageSize: number;
  /** The extents hold chunks, not pages. */
  readonly compressed: boolean;
  readonly cpus: readonly CpuExtent[];
}

/** A trace.dat, its records apart. */
export interface DatContainer {
  readonly file: DatFile;
  readonly version: 6 | 7;
  /** The text of events/header_page: the layout of a ring-buffer page. */
  readonly headerPage: string;
  readonly formats: readonly FormatText[];
  readonly kallsyms: Uint8Array;
  readonly printk: Uint8Array;
  readonly cmdlines: string;
  readonly options: DatOptions;
  /** The main buffer first. */
  readonly buffers: readonly DatBuffer[];
}

/**
 * Caps on what is kept in memory whole. Real files stay far below: 2 MiB of formats, 10 MiB of
 * symbols.
 */
export const META_LIMITS: Readonly<
  Record<'formats' | 'symbols' | 'text' | 'options' | 'name', number>
> = {
  formats: 16 << 20,
  symbols: 256 << 20,
  text: 16 << 20,
  options: 16 << 20,
  name: 4096,
};

/** Throws unless `pageSize` could be one: a power of two from 1 KiB to 1 MiB. */
export function checkPageSize(reader: MetaReader, pageSize: number): void {
  const power = pageSize >= 1024 && pageSize <= 1 << 20 && (pageSize & (pageSize - 1)) === 0;
  if (!power)
    throw reader.error(
      'a page size that is a power of two from 1024 to 1048576 before',
      String(pageSize),
    );
}

/**
 * The formats of the ftrace system: a count, then sizes and texts. Gives what is left of `budget`.
 */
export async function readFormats(
  reader: MetaReader,
  system: string,
  into: FormatText[],
  budget: number,
): Promise<number> {
  let left = budget;
  const count = await reader.u32(`the number of event formats of ${system}`);
  for (let i = 0; i < count; i++) {
    const size = await reader.u64(`the size of an event format of ${system}`);
    into.push({ system, text: await reader.text(size, left, 'event formats, all together') });
    left -= size + 8;
  }
  return left;
}

/** The formats of all other systems: a count, then names, each with its formats. */
export async function readSystems(
  reader: MetaReader,
  into: FormatText[],
  budget: number,
): Promise<void> {
  let left = budget;
  const count = await reader.u32('the number of event systems');
  for (let i = 0; i < count; i++) {
    const system = await reader.string(META_LIMITS.name, 'the name of an event system');
    left = (await readFormats(reader, system, into, left)) - 8;
    if (left < 0)
      throw reader.error(
        `at most ${META_LIMITS.formats} bytes of event formats`,
        'more systems than fit',
      );
  }
}

/** The two texts of the header: the layout of a page is kept; that of an event never changes. */
export async function readHeaderInfo(reader: MetaReader): Promise<string> {
  await reader.expect('header_page');
  const page = await reader.text(
    await reader.u64('the size of header_page'),
    META_LIMITS.formats,
    'header_page',
  );
  await reader.expect('header_event');
  await reader.take(await reader.u64('the size of header_event'), 'header_event');
  return page;
}

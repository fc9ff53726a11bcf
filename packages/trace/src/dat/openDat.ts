/**
 * Opens a trace.dat, the binary file that trace-cmd records, of version 6 or 7. Everything in it is
 * decoded by the descriptions that it carries. Memory is bounded by the metadata (formats, symbols,
 * names) and a read-ahead shared by all CPUs, whatever the file's size.
 *
 * Not modelled: corrections of time between a guest and its host, and counter ticks turned into
 * nanoseconds; a note says when the file has them.
 */
import { cpuId, type CpuId } from '@shootdown/machine';
import type { TraceFormatError } from '../errors.ts';
import type { OpenedTrace, ReadOptions, TraceHeader, TraceStatus } from '../openedTrace.ts';
import { Problems } from '../problems.ts';
import type { Codecs } from '../source.ts';
import { type BlockSource, ChunkBlocks, RawBlocks } from './blocks.ts';
import { readContainer } from './container.ts';
import { CpuStream, lowWord } from './cpuStream.ts';
import type { RandomAccessSource } from './datFile.ts';
import { DatRecords } from './datRecords.ts';
import { EventTable } from './eventTable.ts';
import { clockOf } from './options.ts';
import { Commit, type PageLayout, pageLayout } from './pageLayout.ts';
import type { CpuExtent, DatBuffer, DatContainer } from './parts.ts';
import { TaskTable } from './tasks.ts';

/** Read-ahead of all CPUs together, and the most that one of them gains from. */
const READ_AHEAD = 64 << 20;
const MOST_WINDOW = 1 << 20;

const SECOND = 1_000_000_000n;

/**
 * Opens `source`.
 *
 * @throws TraceFormatError ERR_TRACE_KIND when it is no trace.dat; ERR_TRACE_UNSUPPORTED for
 * another version or compressor, or a file that holds only a latency tracer's text;
 * ERR_TRACE_TRUNCATED, ERR_TRACE_CORRUPT or ERR_TRACE_TOO_LARGE when what stands before the
 * records cannot be read, which `keepGoing` does not change.
 */
export async function openDat(
  source: RandomAccessSource,
  codecs: Codecs,
  options: ReadOptions = {},
): Promise<OpenedTrace> {
  const container = await readContainer(source, codecs);
  const { file, buffers } = container;
  const layout = pageLayout(file, container.headerPage);
  const events = new EventTable(container, {
    littleEndian: file.littleEndian,
    longSize: layout.commitSize,
  });
  const header = headerOf(container, layout, await originOf(container, layout));

  const problems = new Problems(source.name, options.keepGoing ?? false);
  const onProblem = (error: TraceFormatError): void => problems.take(error);
  const window = Math.min(
    MOST_WINDOW,
    READ_AHEAD /
      Math.max(
        1,
        buffers.reduce((sum, { cpus }) => sum + cpus.length, 0),
      ),
  );
  const streams = buffers.flatMap((buffer) =>
    buffer.cpus.map((extent) => {
      const { pageSize } = buffer;
      const blocks = blocksOf(container, buffer, extent, window);
      return new CpuStream(blocks, {
        file,
        layout,
        pageSize,
        cpu: extent.cpu,
        origin: header.origin,
        onProblem,
      });
    }),
  );
  const tasks = new TaskTable(container.cmdlines);
  const records = new DatRecords({
    streams,
    events,
    tasks,
    littleEndian: file.littleEndian,
    onProblem,
  });

  return {
    name: source.name,
    header,
    batches: () => records.batches(),
    status: (): TraceStatus => ({
      records: records.count,
      lost: lostOf(container, streams),
      gaps: gapsOf(streams),
      problems: problems.list,
      problemCount: problems.count,
      notes: [...container.options.notes, ...clockNotes(container), ...events.notes()],
    }),
  };
}

function blocksOf(
  { file }: DatContainer,
  { compressed, pageSize }: DatBuffer,
  extent: CpuExtent,
  window: number,
): BlockSource {
  if (compressed) return new ChunkBlocks(file, extent, window, pageSize);
  return new RawBlocks(file, extent, Math.max(1, Math.floor(window / pageSize)) * pageSize);
}

function headerOf(container: DatContainer, layout: PageLayout, origin: bigint): TraceHeader {
  const { file, version, options, buffers } = container;
  const compression = version === 6 ? '' : `, ${file.compression}`;
  const recorded = buffers.flatMap(({ cpus }) => cpus.map(({ cpu }) => cpu + 1));
  return {
    kind: 'trace.dat',
    version,
    layout: `v${version}${compression}, ${layout.commitSize * 8}-bit, ${file.littleEndian ? 'little' : 'big'} endian`,
    cpus: options.cpuCount ?? recorded.reduce((most, count) => Math.max(most, count), 0),
    kernel: options.kernel,
    clock: clockOf(buffers[0]?.clock ?? null, options.traceClock),
    origin,
    buffers: buffers.map(({ name }) => name).filter((name) => name !== ''),
  };
}

/**
 * Times of two clocks cannot be merged; they are, by number, as trace-cmd does, and this says so.
 */
function clockNotes({ buffers, options }: DatContainer): string[] {
  const names = new Set(buffers.map(({ clock }) => clockOf(clock, options.traceClock).name));
  return names.size < 2
    ? []
    : [`buffers have different clocks (${[...names].join(', ')}): their order means nothing`];
}

/**
 * The whole second in which the first record lies; 0 without records. A first page with a damaged
 * timestamp shall not drag the origin 2^53 ns away from all others, so a timestamp counts only when
 * it is within 2^52 of the middle one.
 */
async function originOf(container: DatContainer, layout: PageLayout): Promise<bigint> {
  const times: bigint[] = [];
  for (const buffer of container.buffers) {
    for (const extent of buffer.cpus) {
      const time = await firstTimestamp(container, buffer, extent, layout);
      if (time !== null) times.push(time);
    }
  }
  times.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const middle = times[times.length >>> 1] ?? 0n;
  const first = times.find((time) => middle - time < 1n << 52n) ?? 0n;
  return first - (first % SECOND);
}

/**
 * The timestamp of the first page that holds anything, of a CPU's first few blocks. What cannot be
 * read here cannot be read later, and is reported then.
 */
async function firstTimestamp(
  container: DatContainer,
  buffer: DatBuffer,
  extent: CpuExtent,
  layout: PageLayout,
): Promise<bigint | null> {
  const { littleEndian } = container.file;
  const blocks = blocksOf(container, buffer, extent, buffer.pageSize);
  for (let tries = 0; tries < 8; tries++) {
    let taken;
    try {
      taken = blocks.take();
    } catch {
      continue;
    }
    if (taken === 'end') return null;
    if (taken === 'fill') {
      await blocks.fill();
      continue;
    }
    const { view, bytes } = taken;
    for (let page = 0; page + layout.data <= bytes.length; page += buffer.pageSize) {
      const commit = lowWord(view, page + layout.commit, layout.commitSize, littleEndian);
      if ((commit & Commit.bytes) > 0)
        return view.getBigUint64(page + layout.timestamp, littleEndian);
    }
  }
  return null;
}

function gapsOf(streams: readonly CpuStream[]): TraceStatus['gaps'] {
  const gaps = new Map<CpuId, number>();
  for (const { cpu, gaps: met } of streams)
    if (met > 0) gaps.set(cpuId(cpu), (gaps.get(cpuId(cpu)) ?? 0) + met);
  return gaps;
}

/**
 * Per CPU, the pages count what was overwritten between two reads, and the final statistics count
 * all that was overwritten: the larger of the two is what is known. Events that were never written
 * are in the statistics only. A page without a number is covered when the statistics exceed the
 * pages.
 */
function lostOf({ options }: DatContainer, streams: readonly CpuStream[]): TraceStatus['lost'] {
  const perCpu = new Map<
    number,
    { overrun: number; unwritten: number; missed: number; uncounted: number }
  >();
  const of = (
    cpu: number,
  ): { overrun: number; unwritten: number; missed: number; uncounted: number } => {
    let loss = perCpu.get(cpu);
    if (loss === undefined)
      perCpu.set(cpu, (loss = { overrun: 0, unwritten: 0, missed: 0, uncounted: 0 }));
    return loss;
  };
  for (const { cpu, overrun, unwritten } of options.cpuStats) {
    of(cpu).overrun += overrun;
    of(cpu).unwritten += unwritten;
  }
  for (const { cpu, missed, missedUncounted } of streams) {
    of(cpu).missed += missed;
    of(cpu).uncounted += missedUncounted;
  }
  const byCpu = new Map<CpuId, number>();
  let counted = 0;
  let uncounted = 0;
  for (const [cpu, loss] of [...perCpu].toSorted(([a], [b]) => a - b)) {
    const lost = Math.max(loss.overrun, loss.missed) + loss.unwritten;
    if (lost > 0) byCpu.set(cpuId(cpu), lost);
    counted += lost;
    if (loss.overrun <= loss.missed) uncounted += loss.uncounted;
  }
  return { byCpu, counted, uncounted };
}

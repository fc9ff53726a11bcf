/**
 * The records of a trace.dat: all CPUs of all buffers, merged by time, in batches made without
 * waiting while the bytes are at hand.
 */
import { assert, Context, cpuId, nanoseconds } from '@shootdown/machine';
import type { TraceFormatError } from '../errors.ts';
import type { RecordedRecord } from '../events/shapes.ts';
import type { CpuStream } from './cpuStream.ts';
import type { EventTable } from './eventTable.ts';
import { MergeHeap } from './mergeHeap.ts';
import type { TaskTable } from './tasks.ts';
import { RecordFault } from './values.ts';

const BATCH = 4096;

/** What the records are made of. */
export interface RecordParts {
  /** Main buffer first, each buffer's CPUs ascending. */
  readonly streams: readonly CpuStream[];
  readonly events: EventTable;
  readonly tasks: TaskTable;
  readonly littleEndian: boolean;
  /** Throws, unless reading goes on. */
  readonly onProblem: (error: TraceFormatError) => void;
}

/** Merges the streams; once. */
export class DatRecords {
  /** Records handed over. */
  count = 0;
  readonly #parts: RecordParts;
  readonly #heap = new MergeHeap();
  #started = false;
  #batch: RecordedRecord[] = [];

  constructor(parts: RecordParts) {
    this.#parts = parts;
  }

  /** The batches. An error comes after the records that were read before it. */
  async *batches(): AsyncGenerator<readonly RecordedRecord[]> {
    assert(!this.#started, 'the records of an opened trace are read once');
    this.#started = true;
    try {
      for (const [rank, stream] of this.#parts.streams.entries()) {
        if (await standOnRecord(stream)) this.#heap.add(stream, rank);
      }
      let gaps = this.#gapsMet();
      for (let stream = this.#heap.first; stream !== undefined; stream = this.#heap.first) {
        if (this.#run()) {
          if (await standOnRecord(stream)) this.#heap.settle();
          else this.#heap.drop();
        }
        if (this.#batch.length >= BATCH || this.#gapsMet() > gaps) {
          gaps = this.#gapsMet();
          yield this.#hand();
        }
      }
    } catch (error) {
      if (this.#batch.length > 0) yield this.#hand();
      throw error;
    }
    if (this.#batch.length > 0) yield this.#hand();
  }

  /**
   * Makes records until the batch is full, all streams have ended, events are missing before the
   * next record of a stream, or the first stream needs bytes: then true.
   */
  #run(): boolean {
    const heap = this.#heap;
    const batch = this.#batch;
    const { events, tasks, littleEndian } = this.#parts;
    const { common } = events;
    for (
      let stream = heap.first;
      stream !== undefined && batch.length < BATCH;
      stream = heap.first
    ) {
      const { block, start, end } = stream;
      const { view } = block;
      if (end - start < common.length)
        this.#fault(stream, `a record of at least ${common.length} bytes`, `${end - start}`);
      else {
        const decoder = events.decoder(view.getUint16(start + common.type, littleEndian));
        if (end - start < decoder.minLength)
          this.#fault(stream, `a record of at least ${decoder.minLength} bytes`, `${end - start}`);
        else {
          try {
            batch.push({
              time: nanoseconds(stream.time),
              cpu: cpuId(stream.cpu),
              task: tasks.get(view.getInt32(start + common.pid, littleEndian)),
              context: contextOf(
                view.getUint8(start + common.flags),
                view.getUint8(start + common.preemptCount),
              ),
              event: decoder.decode(block, start, end),
            });
          } catch (fault) {
            if (!(fault instanceof RecordFault)) throw fault;
            this.#fault(stream, fault.expected, fault.found);
          }
        }
      }
      const { gaps } = stream;
      const advanced = stream.advance();
      if (advanced === 'record') heap.settle();
      else if (advanced === 'end') heap.drop();
      else return true;
      if (stream.gaps > gaps) return false;
    }
    return false;
  }

  #gapsMet(): number {
    return this.#parts.streams.reduce((sum, { gaps }) => sum + gaps, 0);
  }

  #fault(stream: CpuStream, expected: string, found: string): void {
    this.#parts.onProblem(stream.error('ERR_TRACE_CORRUPT', stream.start, expected, found));
  }

  #hand(): readonly RecordedRecord[] {
    const batch = this.#batch;
    this.#batch = [];
    this.count += batch.length;
    return batch;
  }
}

/** Moves `stream` to its next record, waiting for bytes as need be; false when there is none. */
async function standOnRecord(stream: CpuStream): Promise<boolean> {
  for (;;) {
    const advanced = stream.advance();
    if (advanced !== 'fill') return advanced === 'record';
    await stream.fill();
  }
}

/** Bits of common_flags, include/linux/trace_events.h TRACE_FLAG_*, as bits of Context. */
const FLAGS: readonly (readonly [number, number])[] = [
  [0x01, Context.irqsOff],
  [0x04, Context.needResched],
  // Only the preempt count's bit is set: `p` in text.
  [0x20, Context.needResched],
  [0x08, Context.hardirq],
  [0x10, Context.softirq],
  [0x40, Context.nmi],
  [0x80, Context.bhOff],
];

const CONTEXT_OF_FLAGS: Uint8Array = Uint8Array.from({ length: 256 }, (_, flags) =>
  FLAGS.reduce((context, [flag, bit]) => ((flags & flag) === 0 ? context : context | bit), 0),
);

/**
 * common_preempt_count holds the depth of disabled preemption in its low half and that of disabled
 * migration in its high half.
 */
function contextOf(flags: number, count: number): number {
  return (
    (CONTEXT_OF_FLAGS[flags] as number) |
    ((count & 15) << Context.preemptDepthShift) |
    ((count >> 4) << Context.migrateDisableShift)
  );
}

/**
 * One CPU's records in one buffer, in order. A ring-buffer page is a timestamp, the number of bytes
 * in use, and events that each begin with a word of 5 bits of type and 27 bits of time since the
 * event before (include/linux/ring_buffer.h, kernel/trace/ring_buffer.c). The stream stands on one
 * record at a time and moves without allocating.
 *
 * Times are numbers relative to the trace's origin: a page's timestamp is subtracted as a BigInt
 * once per page, the deltas inside are added as numbers, and a sum past 2^53 is damage (104 days
 * after the first record).
 */
import type { TraceFormatError } from '../errors.ts';
import type { BlockSource, PageBlock } from './blocks.ts';
import type { DatFile } from './datFile.ts';
import { Commit, type PageLayout } from './pageLayout.ts';

const PADDING = 29;
const TIME_EXTEND = 30;
const TIME_STAMP = 31;

/** An absolute stamp has 59 bits; the 5 above them are those of the time so far. */
const STAMP_LOW = (1n << 59n) - 1n;

/** What a stream was made for and from. */
export interface StreamOptions {
  readonly file: DatFile;
  readonly layout: PageLayout;
  readonly pageSize: number;
  readonly cpu: number;
  readonly origin: bigint;
  /** Throws, unless reading goes on. */
  readonly onProblem: (error: TraceFormatError) => void;
}

/** What `advance` found. */
export type Advanced = 'record' | 'fill' | 'end';

/** The records of one CPU. */
export class CpuStream {
  readonly cpu: number;
  /**
   * The current record: its time, its block, and where in the block it lies. Valid after `advance`
   * said 'record'.
   */
  time = 0;
  block: PageBlock;
  start = 0;
  end = 0;
  /** Events lost before pages that say how many; and how many pages do not say. */
  missed = 0;
  missedUncounted = 0;
  /** Pages opened so far before which events were lost. */
  gaps = 0;

  readonly #o: StreamOptions;
  readonly #blocks: BlockSource;
  readonly #littleEndian: boolean;
  #page = 0;
  #at = 0;
  #pageEnd = 0;
  #partial = false;

  constructor(blocks: BlockSource, options: StreamOptions) {
    this.cpu = options.cpu;
    this.#o = options;
    this.#blocks = blocks;
    this.#littleEndian = options.file.littleEndian;
    const nothing = new Uint8Array(0);
    this.block = {
      bytes: nothing,
      view: new DataView(nothing.buffer),
      byte: 0,
      exact: true,
      cut: false,
    };
    this.#page = -options.pageSize;
  }

  /** Awaited after `advance` said 'fill'. */
  fill(): Promise<void> {
    return this.#blocks.fill();
  }

  /** An error in the current block, at `at` of it. */
  error(
    code: 'ERR_TRACE_CORRUPT' | 'ERR_TRACE_TRUNCATED',
    at: number,
    expected: string,
    found: string,
  ): TraceFormatError {
    const { byte, exact } = this.block;
    return this.#o.file.error(
      code,
      exact ? byte + at : byte,
      expected,
      `${found} (CPU ${this.cpu})`,
    );
  }

  /** Moves to the next record. */
  advance(): Advanced {
    for (;;) {
      if (this.#at >= this.#pageEnd) {
        const page = this.#nextPage();
        if (page !== 'page') return page;
        continue;
      }
      const at = this.#at;
      const { view } = this.block;
      if (at + 4 > this.#pageEnd) {
        this.#leavePage(
          'an event of at least 4 bytes',
          `${this.#pageEnd - at} at the end of a page`,
        );
        continue;
      }
      const word = view.getUint32(at, this.#littleEndian);
      const type = this.#littleEndian ? word & 31 : word >>> 27;
      const delta = this.#littleEndian ? word >>> 5 : word & 0x07ff_ffff;
      if (type > 0 && type < PADDING) {
        const next = at + 4 + type * 4;
        if (next > this.#pageEnd) {
          this.#leavePage(
            `an event of ${type * 4 + 4} bytes`,
            `${this.#pageEnd - at} up to the end of the page's data`,
          );
          continue;
        }
        this.time += delta;
        this.start = at + 4;
        this.end = next;
        this.#at = next;
        return 'record';
      }
      if (type === PADDING && delta === 0) {
        // The rest of the page was never written.
        this.#at = this.#pageEnd;
        continue;
      }
      if (at + 8 > this.#pageEnd) {
        this.#leavePage(
          'an event of at least 8 bytes',
          `${this.#pageEnd - at} at the end of a page`,
        );
        continue;
      }
      const second = view.getUint32(at + 4, this.#littleEndian);
      if (type === TIME_EXTEND || type === TIME_STAMP) {
        this.#at = at + 8;
        this.#setTime(
          type === TIME_EXTEND
            ? this.time + delta + second * 0x800_0000
            : this.#stamp(delta, second),
          at,
        );
        continue;
      }
      // Type 0, or a discarded event: the second word is a length that counts itself.
      const next = at + 4 + Math.ceil(second / 4) * 4;
      if (second < 4 || next > this.#pageEnd) {
        this.#leavePage(`an event of 4 to ${this.#pageEnd - at - 4} bytes`, `${second}`);
        continue;
      }
      this.time += delta;
      this.#at = next;
      if (type === PADDING) continue;
      this.start = at + 8;
      this.end = at + 4 + second;
      return 'record';
    }
  }

  #stamp(delta: number, second: number): number {
    const now = BigInt(this.time) + this.#o.origin;
    let stamp = (now & ~STAMP_LOW) | (BigInt(second) << 27n) | BigInt(delta);
    if (stamp < now && now - stamp > STAMP_LOW >> 1n) stamp += STAMP_LOW + 1n;
    return Number(stamp - this.#o.origin);
  }

  #setTime(time: number, at: number): void {
    if (time >= this.time && time <= Number.MAX_SAFE_INTEGER) this.time = time;
    else
      this.#leavePage(
        'a time not before the last and within 104 days',
        `${time} after the origin`,
        at,
      );
  }

  /**
   * The rest of the page makes no sense; if it is the last of a file that was cut, that is said at
   * the end of the block.
   */
  #leavePage(expected: string, found: string, at: number = this.#at): void {
    this.#at = this.#pageEnd;
    if (!this.#partial) this.#o.onProblem(this.error('ERR_TRACE_CORRUPT', at, expected, found));
  }

  #nextPage(): 'page' | 'fill' | 'end' {
    const { pageSize } = this.#o;
    for (;;) {
      this.#page += pageSize;
      const left = this.block.bytes.length - this.#page;
      if (left > 0) {
        this.#openPage(Math.min(left, pageSize));
        if (this.#at < this.#pageEnd) return 'page';
        continue;
      }
      this.#page -= pageSize;
      const taken = this.#nextBlock();
      if (taken !== 'block') return taken;
    }
  }

  #nextBlock(): 'block' | 'fill' | 'end' {
    for (;;) {
      const last = this.block;
      if (last.cut) {
        this.block = { ...last, cut: false };
        this.#o.onProblem(
          this.error(
            'ERR_TRACE_TRUNCATED',
            last.bytes.length,
            "more of this CPU's pages",
            'the end of the file',
          ),
        );
      }
      let taken;
      try {
        taken = this.#blocks.take();
      } catch (error) {
        this.#o.onProblem(error as TraceFormatError);
        continue;
      }
      if (typeof taken === 'string') return taken;
      this.block = taken;
      this.#page = -this.#o.pageSize;
      return 'block';
    }
  }

  /** Sets #at and #pageEnd; equal when there is nothing to read in this page. */
  #openPage(length: number): void {
    const { layout, pageSize } = this.#o;
    const page = this.#page;
    this.#at = this.#pageEnd = page;
    this.#partial = length < pageSize && this.block.cut;
    if (length < pageSize && !this.block.cut)
      return this.#leavePage(`whole pages of ${pageSize} bytes`, `${length} at the end`);
    if (length < layout.data) return;
    const commit = this.#commit(page);
    const used = commit & Commit.bytes;
    if (used > pageSize - layout.data)
      return this.#leavePage(
        `a page with at most ${pageSize - layout.data} bytes in use`,
        `${used}`,
      );
    if (commit & Commit.missed) this.#countMissed(commit, page + layout.data + used, page + length);
    if (used === 0) return;
    const time = this.#timestamp(page);
    if (time < this.time || time > Number.MAX_SAFE_INTEGER) {
      const expected =
        "a page that begins after this CPU's last record, and within 104 days of the first";
      return this.#leavePage(expected, `a page ${time} after the origin`);
    }
    if (this.#isAhead(time, page + pageSize)) {
      return this.#leavePage(
        'a page that begins before the next one',
        `a page ${time} after the origin`,
      );
    }
    this.time = time;
    this.#at = page + layout.data;
    this.#pageEnd = Math.min(this.#at + used, page + length);
  }

  /**
   * A damaged timestamp that lies ahead would make all later pages look late. The page behind it
   * tells.
   */
  #isAhead(time: number, next: number): boolean {
    if (
      next + this.#o.pageSize > this.block.bytes.length ||
      (this.#commit(next) & Commit.bytes) === 0
    )
      return false;
    const nextTime = this.#timestamp(next);
    return nextTime < time && nextTime >= this.time;
  }

  #timestamp(page: number): number {
    return Number(
      this.block.view.getBigUint64(page + this.#o.layout.timestamp, this.#littleEndian) -
        this.#o.origin,
    );
  }

  /** The low word of `commit`. */
  #commit(page: number): number {
    return lowWord(
      this.block.view,
      page + this.#o.layout.commit,
      this.#o.layout.commitSize,
      this.#littleEndian,
    );
  }

  #countMissed(commit: number, at: number, pageEnd: number): void {
    const size = this.#o.layout.commitSize;
    this.gaps++;
    if ((commit & Commit.missedStored) === 0 || at + size > pageEnd) {
      this.missedUncounted++;
      return;
    }
    const high =
      size === 8
        ? this.block.view.getUint32(at + (this.#littleEndian ? 4 : 0), this.#littleEndian)
        : 0;
    // More than 2^53 events is not a number of events.
    if (high >= 0x20_0000) this.missedUncounted++;
    else
      this.missed += high * 0x1_0000_0000 + lowWord(this.block.view, at, size, this.#littleEndian);
  }
}

/** The low 32 bits of the long of `size` bytes at `at`. */
export function lowWord(view: DataView, at: number, size: 4 | 8, littleEndian: boolean): number {
  return view.getUint32(at + (size === 8 && !littleEndian ? 4 : 0), littleEndian);
}

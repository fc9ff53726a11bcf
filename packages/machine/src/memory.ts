/**
 * Physical memory: page frames of 512 words of 8 bytes. Page tables live here, and whatever a test
 * or a workload writes through a translation. A frame exists once somebody has written to it, so
 * that a machine of terabytes costs what is used of it; unwritten words are 0.
 *
 * A word is a number and exact below 2^53. A page-table entry fits (pageTable.ts); so does what a
 * kernel keeps in an entry that is not present.
 */
import { UsageError } from './errors.ts';

/** Words of a page frame, and entries of a page table. */
export const WORDS_PER_FRAME = 512;
/** log2 of the bytes of a page frame. */
export const PAGE_SHIFT = 12;
/** Bytes of a page frame. */
export const PAGE_SIZE = 4096;
/** Physical addresses have at most 48 bits here: 2^36 frames. */
export const MAX_FRAMES: number = 2 ** 36;

/** A written page frame. */
export class Frame {
  readonly words: Float64Array = new Float64Array(WORDS_PER_FRAME);
  /** Indexes that were ever written, in that order: what there is to see for a page walker. */
  readonly used: number[] = [];
  private readonly seen = new Uint8Array(WORDS_PER_FRAME);

  set(index: number, value: number): void {
    this.words[index] = value;
    if (this.seen[index] === 1) return;
    this.seen[index] = 1;
    this.used.push(index);
  }
}

/** The frames of a machine. */
export class PhysicalMemory {
  private readonly frames = new Map<number, Frame>();
  private readonly limit: number;
  private last = -1;
  private lastFrame: Frame | null = null;

  /** `frames` page frames, from address 0 on. */
  constructor(frames: number) {
    this.limit = frames * PAGE_SIZE;
  }

  /**
   * Refuses what is no address of a word of this memory.
   *
   * @throws UsageError ERR_ADDRESS
   */
  check(at: number): void {
    if (at >= 0 && at < this.limit && at % 8 === 0) return;
    const where = Number.isInteger(at) ? `0x${at.toString(16)}` : String(at);
    const why =
      Number.isInteger(at) && at >= 0 && at < this.limit
        ? 'is not aligned to 8 bytes'
        : `is outside this machine's memory of 0x${this.limit.toString(16)} bytes`;
    throw new UsageError(
      'ERR_ADDRESS',
      `physical address ${where} ${why}; expected a multiple of 8 below 0x${this.limit.toString(16)}`,
    );
  }

  read(at: number): number {
    this.check(at);
    return this.frame(Math.floor(at / PAGE_SIZE))?.words[(at % PAGE_SIZE) / 8] ?? 0;
  }

  write(at: number, value: number): void {
    this.check(at);
    const number = Math.floor(at / PAGE_SIZE);
    let frame = this.frame(number);
    if (frame === null) {
      frame = new Frame();
      this.frames.set(number, frame);
      this.lastFrame = frame;
    }
    frame.set((at % PAGE_SIZE) / 8, value);
  }

  /** The frame numbered `number` if it was ever written. */
  frame(number: number): Frame | null {
    if (number === this.last) return this.lastFrame;
    this.last = number;
    this.lastFrame = this.frames.get(number) ?? null;
    return this.lastFrame;
  }

  /** Written frames by number, for messages and tests. */
  written(): Iterable<[number, Frame]> {
    return this.frames.entries();
  }
}

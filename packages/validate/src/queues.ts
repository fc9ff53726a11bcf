/**
 * What waits in the call queue of a CPU, as far as records say. A call is put there at some time
 * after its csd_queue_cpu, and a CPU takes all of them at some time between the interrupt and the
 * first function, so whether one was still there may be open.
 */
import type { Line } from './line.ts';

interface Waiting {
  readonly csd: string;
  /** Who queued it, by which record. */
  readonly from: Line;
  readonly since: number;
  state: 'there' | 'open' | 'taken';
}

/** The call queue of one CPU. */
export class Queue {
  #waiting: Waiting[] = [];
  /** The interrupt, or idle loop, that may be taking calls; and when the last one had. */
  #taking = -1;
  #took = -1;
  #added = -1;
  /** Until it was taken once, calls of before the recording may wait. */
  #known = false;

  /** A call was queued. Gives whether it was alone, as far as that is certain. */
  add(csd: string, from: Line, seq: number): boolean | null {
    const alone = this.#alone;
    this.#waiting.push({ csd, from, since: seq, state: 'there' });
    this.#added = seq;
    return alone;
  }

  get #alone(): boolean | null {
    if (this.#waiting.every(({ state }) => state === 'taken')) return this.#known ? true : null;
    // It is there once its caller has gone on, unless somebody is just taking it.
    const there = this.#waiting.some(
      ({ state, from, since }) => state === 'there' && from.last > since,
    );
    return there && this.#taking === -1 ? false : null;
  }

  /** Whether somebody took or added calls after `seq`, so that a look at the queue may have gone either way. */
  movedSince(seq: number): boolean {
    return this.#taking !== -1 || this.#took > seq || this.#added > seq;
  }

  /** A handler begins. */
  taking(seq: number): void {
    this.#taking = seq;
  }

  /** Its first function runs, or it ends. Gives whether anything could be taken. */
  took(seq: number): void {
    const from = this.#taking === -1 ? seq : this.#taking;
    for (const call of this.#waiting) {
      if (call.state === 'open' || call.since < from) call.state = 'taken';
      else if (call.state === 'there') call.state = 'open';
    }
    this.#took = seq;
    this.#known = true;
    this.#taking = -1;
  }

  /** The function of `csd` runs. False: nobody was seen to queue it. */
  ran(csd: string): boolean {
    const at = this.#waiting.findIndex((call) => call.csd === csd);
    if (at !== -1) this.#waiting.splice(at, 1);
    return at !== -1;
  }

  /** Nobody knows what waits here. */
  forget(): void {
    for (const call of this.#waiting) call.state = 'open';
    this.#taking = -1;
    this.#known = false;
  }
}

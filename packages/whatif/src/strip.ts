/**
 * When calls came, in bounded memory and one pass: a row of slots whose width doubles whenever time
 * runs past its end.
 */

/** Counts per slot and lane, over a time axis that starts where `begin` says. */
export class Strip {
  readonly #lanes: number;
  readonly #slots: number;
  readonly #counts: Uint32Array;
  #width = 1;
  #start = 0;
  #empty = true;

  /** @param slots - even; the axis is resolved to between half of and all of them. */
  constructor(slots: number, lanes: number) {
    this.#slots = slots;
    this.#lanes = lanes;
    this.#counts = new Uint32Array(slots * lanes);
  }

  /** Where the axis begins. */
  begin(time: number): void {
    if (!this.#empty) return;
    this.#empty = false;
    this.#start = time;
  }

  /** One more in `lane` at `time`; what lies before the start counts at the start. */
  add(time: number, lane: number): void {
    this.begin(time);
    let slot = Math.floor(Math.max(0, time - this.#start) / this.#width);
    while (slot >= this.#slots) {
      this.#halve();
      slot = Math.floor((time - this.#start) / this.#width);
    }
    const index = slot * this.#lanes + lane;
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
  }

  /** The counts of each lane in `buckets` equal parts of [start of the axis, `end`]. */
  buckets(buckets: number, end: number): number[][] {
    const result = Array.from({ length: buckets }, () =>
      Array.from({ length: this.#lanes }, () => 0),
    );
    const span = Math.max(1, end - this.#start + 1);
    for (let slot = 0; slot < this.#slots; slot++) {
      const bucket = Math.min(buckets - 1, Math.floor((slot * this.#width * buckets) / span));
      const row = result[bucket] ?? [];
      for (let lane = 0; lane < this.#lanes; lane++)
        row[lane] = (row[lane] ?? 0) + (this.#counts[slot * this.#lanes + lane] ?? 0);
    }
    return result;
  }

  #halve(): void {
    const { length } = this.#counts;
    for (let slot = 0; slot < this.#slots / 2; slot++) {
      for (let lane = 0; lane < this.#lanes; lane++) {
        const a = this.#counts[2 * slot * this.#lanes + lane] ?? 0;
        const b = this.#counts[(2 * slot + 1) * this.#lanes + lane] ?? 0;
        this.#counts[slot * this.#lanes + lane] = a + b;
      }
    }
    this.#counts.fill(0, length / 2);
    this.#width *= 2;
  }
}

/**
 * Counts of non-negative integers, from which quantiles are read. Values below 2,048 are kept
 * exactly, larger ones in 1,024 buckets per power of two: a quantile is then at most a thousandth
 * too low, and memory is bounded whatever the number of values.
 */
const SUB = 1024;
const EXACT = 2 * SUB;

/** How values are distributed; in the unit that was added. */
export interface Quantiles {
  readonly count: number;
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** One distribution. */
export class Histogram {
  count = 0;
  readonly #buckets = new Map<number, number>();
  #min = Infinity;
  #max = -Infinity;

  /** Adds an integer from 0. */
  add(value: number): void {
    const bucket = bucketOf(value);
    this.#buckets.set(bucket, (this.#buckets.get(bucket) ?? 0) + 1);
    this.count++;
    this.#min = Math.min(this.#min, value);
    this.#max = Math.max(this.#max, value);
  }

  /** Null if there are no values. */
  quantiles(): Quantiles | null {
    if (this.count === 0) return null;
    const [p50, p90, p99] = [0.5, 0.9, 0.99].map((share) => this.#quantile(share));
    return {
      count: this.count,
      min: this.#min,
      p50: p50 ?? this.#max,
      p90: p90 ?? this.#max,
      p99: p99 ?? this.#max,
      max: this.#max,
    };
  }

  /** How far apart the quartiles are. */
  get spread(): number {
    return this.#quantile(0.75) - this.#quantile(0.25);
  }

  /** The smallest value that so large a share of all values does not exceed. */
  #quantile(share: number): number {
    let left = Math.ceil(share * this.count);
    for (const [bucket, count] of this.#sorted()) {
      left -= count;
      if (left <= 0) return Math.max(this.#min, lowest(bucket));
    }
    return this.#max;
  }

  /**
   * The median of grouped data: a value k stands for a true one anywhere from k - 1/2 to k + 1/2, and
   * the median is placed among those that share its value. Where a clock's step is as long as what is
   * measured this tells more than p50, and where it is short the two agree.
   */
  groupedMedian(): number | null {
    let below = 0;
    for (const [bucket, count] of this.#sorted()) {
      if (below + count >= this.count / 2) {
        const low = lowest(bucket);
        const width = lowest(bucket + 1) - low;
        return low - 0.5 + (width * (this.count / 2 - below)) / count;
      }
      below += count;
    }
    return null;
  }

  #sorted(): readonly (readonly [number, number])[] {
    return [...this.#buckets].toSorted(([a], [b]) => a - b);
  }
}

/** Ascending with the value: the first EXACT buckets hold one value each. */
function bucketOf(value: number): number {
  if (value < EXACT) return value;
  const shift = Math.floor(Math.log2(value)) - Math.log2(SUB);
  return shift * SUB + Math.floor(value / 2 ** shift);
}

/** The lowest value of a bucket. */
function lowest(bucket: number): number {
  if (bucket < EXACT) return bucket;
  const shift = Math.floor(bucket / SUB) - 1;
  return (bucket - shift * SUB) * 2 ** shift;
}

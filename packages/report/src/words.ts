/** Numbers and times as words: the same everywhere, so never the locale's. */

/** 6908 is `6,908`. */
export function thousands(value: number): string {
  return String(value).replace(/\B(?=(?:\d{3})+$)/g, ',');
}

/** `1 call`, `2 calls`. */
export function plural(count: number, one: string, many: string = `${one}s`): string {
  return `${thousands(count)} ${count === 1 ? one : many}`;
}

/** A length of time: `8.0 s`, `12.3 ms`, `450 us`; ticks stay ticks. */
export function seconds(length: number, unit: 'us' | 'ticks'): string {
  if (unit === 'ticks') return `${thousands(length)} ticks`;
  if (length >= 1_000_000)
    return `${thousands(Math.floor(length / 1e6))}.${Math.floor((length % 1e6) / 1e5)} s`;
  if (length >= 10_000) return `${(length / 1000).toFixed(1)} ms`;
  return `${thousands(length)} us`;
}

/** A point in time as the recorder prints it: `10.264197`; ticks as they are. */
export function timestamp(time: number, unit: 'us' | 'ticks'): string {
  return unit === 'ticks'
    ? String(time)
    : `${Math.floor(time / 1e6)}.${String(time % 1e6).padStart(6, '0')}`;
}

/** `CPU 3`, `CPUs 6-7`. */
export function cpusOf(list: string): string {
  return /^\d+$/.test(list) ? `CPU ${list}` : `CPUs ${list}`;
}

/** Timing: the best of a few runs, because whatever else the machine does only ever adds. */

/** What one case gave. */
export interface Measured {
  readonly name: string;
  /** How much was done in one run. */
  readonly amount: number;
  readonly unit: 'MB' | 'events' | 'Ops' | 'IPIs' | 'flushes' | 'faults';
  readonly seconds: number;
}

/** Runs `body`, which returns how much it did, `runs` times. */
export async function measure(
  name: string,
  unit: Measured['unit'],
  runs: number,
  body: () => Promise<number> | number,
): Promise<Measured> {
  let best: Measured = { name, amount: 0, unit, seconds: Infinity };
  for (let run = 0; run < runs; run++) {
    const start = performance.now();
    const amount = await body();
    const seconds = (performance.now() - start) / 1000;
    if (seconds < best.seconds) best = { name, amount, unit, seconds };
  }
  return best;
}

/** Amount per second. */
export const rate = ({ amount, seconds }: Measured): number => amount / seconds;

/** Cases as a table: rate, and how many times the last one's, which is the one to compare with. */
export function table(cases: readonly Measured[]): string {
  const base = cases.at(-1);
  const rows = cases.map((measured) => {
    const perSecond =
      measured.unit === 'MB'
        ? `${rate(measured).toFixed(0)} MB/s`
        : `${(rate(measured) / 1e6).toFixed(3)} M ${measured.unit}/s`;
    const ratio = base === undefined ? '' : `${(rate(measured) / rate(base)).toFixed(1)} x`;
    return `  ${measured.name.padEnd(58)} ${perSecond.padStart(18)} ${ratio.padStart(9)}`;
  });
  return rows.join('\n');
}

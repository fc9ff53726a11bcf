/** A hand-written recording of shootdowns of known lengths, and its calibration. */
import { bytesSource, openTrace } from '@shootdown/trace';
import { excerpt } from '../examples.testlib.ts';
import { calibrate, type CalibrateOptions, type Calibration } from './calibrate.ts';
import type { IntervalId } from './intervals.ts';

/** A cost table with the entries that matter here, and one that no trace gives. */
export const TABLE: CalibrateOptions['table'] = {
  sendIpi: { ns: 60 },
  irqEntry: { ns: 120 },
  ipiFlight: { ns: 300 },
  invlpg: { ns: 100 },
  writeCr3: { ns: 40 },
  load: { ns: 1 },
};

/** Calibrates an excerpt: see `excerpt`. */
export const calibrated = async (
  lines: readonly string[],
  options: Partial<CalibrateOptions> = {},
): Promise<Calibration> => calibrate(await excerpt(lines), { table: TABLE, ...options });

/** Calibrates any text. */
export const calibratedText = async (
  text: string,
  options: Partial<CalibrateOptions> = {},
): Promise<Calibration> =>
  calibrate(await openTrace(bytesSource('text', new TextEncoder().encode(text))), {
    table: TABLE,
    ...options,
  });

/** One interval of a calibration. */
export function interval(of: Calibration, id: IntervalId): Calibration['intervals'][number] {
  const found = of.intervals.find((one) => one.id === id);
  if (found === undefined) throw new Error(`no interval ${id}`);
  return found;
}

/** Lengths in microseconds, between the events of one shootdown. */
export interface Shape {
  readonly send: number;
  readonly flight: number;
  readonly flush: number;
  readonly pages: number;
}

/**
 * One shootdown of CPU 0 for CPU 1 from microsecond `at`: asks at 0, queues at 1, sends at 2, does
 * its own part `send` later; the interrupt is taken `flight` after the sending, the handler begins 1
 * behind that and flushes for `flush`; the exits are 1 and 2 behind. It returns 1 later.
 */
export function shootdown(at: number, { send, flight, flush, pages }: Shape): readonly string[] {
  const entry = at + 2 + flight;
  const done = entry + 1 + flush;
  const one = 'csd=0000000000000aa8';
  const own = 'csd=0000000000000000';
  const lines: readonly (readonly [number, number, string])[] = [
    [at, 0, `tlb_flush: pages:${pages} reason:remote ipi send (4)`],
    [at + 1, 0, `csd_queue_cpu: cpu=1 callsite=f+0x1 func=flush_tlb_func ${one}`],
    [at + 2, 0, 'ipi_send_cpu: cpu=1 callsite=f+0x1 callback=generic_smp_call_function+0x0'],
    [at + 2 + send, 0, `csd_function_entry: func=flush_tlb_func, ${own}`],
    [at + 2 + send, 0, `tlb_flush: pages:${pages} reason:local mm shootdown (3)`],
    [at + 2 + send, 0, `csd_function_exit: func=flush_tlb_func, ${own}`],
    [entry, 1, 'call_function_single_entry: vector=251'],
    [entry + 1, 1, `csd_function_entry: func=flush_tlb_func, ${one}`],
    [done, 1, `tlb_flush: pages:${pages} reason:remote shootdown (1)`],
    [done + 1, 1, `csd_function_exit: func=flush_tlb_func, ${one}`],
    [done + 2, 1, 'call_function_single_exit: vector=251'],
    [done + 3, 0, 'sys_munmap -> 0x0'],
  ];
  return lines
    .toSorted(([a], [b]) => a - b)
    .map(([time, cpu, event]) => `a-${10 + cpu} ${cpu} ${time} ${event}`);
}

/** Calibration of shipped recordings: their order is real, so counts are; their times are not. */
import { expect, test } from 'vitest';
import { example } from '../examples.testlib.ts';
import { calibrate, type Calibration } from './calibrate.ts';
import { interval, TABLE } from './shootdown.testlib.ts';

const measure = async (name: string): Promise<Calibration> =>
  calibrate(await example(name), { table: TABLE });

test('every call that was queued has a length or a reason', async () => {
  const found = await measure('qemu-6.12-isolated67.v7-zstd.dat');
  const { lengths, leftOut } = interval(found, 'queue-handler');
  // replay counts the same 505 calls.
  expect((lengths?.count ?? 0) + leftOut.unfinished).toBe(505);
  expect(leftOut.negative).toBe(0);
  expect(found.times).toMatchObject({ clock: 'mono', stated: 'trace', stepNs: 1 });
});

test('a trace.dat and the report of it measure the same intervals', async () => {
  const dat = await measure('qemu-6.12-isolated67.v7-zstd.dat');
  const text = await measure('qemu-6.12-isolated67.trace-cmd-report.txt.gz');
  for (const { id, lengths, byPages } of dat.intervals) {
    const other = interval(text, id);
    expect([id, other.lengths?.count]).toEqual([id, lengths?.count]);
    expect(other.byPages.map(({ pages }) => pages)).toEqual(byPages.map(({ pages }) => pages));
    // The report rounds both ends to a microsecond.
    for (const at of ['min', 'p50', 'max'] as const) {
      const [ours, theirs] = [lengths?.[at] ?? 0, other.lengths?.[at] ?? 0];
      expect(Math.abs(theirs - ours)).toBeLessThanOrEqual(1000 + ours / 500);
    }
  }
});

test('a kernel without csd and ipi events gives what it has', async () => {
  const found = await measure('qemu-6.1-rt-smp4.ftrace.txt.gz');
  expect(interval(found, 'queue-handler').why).toBe('no csd_queue_cpu events in this trace');
  expect(interval(found, 'interrupt').lengths).not.toBeNull();
  expect(found.missing.find(({ name }) => name === 'ipiFlight')?.reason).toBe(
    'no ipi_send_cpu or ipi_send_cpumask events in this trace',
  );
});

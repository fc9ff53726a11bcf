/** What trace-cmd makes of the files that the test writer writes is what the reader makes of them. */
import { expect, test } from 'vitest';
import { writeDat } from './datWriter.testlib.ts';
import {
  ABIS,
  BASE,
  CASES,
  sampleEvents,
  sampleSpec,
  withExtraBuffer,
} from './sampleDat.testlib.ts';
import { asFile, printedTime, readAll, reportLines, reportText } from './traceCmd.testlib.ts';
import { pagesOf } from './writerPages.testlib.ts';

// Debian's trace-cmd is built without zlib.
test.each(CASES.filter(({ compression }) => compression !== 'zlib'))(
  'a file of $name is read by trace-cmd as it is here: CPUs, tasks, times, names, order and losses',
  async ({ abi, version, compression }) => {
    for (const spec of [
      sampleSpec(abi, version, compression),
      withExtraBuffer(sampleSpec(abi, version, compression)),
    ]) {
      const bytes = writeDat(spec);
      const file = asFile(bytes);
      const read = await readAll(bytes);
      const ours = read.records.map((record) => {
        const { task, cpu, event } = record;
        return {
          comm: task.comm,
          pid: task.pid,
          cpu: Number(cpu),
          time: printedTime(read, record, 9),
          name: event.name,
        };
      });
      const theirs = reportLines(file, '-t').map(({ comm, pid, cpu, time, name }) => ({
        comm,
        pid,
        cpu,
        time,
        name,
      }));
      expect(ours).toEqual(theirs);
      expect(reportText(file)).toContain('CPU:0 [17 EVENTS DROPPED]');
      expect(reportText(file)).toContain('CPU:1 [EVENTS DROPPED]');
    }
  },
);

test('a discarded event counts for time and is no record', () => {
  const abi = ABIS[0] as (typeof ABIS)[number];
  const vector = (pid: number): Uint8Array => sampleEvents(abi).vector.record(pid, [251]);
  const events = [
    { record: vector(1), delta: 0 },
    { discarded: 16, delta: 100 },
    { record: vector(2), delta: 7 },
    { pad: true as const },
  ];
  const cpus = [pagesOf(abi, 4096, [{ time: BASE, events }])];
  const bytes = writeDat({ ...sampleSpec(abi, 6), buffers: [{ name: '', cpus }] });
  expect(reportLines(asFile(bytes), '-t').map(({ time }) => time)).toEqual([
    '1234.567890123',
    '1234.567890230',
  ]);
});

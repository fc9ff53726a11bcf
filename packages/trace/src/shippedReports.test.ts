/** The reports that trace-cmd 3.1.6 printed of the recordings ship beside them. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { comparable, countsOf, examplePath, open, recordsOf } from './examples.testlib.ts';

describe.each(['isolated67', 'thp-collapse'])('%s', (name) => {
  const report = `qemu-6.12-${name}.trace-cmd-report.txt.gz`;
  const recording = `qemu-6.12-${name}.v7-zstd.dat`;

  test('as many of each event as the report has lines of it', async () => {
    const printed: Record<string, number> = {};
    const text = gunzipSync(readFileSync(examplePath(report))).toString();
    for (const line of text.split('\n')) {
      const event = /\[\d+\]\s+\d+\.\d+: (\S+):\s/.exec(line)?.[1];
      if (event !== undefined) printed[event] = (printed[event] ?? 0) + 1;
    }
    expect(countsOf(await recordsOf(await open({ example: recording })))).toEqual(printed);
  });

  test('the report gives the events of the recording, one by one', async () => {
    const text = await recordsOf(await open({ example: report }));
    const dat = await recordsOf(await open({ example: recording }));
    expect(text.map(comparable)).toEqual(dat.map(comparable));
  });
});

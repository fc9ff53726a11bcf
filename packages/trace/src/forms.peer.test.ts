/**
 * One recording, many forms: trace-cmd converts the recordings and prints reports, and every form
 * must give the same events.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { comparable, countsOf, examplePath, open, recordsOf } from './examples.testlib.ts';

const RECORDINGS = [
  'qemu-6.12-isolated67.v7-zstd.dat',
  'qemu-6.12-thp-collapse.v7-zstd.dat',
] as const;

describe.each(RECORDINGS)('%s', (recording) => {
  let folder = '';
  let expected: readonly unknown[] = [];

  const report = (...flags: readonly string[]): Uint8Array =>
    execFileSync('trace-cmd', ['report', ...flags, examplePath(recording)], {
      stdio: ['ignore', 'pipe', 'ignore'],
      maxBuffer: 1 << 28,
    });

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'shootdown-forms-'));
    expected = (await recordsOf(await open({ example: recording }))).map(comparable);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('as many of each event as trace-cmd report prints', async () => {
    const printed: Record<string, number> = {};
    for (const line of new TextDecoder().decode(report()).split('\n')) {
      const name = /\[\d+\]\s+\d+\.\d+: (\S+):\s/.exec(line)?.[1];
      if (name !== undefined) printed[name] = (printed[name] ?? 0) + 1;
    }
    expect(countsOf(await recordsOf(await open({ example: recording })))).toEqual(printed);
  });

  test.each(['', '-N', '-t', '-l', '--ts-diff', '-N -t --ts-diff'])(
    "the report printed with '%s'",
    async (options) => {
      const flags = options === '' ? [] : options.split(' ');
      const records = (await recordsOf(await open({ bytes: report(...flags) }))).map(comparable);
      // -l cuts commands at 8 characters.
      const cut = (record: unknown): unknown =>
        flags.includes('-l') && typeof record === 'object' && record !== null && 'comm' in record
          ? { ...record, comm: String(record.comm).slice(0, 8) }
          : record;
      expect(records).toEqual(expected.map(cut));
    },
  );

  test('the report of raw fields (-R) gives the same events in the same order', async () => {
    const names = (await recordsOf(await open({ bytes: report('-R') }))).map(
      (record) => record.event.name,
    );
    expect(names).toEqual(
      (await recordsOf(await open({ example: recording }))).map((record) => record.event.name),
    );
  });

  // Debian's trace-cmd is built without zlib: dat/ has tests of its own for that.
  test.each([
    ['6', 'none'],
    ['7', 'none'],
    ['7', 'zstd'],
  ])('trace.dat v%s, compression %s', async (version, compression) => {
    const file = join(folder, `v${version}-${compression}.dat`);
    const compress = version === '6' ? [] : ['--compression', compression];
    execFileSync(
      'trace-cmd',
      ['convert', '-i', examplePath(recording), '-o', file, '--file-version', version, ...compress],
      { stdio: 'ignore' },
    );
    const trace = await open({ bytes: readFileSync(file) });
    expect(trace.header).toMatchObject({ kind: 'trace.dat', version: Number(version) });
    expect((await recordsOf(trace)).map(comparable)).toEqual(expected);
  });
});

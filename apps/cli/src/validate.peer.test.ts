/** A recording whose clock is each CPU's own. trace-cmd writes the version whose clock is text. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PLAIN } from '@shootdown/report';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run } from './program.ts';

const EXAMPLE = fileURLToPath(
  new URL('../../../examples/traces/qemu-6.12-isolated67.v7-zstd.dat', import.meta.url),
);

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'shootdown-validate-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

test("a recording with the clock 'local' is refused by that name", async () => {
  const trace = join(folder, 'v6.dat');
  execFileSync('trace-cmd', ['convert', '-i', EXAMPLE, '-o', trace, '--file-version', '6'], {
    stdio: 'ignore',
  });
  const bytes = readFileSync(trace, 'latin1');
  const local = bytes.replace(
    'local global counter uptime perf [mono]',
    '[local] global counter uptime perf mono',
  );
  expect(local).not.toBe(bytes);
  writeFileSync(trace, local, 'latin1');
  const silent = (): void => undefined;
  const output = { style: PLAIN, toolVersion: '', write: silent, warn: silent, complain: silent };
  await expect(run(['validate', trace], output)).rejects.toMatchObject({
    code: 'ERR_VALIDATE',
    message: expect.stringContaining("its clock is 'local'") as string,
  });
});

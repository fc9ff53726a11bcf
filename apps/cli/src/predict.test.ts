import { expect, test } from 'vitest';
import { fileURLToPath } from 'node:url';
import { PLAIN } from '@shootdown/report';
import type { Output } from './replay.ts';
import { nearestRelease, predict, type PredictFlags } from './predict.ts';

const TRACE = fileURLToPath(
  new URL('../../../examples/traces/qemu-6.12-isolated67.v7-zstd.dat', import.meta.url),
);

async function run(
  flags: Partial<PredictFlags>,
): Promise<{ readonly code: number; readonly text: string }> {
  let text = '';
  const output: Output = {
    style: PLAIN,
    toolVersion: '0.0.0',
    write: (more) => (text += more),
    warn: () => undefined,
    complain: () => undefined,
  };
  const code = await predict(TRACE, { format: 'text', ...flags }, output);
  return { code, text };
}

test('the kernel of a trace is the last modelled one that is not newer', () => {
  expect(nearestRelease('6.12.111+deb12-amd64')).toBe('6.12.117');
  expect(nearestRelease('6.17.3')).toBe('6.12.117');
  expect(nearestRelease('5.10.0')).toBe('6.1.192');
  expect(nearestRelease('9.1')).toBe('7.3');
  expect(nearestRelease(null)).toBe('7.0');
});

test('a trace whose processes are older than it: nothing is claimed for them', async () => {
  const { code, text } = await run({});
  expect(code).toBe(0);
  expect(text).toContain('Predicted by the model of kernel 6.12.117, native');
  expect(text).toMatch(/could not be: of processes that are older than the trace/);
});

test('JSON, Markdown and features', async () => {
  const { text } = await run({ format: 'json', pcid: false, pti: true });
  expect(JSON.parse(text)).toMatchObject({ model: { features: ['pti'] }, marks: null });
  expect((await run({ format: 'md' })).text).toContain('### Predicted and recorded');
});

test.each([
  [{ format: 'ndjson' }, 'ERR_FORMAT_NAME'],
  [{ kernel: '2.4' }, 'ERR_KERNEL'],
  [{ marks: 'BEGIN' }, 'ERR_OPTION'],
])('%o is refused with %s', async (flags, code) => {
  await expect(run(flags)).rejects.toMatchObject({ code });
});

/**
 * The views of all shipped recordings: they fit the schema and 100 columns, and say what the issue
 * of a quiet CPU needs said.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { cpuId } from '@shootdown/machine';
import { bytesSource, openTrace } from '@shootdown/trace';
import { CALL_KINDS, type CountOptions, countReplay } from '@shootdown/whatif';
import { describe, expect, test } from 'vitest';
import { PLAIN, renderMarkdown, renderText } from '../blocks.ts';
import { replayBlocks } from './document.ts';
import { replaySchema } from './schema.ts';
import { replayView, type ReplayView } from './view.ts';

const FOLDER = new URL('../../../../examples/traces/', import.meta.url);
const RECORDINGS = readdirSync(FOLDER).filter((name) => !name.includes('proc-interrupts'));

async function viewOf(
  name: string,
  isolated: readonly number[],
  options: CountOptions = {},
): Promise<ReplayView> {
  const bytes = readFileSync(new URL(name, FOLDER));
  const trace = await openTrace(bytesSource(name, bytes));
  const counts = await countReplay(trace, { isolated: isolated.map(cpuId), ...options });
  return replayView(counts, {
    toolVersion: '0.0.0',
    file: name,
    bytes: bytes.length,
    header: trace.header,
    kinds: CALL_KINDS,
  });
}

describe.each(RECORDINGS)('%s', (name) => {
  test.each([[[]], [[2, 3]]])(
    'isolated %j: the view fits the published schema, and the text 100 columns',
    async (isolated) => {
      const view = await viewOf(name, isolated);
      const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(
        replaySchema,
      );
      validate(JSON.parse(JSON.stringify(view)));
      expect(validate.errors).toBeNull();
      const lines = renderText(replayBlocks(view), PLAIN).split('\n');
      expect(lines.filter((line) => line.length > 100)).toEqual([]);
    },
  );
});

test.each(['isolated67', 'thp-collapse'])(
  '%s: the trace.dat and the report text give the same view except for input',
  async (name) => {
    const { input: dat, ...fromDat } = await viewOf(`qemu-6.12-${name}.v7-zstd.dat`, [6, 7]);
    const { input: text, ...fromText } = await viewOf(
      `qemu-6.12-${name}.trace-cmd-report.txt.gz`,
      [6, 7],
    );
    expect(JSON.stringify(fromText)).toBe(JSON.stringify(fromDat));
    expect([dat.kind, text.kind]).toEqual(['trace.dat', 'trace-cmd-report']);
  },
);

test('the headline answers: how often, how much of it TLB work, from whom', async () => {
  const { headline } = await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7]);
  expect(headline).toEqual([
    'CPUs 6-7 were interrupted 109 times by function calls in 8.0 s: 88 of the 123 calls queued to them were TLB work.',
    '52 of the 62 user TLB flushes came from hft-log (munmap, madvise(MADV_DONTNEED)); ' +
      'such calls go where its address space is loaded, idle (lazy) CPUs too.',
  ]);
});

test('what /proc/interrupts would have shown, and what it hides', async () => {
  const text = renderText(
    replayBlocks(await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7])),
    PLAIN,
  ).replaceAll(/\s+/g, ' ');
  expect(text).toContain('/proc/interrupts would have shown 62 in its TLB row for CPUs 6-7.');
  expect(text).toContain('(24 flushes of everything, 2 kernel-range flushes) is hidden in CAL');
});

test('losses are said before anything else', async () => {
  const view = await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7]);
  const lossy: ReplayView = {
    ...view,
    lost: { counted: 1200, uncounted: 1, byCpu: [{ cpu: 3, events: 1200 }] },
  };
  expect(renderText(replayBlocks(lossy), PLAIN).replaceAll('\n  ', ' ')).toMatch(
    /^! 1,200 events lost \(1,200 on CPU 3\), and an unknown number in 1 place: counts are lower bounds/,
  );
});

test('nothing in a task name becomes markup', async () => {
  const view = await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7]);
  const [cause] = view.causes;
  if (cause === undefined) throw new Error('no cause');
  const hostile: ReplayView = { ...view, causes: [{ ...cause, task: '<b>|[x](y)`' }] };
  expect(renderMarkdown(replayBlocks(hostile))).toContain('\\<b\\>\\|\\[x\\](y)\\`');
});

test('a machine of 4096 CPUs is drawn in groups', async () => {
  const view = await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7]);
  const large: ReplayView = {
    ...view,
    cpus: 4096,
    matrix: {
      group: 1,
      cells: Array.from({ length: 4096 }, (_, from) => ({
        from,
        to: (from + 1) % 4096,
        calls: 100,
      })),
    },
  };
  const lines = renderText(replayBlocks(large), PLAIN).split('\n');
  expect(lines.filter((line) => line.length > 100)).toEqual([]);
  const table = lines.slice(lines.findIndex((line) => line.startsWith('Who interrupts whom')) + 1);
  expect(table[0]).toMatch(/\b6\*\s+7\*/);
  // Every call is in the last column.
  const total = table
    .slice(1, table.indexOf(''))
    .reduce((sum, line) => sum + Number(line.trim().split(/\s+/).at(-1)), 0);
  expect(total).toBe(409_600);
});

test('the kinds of the schema are the kinds of whatif', () => {
  expect(JSON.stringify(replaySchema)).toContain(JSON.stringify(Object.keys(CALL_KINDS)));
});

const textOf = (view: ReplayView): string =>
  renderText(replayBlocks(view), PLAIN).replaceAll(/\s+/g, ' ');

test('a cut is said, and what it leaves out is not counted beside it', async () => {
  const view = await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7], {
    only: [cpuId(0), cpuId(1)],
  });
  const text = textOf(view);
  // grep csd_queue_cpu | awk '$2 == "[000]" || $2 == "[001]"' | grep -c ' cpu=[67] '
  expect(view.headline[0]).toBe(
    'CPUs 6-7 were sent 84 calls in 8.0 s, 65 of them TLB work (calls from or to CPUs 0-1 only).',
  );
  expect(text).toContain('cut: only calls from or to CPUs 0-1');
  expect(text).not.toContain('On the whole machine');
  expect(view.tlbRow.total).toBeNull();
  expect(view.accounts.map((account) => account.callInterrupts)).toEqual([null, null]);
});

test('a window is said', async () => {
  const from = { value: 11_600_000, relative: false };
  const text = textOf(await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7], { from }));
  expect(text).toContain('cut: only events from 11.600000 to the end');
});

test('plurals are those of the kind, and one is one', async () => {
  const view = await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7], {
    to: { value: 20_000, relative: true },
  });
  expect(view.headline[1]).toMatch(/^All 6 flushes of everything came from rmmod/);
});

test('evidence D counts interrupts and says nothing of calls', async () => {
  const view = await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7]);
  expect(view.complete).toBe(true);
  const text =
    '# tracer: nop\n          <idle>-0       [003] d.h1.     5.000000: call_function_entry: vector=252\n';
  const trace = await openTrace(bytesSource('d', new TextEncoder().encode(text)));
  const counts = await countReplay(trace, { isolated: [cpuId(3)] });
  const context = {
    toolVersion: '0',
    file: 'd',
    bytes: null,
    header: trace.header,
    kinds: CALL_KINDS,
  };
  const d = replayView(counts, context);
  expect(d.received).toBeNull();
  expect(d.headline).toEqual([
    'CPU 3 was interrupted 1 time by function calls in 0 us. By whom, this trace cannot say.',
  ]);
  expect(textOf(d)).toMatch(/3 1 no data no data no data no data no data none seen/);
});

test('no control character of a task name reaches the terminal', async () => {
  const view = await viewOf('qemu-6.12-isolated67.v7-zstd.dat', [6, 7]);
  const [cause] = view.causes;
  if (cause === undefined) throw new Error('no cause');
  const hostile: ReplayView = { ...view, causes: [{ ...cause, task: '\u001b[31mred\u202e' }] };
  const drawn = renderText(replayBlocks(hostile), PLAIN) + renderMarkdown(replayBlocks(hostile));
  for (const char of ['\u001b', '\u202e']) expect(drawn).not.toContain(char);
});

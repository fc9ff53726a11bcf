import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import { PLAIN, renderMarkdown, renderText } from '../blocks.ts';
import { runBlocks, simulated } from './document.ts';
import { runSchema } from './schema.ts';
import type { PhaseView, RunView } from './view.ts';

const PHASE: PhaseView = {
  name: 'munmap pages=1',
  timeNs: 8248,
  ipis: [{ function: 'flush_tlb_func', during: 'munmap', sends: 5, interrupts: 15 }],
  flushes: [
    { reason: 4, pages: 1, count: 5 },
    { reason: 3, pages: -1, count: 5 },
    { reason: 1, pages: 1, count: 15 },
  ],
  interrupts: [0, 5, 5, 5],
  tlbRow: [0, 5, 5, 5],
  vmstat: { nr_tlb_remote_flush: 5 },
};

const VIEW: RunView = {
  schemaVersion: 1,
  command: 'run',
  toolVersion: '0.0.0',
  workload: 'munmap',
  title: 'munmap of ranges',
  parameters: { list: [1, 8], iterations: 5 },
  cpus: 4,
  threads: 4,
  isolated: '',
  lazy: '',
  kernel: '7.0',
  backend: 'native',
  editions: ['baseline'],
  costProfile: null,
  simulated: { timeNs: 1_234_567, ops: 98_765, interrupts: 20 },
  phases: [PHASE, { ...PHASE, name: 'munmap pages=8' }],
  total: { ...PHASE, name: 'all' },
  warnings: [],
};

const text = (view: RunView): string => renderText(runBlocks(view), PLAIN);

test('a view fits the published schema, and one with something unknown in it does not', () => {
  const validate = new Ajv2020({ allErrors: true }).compile(runSchema);
  expect(validate(VIEW)).toBe(true);
  expect(validate({ ...VIEW, surprise: 1 })).toBe(false);
});

test('the first line says how many interrupts, to how many CPUs, in what time', () => {
  expect(text(VIEW).split('\n')[0]).toBe('15 IPIs to 3 CPUs, in 8.2 us of simulated time.');
});

test('nobody interrupted is said in words, and there is no table of causes', () => {
  const quiet = { ...PHASE, ipis: [], interrupts: [0, 0, 0, 0] };
  const shown = text({ ...VIEW, total: quiet });
  expect(shown).toContain('No CPU was interrupted, in 8.2 us of simulated time.');
  expect(shown).not.toContain('IPIs by cause');
});

test('what reached isolated CPUs is counted apart', () => {
  expect(text({ ...VIEW, isolated: '2-3' })).toContain('10 of them reached the isolated CPUs 2-3.');
});

test('CPUs that were interrupted equally often share a row', () => {
  expect(text(VIEW)).toMatch(/^ {2}1-3 +5 +5$/m);
});

test('a flush of everything is called all, not -1', () => {
  expect(text(VIEW)).toMatch(/^ +3 {2}local MM shootdown +all +5$/m);
});

test('a cost profile is named, with how many entries it set', () => {
  const shown = text({
    ...VIEW,
    costProfile: { file: 'epyc.json', entries: ['invlpg', 'sendIpi'] },
  });
  expect(shown).toContain('Costs: epyc.json sets 2 entries of the table (invlpg, sendIpi).');
});

test('a WARN of the kernel is shown', () => {
  expect(text({ ...VIEW, warnings: ['a CPU is ahead'] })).toContain(
    '! kernel WARN: a CPU is ahead',
  );
});

test('no line is wider than 100 columns, however many CPUs there are', () => {
  const interrupts = Array.from({ length: 4096 }, (_, cpu) => 1 + (cpu % 7));
  const wide = { ...PHASE, interrupts, tlbRow: interrupts };
  const lines = text({ ...VIEW, cpus: 4096, total: wide }).split('\n');
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
});

test('a cell of many flushes is broken between them, not inside one', () => {
  const flushes = [4, 3, 1].flatMap((reason) =>
    [1, 8, 33, 64, 512, 4096].map((pages) => ({ reason, pages, count: 1234 })),
  );
  const shown = text({ ...VIEW, phases: [PHASE, { ...PHASE, flushes }] });
  const cells = shown.slice(shown.indexOf('By phase'));
  expect(cells.match(/1,234 x [\d,]*\d/g)).toHaveLength(18);
  expect(cells).not.toMatch(/ x$| x {2}/m);
});

test('Markdown has the same tables', () => {
  expect(renderMarkdown(runBlocks(VIEW))).toContain(
    '| flush\\_tlb\\_func | munmap | 5 | 15 | 3.0 |',
  );
});

test.each([
  [999, '999 ns'],
  [34_363, '34.4 us'],
  [8_655_000, '8.65 ms'],
  [1_383_934_959, '1.38 s'],
])('%d ns is %s', (ns, words) => {
  expect(simulated(ns)).toBe(words);
});

import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import type { FlushKind, KindScore, Prediction } from '@shootdown/whatif';
import { PLAIN, renderMarkdown, renderText } from '../blocks.ts';
import { percent, predictBlocks } from './document.ts';
import { predictSchema } from './schema.ts';
import { predictView, type PredictView } from './view.ts';

const NONE: KindScore = { recorded: 0, undecidable: 0, predicted: 0, matched: 0 };
const FLUSHES: KindScore = { recorded: 1200, undecidable: 3, predicted: 1199, matched: 1190 };

const PREDICTION: Prediction = {
  header: {
    kind: 'ftrace',
    version: null,
    layout: '5 flag characters',
    cpus: 8,
    kernel: null,
    clock: { name: 'x86-tsc', unit: 'ticks', resolution: 1 },
    origin: 0n,
    buffers: [],
  },
  kernel: '6.12.117',
  backend: 'native',
  marks: { from: 'WORKLOAD_BEGIN', to: 'WORKLOAD_END' },
  events: 4335,
  lost: { byCpu: new Map(), counted: 0, uncounted: 0 },
  kinds: {
    flush: FLUSHES,
    exact: FLUSHES,
    local: FLUSHES,
    send: NONE,
    batched: NONE,
    received: { recorded: 0, undecidable: 0, predicted: 2, matched: 0 },
    switch: NONE,
    'wrong-cpu': NONE,
  } satisfies Record<FlushKind, KindScore>,
  differences: [{ kind: 'flush', cause: 'exit', during: 'exit_group', missed: 10, extra: 9 }],
  warnings: [],
};

const CONTEXT = { toolVersion: '0.0.0', file: 'trace.txt', features: ['pcid', 'invpcid'] };
const VIEW: PredictView = predictView(PREDICTION, CONTEXT);

const text = (view: PredictView): string => renderText(predictBlocks(view), PLAIN);

test('a view fits the published schema, and one with something unknown in it does not', () => {
  const validate = new Ajv2020({ allErrors: true }).compile(predictSchema);
  expect(validate(VIEW)).toBe(true);
  expect(validate({ ...VIEW, marks: null })).toBe(true);
  expect(validate({ ...VIEW, surprise: 1 })).toBe(false);
});

test('kinds that neither side has are left out, and a share of nothing is null, not 100 %', () => {
  expect(VIEW.kinds.map(({ kind }) => kind)).toEqual(['flush', 'exact', 'local', 'received']);
  const received = VIEW.kinds.at(-1);
  expect([received?.recall, received?.precision]).toEqual([null, 0]);
});

test('the first lines are recall, precision, and what could not be decided', () => {
  expect(text(VIEW).split('\n').slice(0, 3)).toEqual([
    '1,190 of 1,200 flushes predicted with the right page count (99.1 %).',
    '99.2 % of the 1,199 predicted are right.',
    '3 could not be: of processes that are older than the trace, or of the kernel.',
  ]);
});

test('a share is cut, so that 100 % is all of them', () => {
  expect([percent(0.9999), percent(1), percent(null)]).toEqual(['99.9 %', '100.0 %', '']);
});

test('differences say what the task did, and why it is not surprising', () => {
  expect(text(VIEW)).toMatch(/flush, with its page count +exit_group +exit +10 +9/);
});

test('a trace without flushes says so, and has no tables', () => {
  const none = { ...PREDICTION, kinds: { ...PREDICTION.kinds, flush: NONE, exact: NONE } };
  const quiet = { ...none.kinds, local: NONE, received: NONE };
  const shown = text(predictView({ ...none, kinds: quiet, marks: null }, CONTEXT));
  expect(shown).toContain('No TLB flush was recorded, and none was predicted.');
  expect(shown).toContain('The whole trace counts.');
  expect(shown).not.toContain('Recall');
});

test('lost events and WARNs of the kernel are warnings', () => {
  const bad = {
    ...PREDICTION,
    lost: { ...PREDICTION.lost, counted: 7 },
    warnings: ['a CPU is ahead'],
  };
  const shown = text(predictView(bad, CONTEXT));
  expect(shown).toContain('! 7 events lost: what they did is not predicted.');
  expect(shown).toContain('! kernel WARN: a CPU is ahead');
});

test('no line is wider than 100 columns, and Markdown has the same rows', () => {
  const lines = text(VIEW).split('\n');
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(100);
  expect(renderMarkdown(predictBlocks(VIEW))).toContain('| exit\\_group | exit | 10 | 9 |');
});

import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import type { TraceHeader, TraceStatus } from '@shootdown/trace';
import {
  DECISIONS,
  type DecisionKind,
  FIELDS,
  type Score,
  type Scores,
  type ValidationResult,
} from '@shootdown/validate';
import { PLAIN, renderMarkdown, renderText } from '../blocks.ts';
import { validateBlocks } from './document.ts';
import { validateSchema } from './schema.ts';
import { type ValidateContext, validateView, type ValidateView } from './view.ts';

const KINDS = Object.keys(DECISIONS) as DecisionKind[];

const score = (of: Partial<Score> = {}): Score => ({
  equal: 0,
  reordered: 0,
  different: 0,
  learned: 0,
  learnedDifferent: 0,
  undecidable: new Map(),
  ...of,
});

const scores = (of: Partial<Record<DecisionKind, Score>>): Scores =>
  Object.fromEntries(KINDS.map((kind) => [kind, of[kind] ?? score()])) as Scores;

const RESULT: ValidationResult = {
  trace: 'trace.txt',
  records: 207_769,
  outside: 0,
  lost: 0,
  depth: 'probes',
  kernel: { value: '6.12.117', by: 'as told' },
  cpus: { value: 8, by: 'the header' },
  pcid: { value: true, by: '63 values of CR3 with a PCID' },
  pti: { value: false, by: 'assumed: no record shows it' },
  backend: 'native',
  wrapped: false,
  scores: scores({
    send: score({ equal: 1999, different: 1, reordered: 3 }),
    switch: score({ undecidable: new Map([['what the ASIDs held before', 10]]) }),
    cpumask: score({ equal: 4, learned: 2 }),
  }),
  workload: scores({ send: score({ equal: 1500 }) }),
  differences: [
    {
      kind: 'send',
      record: 1234,
      time: 475_826,
      cpu: 3,
      task: 'init-1',
      ours: 'a local flush',
      recorded: 'flush_tlb_multi to 4',
      because: 'mm_cpumask 3',
      learned: false,
      inWorkload: true,
    },
  ],
  differenceCount: 1,
  resyncs: new Map([
    ['generation', 1],
    ['flush_tlb_mm_range', 7],
  ]),
  notes: [],
};

const HEADER: TraceHeader = {
  kind: 'ftrace',
  version: null,
  layout: '5 flag characters',
  cpus: 8,
  kernel: null,
  clock: { name: null, unit: 'ticks', resolution: 1 },
  origin: 51_000_000_000n,
  buffers: [],
};

const STATUS: TraceStatus = {
  records: 207_769,
  lost: { byCpu: new Map(), counted: 0, uncounted: 0 },
  gaps: new Map(),
  problems: [],
  problemCount: 0,
  notes: [],
};

const CONTEXT: ValidateContext = {
  toolVersion: '0.0.0',
  header: HEADER,
  status: STATUS,
  rules: DECISIONS,
  fields: FIELDS.probes,
};

const viewOf = (
  result: Partial<ValidationResult> = {},
  context: Partial<ValidateContext> = {},
): ValidateView => validateView({ ...RESULT, ...result }, { ...CONTEXT, ...context });

const text = (view: ValidateView, parts: Parameters<typeof validateBlocks>[1] = {}): string =>
  renderText(validateBlocks(view, parts), PLAIN);

const EQUAL = { scores: scores({ send: score({ equal: 2 }) }), differences: [] } as const;

test('a view fits the published schema, and one with something unknown in it does not', () => {
  const check = new Ajv2020({ allErrors: true }).compile(validateSchema);
  const view: unknown = JSON.parse(JSON.stringify(viewOf()));
  check(view);
  expect(check.errors).toBeNull();
  expect(check(viewOf({ workload: null, differences: [] }))).toBe(true);
  expect(check({ ...viewOf(), surprise: 1 })).toBe(false);
});

test('the kinds of the schema are those of the model, and so are the rules beside them', () => {
  const { decisions } = viewOf();
  expect(decisions.map(({ kind, rule }) => [kind, rule])).toEqual(Object.entries(DECISIONS));
  expect(JSON.stringify(validateSchema)).toContain(JSON.stringify(KINDS));
});

test('the first line says how many differ, and which is the first', () => {
  expect(text(viewOf()).split('\n').slice(0, 4)).toEqual([
    '1 of 2,004 decided decisions differ; the first: send at record 1,234, ours a local flush, recorded',
    'flush_tlb_multi to 4.',
    '2 more rest on what was learned from the recording: equal.',
    '10 of all 2,016 were not decidable.',
  ]);
});

test('what differs is never 100 %', () => {
  const view = viewOf({ scores: scores({ send: score({ equal: 99_999, different: 1 }) }) });
  expect(view.total.percentEqual).toBe(99.9);
  expect(text(view)).toMatch(/^ {2}send +100,000 .* 99\.9 +100\.0$/m);
});

test('what is not decidable is not equal, and a share of nothing is no number', () => {
  const view = viewOf();
  const row = view.decisions.find(({ kind }) => kind === 'switch')?.all;
  expect(row).toMatchObject({ decided: 0, equal: 0, percentEqual: null, percentDecided: 0 });
  expect(text(view)).toMatch(/^ {2}switch +0 +- +- +- +0 +10 +- +0\.0$/m);
});

test('a kind that the recording does not show is no data, which is not 0', () => {
  expect(text(viewOf())).toMatch(/^ {2}broadcast( +-){8}$/m);
});

test('all equal says so', () => {
  const view = viewOf(EQUAL);
  expect(view.verdict).toBe('equal');
  expect(text(view)).toMatch(
    /^All 2 decided decisions are equal\.\n0 of all 2 were not decidable\.\n/,
  );
});

test('nothing decided is not equal', () => {
  const none = scores({ flush: score({ undecidable: new Map([['mm', 5]]) }) });
  const view = viewOf({ scores: none, differences: [], differenceCount: 0 });
  expect(view.verdict).toBe('undecided');
  expect(text(view)).toMatch(/^Nothing could be decided/);
});

test('a recording without decisions says so', () => {
  const view = viewOf({ scores: scores({}), differences: [], differenceCount: 0 });
  expect(view.verdict).toBe('undecided');
  expect(text(view)).toMatch(/^Nothing could be decided: the recording shows no decision at depth/);
});

test('what differs and rests on what was learned is a difference of its own', () => {
  const learned = scores({ asid: score({ equal: 5, learned: 3, learnedDifferent: 1 }) });
  const [first] = RESULT.differences.map((one) => ({ ...one, learned: true }));
  const view = viewOf({ scores: learned, differences: first === undefined ? [] : [first] });
  expect(view.verdict).toBe('different');
  expect(view.total).toMatchObject({ learned: 4, learnedDifferent: 1, percentEqual: 100 });
  const shown = text(view);
  expect(shown).toMatch(
    /^All 5 decided decisions are equal\.\n4 more rest on what was learned from the recording: 1 of/,
  );
  expect(shown).toContain('Of the learned ones differ: asid 1.');
  expect(shown).toContain('(partly learned from the recording)');
});

test('a difference has both views, what ours rests on, and the rule', () => {
  const shown = text(viewOf());
  expect(shown).toContain(
    '1. send: record 1,234 at 51000475826, CPU 3, task init-1, in the workload',
  );
  expect(shown).toMatch(/^ {2}a local flush +flush_tlb_multi to 4$/m);
  expect(shown).toContain('ours rests on: mm_cpumask 3');
  expect(shown).toContain(`by the rule: ${DECISIONS.send}`);
});

test('times are those that the recording prints', () => {
  const at = (resolution: 1 | 1000): string | undefined =>
    viewOf({}, { header: { ...HEADER, clock: { name: 'mono', unit: 'ns', resolution } } })
      .differences.first[0]?.time;
  expect([at(1), at(1000)]).toEqual(['51.000475826', '51.000475']);
});

test('as many differences are shown as are asked for; how many there are is said', () => {
  const many = Array.from({ length: 9 }, () => RESULT.differences).flat();
  const view = viewOf({ differences: many, differenceCount: 70 });
  expect(text(view, { differences: 2 })).toContain('The first 2 of 70 differences');
  expect(text(view, { differences: 1 })).toContain('The first of 70 differences');
  expect(text(view, { differences: 0 })).not.toContain('by the rule');
  expect(viewOf({ differences: many }, { differences: 3 }).differences.first).toHaveLength(3);
});

test('causes stand beside their count, in all and in the workload', () => {
  expect(text(viewOf())).toMatch(/^ {2}switch +10 +0 +what the ASIDs held before$/m);
  expect(text(viewOf({ workload: null }))).toMatch(/^ {2}switch +10 +what the ASIDs held before$/m);
});

test('the most frequent repair is first', () => {
  expect(viewOf().resyncs.map(({ reason }) => reason)).toEqual([
    'flush_tlb_mm_range',
    'generation',
  ]);
});

test('losses, full buffers, unread parts and foreign CPUs are warnings', () => {
  const lost = { ...STATUS.lost, counted: 7, uncounted: 1 };
  const bad = viewOf({ outside: 3 }, { status: { ...STATUS, lost, problemCount: 2 } });
  expect(text(bad)).toContain('! 7 events lost, events lost in 1 place: what was known before');
  expect(text(bad)).toContain('! 2 places of the input could not be read.');
  expect(text(bad)).toContain('! 3 records of CPUs from 8 on not looked at');
  const full = viewOf({ wrapped: true }, { status: { ...STATUS, lost } });
  expect(text(full)).toContain('! The ring buffers were full: 7 events lost at the beginning');
});

test('inputs and judged fields are shown on demand', () => {
  expect(text(viewOf())).not.toContain('Inputs and judged');
  const view = viewOf({}, { fields: { cr3_a: { inputs: [], judged: ['when', 'cr3'] } } });
  expect(text(view, { fields: true })).toMatch(/^ {2}cr3_a +- +when, cr3$/m);
});

test('Markdown has the same tables', () => {
  const shown = renderMarkdown(validateBlocks(viewOf()));
  expect(shown).toContain('| send | 2,000 | 1,999 | 3 | 1 | 0 | 0 | 99.9 | 100.0 |');
});

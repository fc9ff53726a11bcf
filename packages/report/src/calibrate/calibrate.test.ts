import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import { PLAIN, renderMarkdown, renderText } from '../blocks.ts';
import { calibrateBlocks, duration } from './document.ts';
import { calibrateSchema } from './schema.ts';
import { type CalibrateView, costProfile, type IntervalView, type LengthsView } from './view.ts';

const LENGTHS: LengthsView = {
  count: 314,
  minNs: 10_000,
  p50Ns: 12_000,
  p90Ns: 16_000,
  p99Ns: 24_000,
  maxNs: 29_000,
};

const SENDS: IntervalView = {
  id: 'send-entry',
  title: 'IPI send to vector entry',
  from: 'ipi_send_cpu',
  to: 'call_function_single_entry',
  acrossCpus: true,
  lengths: LENGTHS,
  byPages: [],
  leftOut: { negative: 0, lost: 0, shared: 3, unfinished: 122 },
  why: null,
};

const FLUSHES: IntervalView = {
  ...SENDS,
  id: 'remote-flush',
  title: 'flush for another CPU',
  acrossCpus: false,
  byPages: [
    { pages: -1, lengths: { ...LENGTHS, count: 5 } },
    ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((pages) => ({ pages, lengths: LENGTHS })),
  ],
  leftOut: { negative: 0, lost: 0, shared: 0, unfinished: 0 },
};

const NO_DATA: IntervalView = {
  ...FLUSHES,
  id: 'wait-return',
  title: 'wait, to the return',
  lengths: null,
  byPages: [],
  why: 'no flush_tlb_mm_range_ret events in this trace',
};

const VIEW: CalibrateView = {
  schemaVersion: 1,
  command: 'calibrate',
  toolVersion: '0.0.0',
  input: {
    file: 'trace.dat',
    kind: 'trace.dat',
    kernel: '6.18.44',
    cpus: 2,
    records: 39_872,
    problems: 0,
    notes: [],
  },
  clock: { name: 'mono', statedBy: 'trace', stepNs: 1, perCpu: null, coarse: null, notes: [] },
  lost: { counted: 0, uncounted: 0 },
  intervals: [SENDS, FLUSHES, NO_DATA],
  entries: [
    {
      name: 'invlpg',
      ns: 45,
      plusMinusNs: 5,
      tableNs: 100,
      samples: 501,
      derivation: "slope of 'flush of its own' over 33 page counts, 1 to 33",
    },
  ],
  missing: [
    { name: 'load', reason: 'no cycle-level time: instructions are not traced' },
    { name: 'store', reason: 'no cycle-level time: instructions are not traced' },
  ],
};

const text = (view: CalibrateView): string => renderText(calibrateBlocks(view), PLAIN);

test('a view and its profile fit the published schemas, and unknown properties do not', () => {
  const ajv = new Ajv2020({ allErrors: true });
  const validate = ajv.compile(calibrateSchema);
  expect(validate(VIEW)).toBe(true);
  expect(validate({ ...VIEW, surprise: 1 })).toBe(false);
  const { $defs } = calibrateSchema as { readonly $defs: { readonly profile: object } };
  const profile = ajv.compile($defs.profile);
  expect(profile(costProfile(VIEW))).toBe(true);
  expect(profile({ version: 1, costs: { invlpg: 45 } })).toBe(true);
  expect(profile({ version: 1, costs: { invlpg: -45 } })).toBe(false);
});

test('a profile holds the entries, each with where it comes from', () => {
  expect(costProfile(VIEW)).toEqual({
    version: 1,
    from: 'shootdown calibrate trace.dat, Linux 6.18.44, clock mono',
    costs: {
      invlpg: {
        ns: 45,
        samples: 501,
        source: "calibrated: slope of 'flush of its own' over 33 page counts, 1 to 33",
      },
    },
  });
});

test('the first line says how many entries there are', () => {
  expect(text(VIEW).split('\n')[0]).toBe(
    '1 entry of the cost table can be had from this trace, 2 cannot.',
  );
});

test('no data is said, with the reason, and is not 0', () => {
  const shown = text(VIEW);
  expect(shown).toMatch(/^ {2}wait, to the return +no data$/m);
  expect(shown).toContain(
    'no data: wait, to the return: no flush_tlb_mm_range_ret events in this trace.',
  );
});

test('what began and was not measured is counted', () => {
  expect(text(VIEW)).toContain(
    'IPI send to vector entry: not used 3 that shared an interrupt, 122 whose end is not in the trace.',
  );
});

test('of flushes the page counts are shown of which most were seen', () => {
  const shown = text(VIEW);
  expect(shown).toMatch(/^ {4}8 pages +314/m);
  expect(shown).not.toContain('everything ');
  expect(shown).toContain('flush for another CPU: 3 more page counts: -f json.');
});

test('entries that cannot be had stand together by reason', () => {
  expect(text(VIEW)).toMatch(
    /^ {2}load, store +no cycle-level time: instructions are not traced$/m,
  );
});

test('losses, skew and clocks that measure less are said before anything else', () => {
  const shown = text({
    ...VIEW,
    lost: { counted: 7, uncounted: 1 },
    clock: { ...VIEW.clock, perCpu: 'P', coarse: 'C' },
    intervals: [{ ...SENDS, leftOut: { negative: 12, lost: 2, shared: 0, unfinished: 0 } }],
  });
  expect(shown).toContain(
    '! 7 events lost, events lost in 1 place: 2 intervals across a loss not used.',
  );
  expect(shown).toContain("! 12 intervals of 'IPI send to vector entry' ended before it began");
  expect(shown).toContain('! No interval between CPUs: P.');
  expect(shown).toContain('! No entry of the cost table: C.');
  expect(shown.indexOf('! ')).toBe(0);
});

test('a trace that says nothing says so', () => {
  const shown = text({ ...VIEW, intervals: [NO_DATA], entries: [] });
  expect(shown.split('\n')[0]).toBe(
    'This trace does not say how long any part of a shootdown takes.',
  );
});

test('Markdown has the same tables', () => {
  expect(renderMarkdown(calibrateBlocks(VIEW))).toContain('| invlpg | 45 | 5 | 100 | 501 |');
});

test.each([
  [999, '999 ns'],
  [12_345, '12.3 us'],
  [12_345_678, '12.35 ms'],
  [1_500_000_000, '1.50 s'],
])('%d ns is %s', (ns, words) => {
  expect(duration(ns)).toBe(words);
});

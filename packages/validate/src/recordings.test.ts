/**
 * All recordings that there are, at every depth, and docs/validation.md, which is made of them. Give
 * their folder in SHOOTDOWN_RECORDINGS; without it the one of the project is judged.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { BROKEN_RULES, brokenBackend } from './broken.testlib.ts';
import type { DecisionKind } from './decisions.ts';
import type { Depth } from './fields.ts';
import {
  linesOf,
  recordedRuns,
  SHIPPED,
  validateLines,
  validateRun,
} from './recordings.testlib.ts';
import {
  causesTable,
  kindsTable,
  runsTable,
  shortfalls,
  type Validated,
} from './validation.doc.testlib.ts';

const runs = recordedRuns();
if (runs === null)
  process.stderr.write(
    'SHOOTDOWN_RECORDINGS is not set: the model is judged by the recording of the project only\n',
  );

const document = readFileSync(new URL('../../../docs/validation.md', import.meta.url), 'utf8');

/** The table behind a mark of the document, as it stands. */
function written(name: string): readonly string[] {
  const [, rest = ''] = document.split(`<!-- ${name} -->\n\n`);
  return rest.split('\n\n', 1)[0]?.split('\n') ?? [];
}

async function validated(depth: Depth): Promise<readonly Validated[]> {
  const all: Validated[] = [];
  for (const run of runs ?? [SHIPPED])
    all.push({
      name: run.name,
      depth,
      result: await validateLines(linesOf(run), { kernel: '6.12.117', depth }),
    });
  return all;
}

/** What has to be decided and equal without exception. */
const STRICT: readonly DecisionKind[] = [
  'should_flush',
  'targets_kept',
  'targets_freed',
  'send',
  'range',
  'flush',
  'switch',
];

/** Whether the document has `table` there; it is about all recordings, so only if there are all. */
const holds = (name: string, table: readonly string[]): void => {
  if (runs !== null) expect(written(name)).toEqual(table);
};

const differing = (all: readonly Validated[]): readonly string[] =>
  all.flatMap(({ name, result }) =>
    result.differences.map(({ kind, record }) => `${name}: ${kind} at ${record}`),
  );

test('with probes: every decision is the kernel’s, and nine of ten are decided', async () => {
  const all = await validated('probes');
  expect(differing(all)).toEqual([]);
  for (const kind of STRICT) {
    const [, ...cells] =
      kindsTable(all)
        .find((line) => line.startsWith(`| \`${kind}\``))
        ?.split(' | ') ?? [];
    const decided = Number.parseFloat(cells.at(-1) ?? '0');
    expect([kind, decided >= 90]).toEqual([kind, true]);
  }
  holds('kinds: probes', kindsTable(all));
  holds('runs: probes', runsTable(all));
  holds('causes: probes', causesTable(all));
  holds('shortfalls: probes', shortfalls(all));
}, 120_000);

test.each(['csd', 'tlb_flush'] as const)(
  '%s: nothing differs',
  async (depth) => {
    const all = await validated(depth);
    const equal = all.reduce((most, { result }) => most + result.scores.flush.equal, 0);
    expect(equal).toBeGreaterThan(300);
    expect(differing(all)).toEqual([]);
    holds(`kinds: ${depth}`, kindsTable(all));
    holds(`causes: ${depth}`, causesTable(all));
  },
  120_000,
);

test('the document says what the negative controls say', async () => {
  const lines: string[] = [];
  const sound = await validateRun(SHIPPED, { kernel: '6.12.117' });
  for (const rule of BROKEN_RULES) {
    const { differences, differenceCount, scores } = await validateRun(SHIPPED, {
      kernel: '6.12.117',
      backend: brokenBackend(rule),
    });
    const [first] = differences;
    const { equal } = scores[rule.seenIn];
    const { equal: before } = sound.scores[rule.seenIn];
    lines.push(
      `| ${rule.name} | ${differenceCount} | \`${first?.kind ?? ''}\` at ${first?.record ?? ''} | ${before} → ${equal} |`,
    );
  }
  expect(written('controls').slice(2)).toEqual(lines);
}, 60_000);

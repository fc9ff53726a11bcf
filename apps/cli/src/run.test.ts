/** Every workload as the command runs it: its JSON, and its trace read again, say the same. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WORKLOADS } from '@shootdown/linux-mm';
import { PLAIN, runSchema, type PhaseView, type RunView } from '@shootdown/report';
import { bytesSource, openTrace, portableCodecs, type RecordedRecord } from '@shootdown/trace';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run } from './program.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'shootdown-run-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Small enough to be quick, large enough to do what it is for. */
const SMALL: Readonly<Record<string, readonly string[]>> = {
  collapse: ['--size', '8M', '--threads', '2'],
  lazy: ['--list', '1,34', '--sleep-us', '100'],
  migrate: ['--list', '1,8', '--iterations', '3'],
  mixed: ['--iterations', '20', '--threads', '4'],
  munmap: ['--list', '1,34,600', '--threads', '3'],
  pageout: ['--list', '1,8', '--iterations', '3'],
};

async function command(words: readonly string[]): Promise<RunView> {
  let written = '';
  const code = await run(words, {
    style: PLAIN,
    toolVersion: 'test',
    write: (text) => {
      written += text;
    },
    warn: (text) => {
      throw new Error(text);
    },
    complain: (text) => {
      throw new Error(text);
    },
  });
  expect(code).toBe(0);
  return JSON.parse(written) as RunView;
}

async function recordsOf(file: string): Promise<readonly RecordedRecord[]> {
  const source = bytesSource(file, readFileSync(file));
  const trace = await openTrace(source, { codecs: portableCodecs });
  const records: RecordedRecord[] = [];
  for await (const batch of trace.batches()) records.push(...batch);
  return records;
}

/** tlb_flush events by phase, reason and pages, and interrupts sent, as the trace has them. */
function counted(records: readonly RecordedRecord[]): readonly string[] {
  const counts = new Map<string, number>();
  let phase: string | null = null;
  const count = (what: string, by = 1): void => {
    if (phase !== null)
      counts.set(`${phase}: ${what}`, (counts.get(`${phase}: ${what}`) ?? 0) + by);
  };
  for (const { event } of records) {
    if (event.kind === 'tlb_flush') count(`flush ${event.reason}:${event.pages}`);
    if (event.kind === 'ipi_send') count('interrupts', event.targets?.length ?? 0);
    if (event.kind !== 'other') continue;
    const mark = /PHASE_(BEGIN|END) (.*)/.exec(event.payload.text());
    if (mark !== null) phase = mark[1] === 'BEGIN' ? (mark[2] ?? '') : null;
  }
  return Array.from(counts, ([what, times]) => `${what} x ${times}`).toSorted();
}

/** The same, as the command says it. */
const said = ({ phases }: RunView): readonly string[] =>
  phases
    .flatMap(({ name, flushes, interrupts }: PhaseView) => [
      ...flushes.map(({ reason, pages, count }) => `${name}: flush ${reason}:${pages} x ${count}`),
      ...interrupted(name, interrupts),
    ])
    .toSorted();

function interrupted(name: string, interrupts: readonly number[]): readonly string[] {
  const sum = interrupts.reduce((all, one) => all + one, 0);
  return sum === 0 ? [] : [`${name}: interrupts x ${sum}`];
}

const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(runSchema);

test.each(WORKLOADS.map(({ name }) => name))(
  '%s: its trace, read again, has the flushes and interrupts that the command counts',
  async (name) => {
    const file = join(folder, `${name}.txt`);
    const words = ['run', name, ...(SMALL[name] ?? []), '-f', 'json', '-o', file];
    const view = await command(words);
    validate(view);
    expect(validate.errors).toBeNull();
    expect(view.warnings).toEqual([]);
    expect(view.phases.length).toBeGreaterThan(0);
    expect(counted(await recordsOf(file))).toEqual(said(view));
  },
);

test('the same command gives the same bytes', async () => {
  const [first, second] = ['a.txt', 'b.txt'].map((name) => join(folder, name));
  for (const file of [first, second])
    await command(['run', 'mixed', '--iterations', '10', '-f', 'json', '-o', file ?? '']);
  expect(readFileSync(first ?? '', 'utf8')).toBe(readFileSync(second ?? '', 'utf8'));
});

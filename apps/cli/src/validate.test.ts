/** What a shell is told: exit codes, and JSON that fits its schema. */
import { fileURLToPath } from 'node:url';
import { PLAIN, validateSchema, type ValidateView } from '@shootdown/report';
import { FIELDS } from '@shootdown/validate';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import { run } from './program.ts';

const example = (name: string): string =>
  fileURLToPath(new URL(`../../../examples/traces/${name}`, import.meta.url));
const MADVISE = example('qemu-6.12-madvise.probes.ftrace.txt.gz');
const ASID = example('qemu-6.12-asid.probes.ftrace.txt.gz');

interface Said {
  readonly code: number;
  readonly text: string;
  readonly warned: string;
}

async function validate(...words: readonly string[]): Promise<Said> {
  let [text, warned] = ['', ''];
  const code = await run(['validate', ...words], {
    style: PLAIN,
    toolVersion: 'test',
    write: (more) => (text += more),
    warn: (more) => (warned += more),
    complain: (more) => (warned += more),
  });
  return { code, text, warned };
}

test.each([MADVISE, ASID])(
  '%s is decided as recorded, and its JSON fits the schema',
  async (file) => {
    const { code, text } = await validate(file, '-f', 'json');
    expect(code).toBe(0);
    const view = JSON.parse(text) as ValidateView;
    const check = new Ajv2020({ allErrors: true }).compile(validateSchema);
    check(view);
    expect(check.errors).toBeNull();
    expect(view).toMatchObject({ verdict: 'equal', depth: 'probes', pcid: { value: true } });
    const { total } = view;
    expect(total.decided).toBeGreaterThan(800);
    expect(total.total).toBe(total.decided + total.learned + total.notDecidable);
    expect(total.percentDecided).toBeLessThan(100);
  },
);

test('a machine without PCIDs differs: exit 1, and JSON has every difference that is kept', async () => {
  const wrong = await validate(ASID, '--no-pcid', '--differences', '1');
  expect(wrong.code).toBe(1);
  expect(wrong.text).toMatch(/ decided decisions differ; the first: switch at record /);
  expect(wrong.text).toContain('The first of ');
  const all = await validate(ASID, '--no-pcid', '-f', 'json');
  expect((JSON.parse(all.text) as ValidateView).differences.first.length).toBeGreaterThan(5);
});

test('no line of the text is wider than 100 columns', async () => {
  const { text } = await validate(ASID, '--kernel', '7.3', '--fields');
  expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
});

test('--predict has its own answer, and its own schema', async () => {
  const { code, text } = await validate(ASID, '--predict', '--kernel', '6.12.117', '-f', 'json');
  expect(code).toBe(0);
  expect(JSON.parse(text)).toMatchObject({ command: 'validate --predict', schemaVersion: 1 });
});

test.each([
  [['--kernel', '2.4'], 'ERR_KERNEL'],
  [['--depth', 'deep'], 'ERR_OPTION'],
  [['--backend', 'arm64'], 'ERR_OPTION'],
  [['--differences', '-1'], 'ERR_OPTION'],
  [['--cpus', '0'], 'ERR_OPTION'],
  [['--cpus', '4'], 'ERR_CPU_RANGE'],
  [['--marks', 'A,B'], 'ERR_OPTION'],
  [['--predict', '--marks', 'A'], 'ERR_OPTION'],
  [['--predict', '--depth', 'probes'], 'ERR_OPTION'],
  [['--predict', '--fields'], 'ERR_OPTION'],
  [['-f', 'ndjson'], 'ERR_FORMAT_NAME'],
])('%j is refused with %s', async (words, code) => {
  await expect(validate(MADVISE, ...words)).rejects.toMatchObject({ code });
});

test('what record prints for validate names every probe that it judges by', async () => {
  let text = '';
  const write = (more: string): void => {
    text += more;
  };
  const output = { style: PLAIN, toolVersion: 'test', write, warn: write, complain: write };
  expect(await run(['record', '--depth', 'probes'], output)).toBe(0);
  const stock = /^(?:tlb_|csd_|ipi_|sched_|sys_|vector_|mm_)/;
  const probes = Object.keys(FIELDS.probes).filter((name) => !stock.test(name));
  expect(probes).toContain('flush_tlb_mm_range');
  const missing = probes.filter((name) => !text.includes(`shootdown/${name} `));
  expect(missing).toEqual([]);
});

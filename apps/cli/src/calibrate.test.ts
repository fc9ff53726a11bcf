/** A model's own trace gives back the costs that the model ran with, default or from a profile. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CalibrateView, calibrateSchema, PLAIN, type RunView } from '@shootdown/report';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run } from './program.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'shootdown-calibrate-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function command(words: readonly string[]): Promise<unknown> {
  let written = '';
  const refuse = (text: string): void => {
    throw new Error(text);
  };
  const write = (text: string): void => {
    written += text;
  };
  const output = { style: PLAIN, toolVersion: 'test', write, warn: refuse, complain: refuse };
  expect(await run([...words, '-f', 'json'], output)).toBe(0);
  return JSON.parse(written);
}

const MUNMAP = ['run', 'munmap', '--threads', '4', '--list', '1,2,8,33,34', '--iterations', '10'];

/** Runs the model, with a profile or none, and measures what it recorded. */
async function roundTrip(costs?: Readonly<Record<string, number>>): Promise<CalibrateView> {
  const [trace, profile] = [join(folder, 'run.txt'), join(folder, 'costs.json')];
  writeFileSync(profile, JSON.stringify({ version: 1, costs: costs ?? {} }));
  const ran = (await command([...MUNMAP, '-o', trace, '--costs', profile])) as RunView;
  expect(ran.costProfile).toEqual({ file: profile, entries: Object.keys(costs ?? {}) });
  return (await command(['calibrate', trace, '--clock', 'global'])) as CalibrateView;
}

const entry = ({ entries }: CalibrateView, name: string): number | undefined =>
  entries.find((one) => one.name === name)?.ns;

test('the default costs come back', async () => {
  const view = await roundTrip();
  expect([entry(view, 'invlpg'), entry(view, 'writeCr3')]).toEqual([100, 40]);
  expect(Math.abs((entry(view, 'ipiFlight') ?? 0) - 300)).toBeLessThan(100);
});

test('the costs of a profile come back', async () => {
  const view = await roundTrip({ invlpg: 250, writeCr3: 700, ipiFlight: 5000 });
  expect([entry(view, 'invlpg'), entry(view, 'writeCr3')]).toEqual([250, 700]);
  expect(Math.abs((entry(view, 'ipiFlight') ?? 0) - 5000)).toBeLessThan(100);
});

test('a profile that is written is one that is read', async () => {
  const [trace, profile] = [join(folder, 'first.txt'), join(folder, 'first.json')];
  await command([...MUNMAP, '-o', trace]);
  const view = (await command(['calibrate', trace, '-o', profile])) as CalibrateView;
  const validate = new Ajv2020({ allErrors: true }).compile(calibrateSchema);
  validate(view);
  expect(validate.errors).toBeNull();
  const ran = (await command([...MUNMAP, '--costs', profile])) as RunView;
  expect(ran.costProfile?.entries).toEqual(view.entries.map(({ name }) => name));
  expect(JSON.parse(readFileSync(profile, 'utf8'))).toMatchObject({ version: 1 });
});

test('every entry of the table is given, or has its reason', async () => {
  const { entries, missing } = await roundTrip();
  expect(entries.length + missing.length).toBeGreaterThan(60);
  expect(missing.every(({ reason }) => reason !== '')).toBe(true);
});

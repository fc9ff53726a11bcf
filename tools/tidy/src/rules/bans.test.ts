import { expect, test } from 'vitest';
import { show } from '../workspace.ts';
import { BANS, checkBans } from './bans.ts';

const banned = (text: string, path = 'packages/machine/src/a.ts'): string =>
  show(checkBans({ path, text }, BANS)).join('\n');

test.each([
  ['const a = Date.now();', 'Date'],
  ['const a = new Date();', 'Date'],
  ['const a = Math.random();', 'Math.random'],
  ['setTimeout(f, 1);', 'setTimeout'],
  ['setInterval(f, 1);', 'setInterval'],
  ['function f(): Promise<void> {}', 'Promise'],
  ["process.env['A'];", 'process'],
  ['process?.exit(1);', 'process'],
  ['console.log(1);', 'console'],
  ['performance.now();', 'performance'],
  ['globalThis.a;', 'globalThis'],
  ["import { readFileSync } from 'node:fs';", 'node:fs'],
  ["import { readFile } from 'fs/promises';", 'fs/promises'],
  ["import process from 'node:process';", 'node:process'],
])('machine may not: %s', (text, what) => {
  expect(banned(text)).toMatch(new RegExp(`: ${what.replaceAll('.', String.raw`\.`)} \\(`));
  expect(banned(text, 'packages/backend-kvm/src/a.ts')).not.toBe('');
});

test.each([
  "const a = 'Date.now()'; // console.log",
  'interface A { readonly process: string; readonly Date: 1 }',
  'f(record.process.name, a.console[0]);',
  "import type { Stats } from 'node:fs';",
  'const processed = 1;',
])('machine may: %s', (text) => {
  expect(banned(text)).toBe('');
});

test('readers may wait, but not open files', () => {
  expect(banned('async function f(): Promise<void> {}', 'packages/trace/src/a.ts')).toBe('');
  expect(banned("import 'node:child_process';", 'packages/trace/src/a.ts')).not.toBe('');
});

test('apps and tests may', () => {
  expect(banned('console.log(1);', 'apps/cli/src/a.ts')).toBe('');
  expect(banned('console.log(1);', 'packages/machine/src/a.test.ts')).toBe('');
});

test('a file that is let off is let off alone', () => {
  const text = 'Math.random();';
  expect(banned(text, 'packages/machine/src/determinism.ts')).toBe('');
  expect(banned(text, 'packages/sim/src/determinism.ts')).not.toBe('');
});

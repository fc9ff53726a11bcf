import { expect, test } from 'vitest';
import { show } from '../workspace.ts';
import { checkFolders, checkForms, checkSize, FORMS } from './limits.ts';

function forms(text: string, path = 'packages/machine/src/a.test.ts'): string {
  return show(checkForms({ path, text }, FORMS)).join('\n');
}

test.each([
  ['export default 1;', 'a default export'],
  ['export { a as default };', 'a default export'],
  ['let a: any;', 'the type any'],
  ['let a: Map<string, any>;', 'the type any'],
  ['a as any;', 'the type any'],
  ['type A = any;', 'the type any'],
  ['a!.b;', 'a non-null !'],
  ['f(a[0]!, b);', 'a non-null !'],
  ['f(a()!);', 'a non-null !'],
  ['let a!: string;', 'a non-null !'],
  ['export enum A { B }', 'an enum'],
  ['const enum A { B }', 'an enum'],
  ['namespace A { }', 'a namespace'],
  ['declare module A { }', 'a namespace'],
  ["test.skip('a', f);", 'a test that does not run'],
  ["describe.concurrent.only('a', f);", 'a test that does not run'],
  ["it.todo('a');", 'a test that does not run'],
  ["test.fails('a', f);", 'a test that does not run'],
  ["xit('a', f);", 'a test that does not run'],
  ['// @ts-ignore', 'a compiler directive'],
  ['/* @ts-expect-error: later */', 'a compiler directive'],
  ['// oxlint-disable-next-line', 'a linter directive'],
  ['/* eslint-disable */', 'a linter directive'],
])('%s', (text, what) => {
  expect(forms(text)).toContain(what);
});

test.each([
  'if (a != b && !c && a !== !d) f();',
  'AbortSignal.any([a]);',
  "const a = 'any! enum A { }';",
  '// any! export default',
  'const a = /x!y/;',
  'const many = 1;',
  "test.each([1])('a', f);",
  'reader.skip(4);',
  'const enumerated = { namespace: 1 };',
  "export * as name from './b.ts';",
])('fine: %s', (text) => {
  expect(forms(text)).toBe('');
});

test('a form is found at its line, and only tests are asked about tests', () => {
  expect(forms('a;\nb;\nlet c: any;')).toMatch(/^packages\/machine\/src\/a\.test\.ts:3: /);
  expect(forms('test.skip(1);', 'packages/machine/src/a.ts')).toBe('');
});

test('an exception holds for its path and its form only', () => {
  expect(forms('export default 1;', 'tools/vitest.config.ts')).toBe('');
  expect(forms('let a: any;', 'tools/vitest.config.ts')).toContain('the type any');
});

test('a file of 400 lines of 140 columns is as large as one gets', () => {
  const path = 'a.ts';
  const line = 'x'.repeat(140);
  expect(checkSize({ path, text: `${line}\n`.repeat(400) })).toEqual([]);
  expect(show(checkSize({ path, text: '\n'.repeat(401) }))).toEqual([
    'a.ts: 401 lines, more than 400: it is asking to be two files',
  ]);
  expect(show(checkSize({ path, text: `\n${line}x\n` }))).toEqual([
    'a.ts:2: 141 columns, more than 140',
  ]);
});

test('a folder called utils is refused, a file called so is not', () => {
  expect(show(checkFolders(['packages/a/src/utils/b.ts', 'docs/common.md']))).toEqual([
    'packages/a/src/utils/b.ts: a folder called utils says nothing about what is in it',
  ]);
});

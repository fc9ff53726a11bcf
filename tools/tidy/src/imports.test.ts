import { expect, test } from 'vitest';
import { packageOf, scanImports } from './imports.ts';

test.each([
  ["import { a } from 'x';", 'x', false],
  ["import a, { b } from 'x';", 'x', false],
  ["import * as a from 'x';", 'x', false],
  ["import 'x';", 'x', false],
  ["import {\n  a,\n  type B,\n} from 'x';", 'x', false],
  ["import { type A } from 'x';", 'x', false],
  ["import type { A } from 'x';", 'x', true],
  ["import type A from 'x';", 'x', true],
  ["import type from 'x';", 'x', false],
  ["import type, { a } from 'x';", 'x', false],
  ["export { a } from 'x';", 'x', false],
  ["export * from 'x';", 'x', false],
  ["export type { A } from 'x';", 'x', true],
  ["export type * from 'x';", 'x', true],
  ["const a = await import('x');", 'x', false],
  ['const a = await import(`x`);', 'x', false],
  ["const a = require('x');", 'x', false],
  ["type A = typeof import('x');", 'x', true],
  ["import a from 'x' with { type: 'json' };", 'x', false],
])('%s', (source, specifier, typeOnly) => {
  expect(scanImports(source)).toEqual([{ specifier, typeOnly, line: 1 }]);
});

test.each([
  "export const from = 'x';",
  "export type A = 'x' | 'y';",
  "// import a from 'x'",
  "const text = `import a from 'x'`;",
  'throw new Error(\'import { a } from "x"\');',
  "export interface A { readonly from: 'x' }",
  'console.log(import.meta.url);',
])('%s imports nothing', (source) => {
  expect(scanImports(source)).toEqual([]);
});

test('several imports keep their order and lines', () => {
  const source =
    "import { a } from 'x';\n\nexport const k = 'from';\nexport { b } from './y.ts';\nvoid import('z');\n";
  expect(scanImports(source)).toEqual([
    { specifier: 'x', typeOnly: false, line: 1 },
    { specifier: './y.ts', typeOnly: false, line: 4 },
    { specifier: 'z', typeOnly: false, line: 5 },
  ]);
});

test('a package name has one part, or two with a scope', () => {
  expect([packageOf('@a/b/c'), packageOf('@a/b'), packageOf('x/y'), packageOf('x')]).toEqual([
    '@a/b',
    '@a/b',
    'x',
    'x',
  ]);
});

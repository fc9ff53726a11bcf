import { expect, test } from 'vitest';
import { show } from '../workspace.ts';
import { checkNames, HEADINGS, headingsOf, namesOf } from './documentedNames.ts';

const SOURCE =
  "/** 'ERR_NO' */\nexport type Code =\n  | 'ERR_A' // not 'ERR_NO2';\n  | 'ERR_B2';\nconst a = 'ERR_NO3';\n";
const CODE = HEADINGS['docs/errors.md'] ?? /never/g;
const AXIOM = HEADINGS['docs/soundness.md'] ?? /never/g;

test('names are read off the union and nowhere else', () => {
  expect(namesOf({ path: 'a.ts', text: SOURCE.replace(" // not 'ERR_NO2';", '') }, 'Code')).toEqual(
    ['ERR_A', 'ERR_B2'],
  );
});

test('a union that is not found is an error of the rule, not an empty list', () => {
  expect(() => namesOf({ path: 'a.ts', text: SOURCE }, 'Other')).toThrow(
    'a.ts: found no names in a type called Other',
  );
});

test('headings of codes are of the second or third level', () => {
  expect(
    headingsOf('# ERR_X\n## ERR_A\ntext ERR_Y\n### `ERR_B2` (since 1.0)\n#### ERR_Z\n', CODE),
  ).toEqual(['ERR_A', 'ERR_B2']);
});

test('headings of axioms are names alone, in backquotes', () => {
  expect(headingsOf('## `notOne`\n### `oneName`\n### `two` words\n### Plain\n', AXIOM)).toEqual([
    'oneName',
  ]);
});

test('a name without a heading and a heading without a name are both refused', () => {
  const document = { path: 'docs/errors.md', text: '## ERR_A\n## ERR_OLD\n## ERR_A\n' };
  expect(show(checkNames(['ERR_A', 'ERR_NEW'], document, CODE))).toEqual([
    'docs/errors.md: ERR_A has two headings',
    'docs/errors.md: ERR_NEW has no heading',
    'docs/errors.md: ERR_OLD is in no union of names',
  ]);
});

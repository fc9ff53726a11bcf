import { expect, test } from 'vitest';
import { show } from '../workspace.ts';
import { checkCodes, codesOf, headingsOf } from './errorCodes.ts';

const SOURCE =
  "/** 'ERR_NO' */\nexport type Code =\n  | 'ERR_A' // not 'ERR_NO2';\n  | 'ERR_B2';\nconst a = 'ERR_NO3';\n";

test('codes are read off the union and nowhere else', () => {
  expect(codesOf({ path: 'a.ts', text: SOURCE.replace(" // not 'ERR_NO2';", '') }, 'Code')).toEqual(
    ['ERR_A', 'ERR_B2'],
  );
});

test('a union that is not found is an error of the rule, not an empty list', () => {
  expect(() => codesOf({ path: 'a.ts', text: SOURCE }, 'Other')).toThrow(
    'a.ts: found no codes in a type called Other',
  );
});

test('headings are of the second or third level', () => {
  expect(
    headingsOf('# ERR_X\n## ERR_A\ntext ERR_Y\n### `ERR_B2` (since 1.0)\n#### ERR_Z\n'),
  ).toEqual(['ERR_A', 'ERR_B2']);
});

test('a code without a heading and a heading without a code are both refused', () => {
  const document = { path: 'docs/errors.md', text: '## ERR_A\n## ERR_OLD\n## ERR_A\n' };
  expect(show(checkCodes(['ERR_A', 'ERR_NEW'], document))).toEqual([
    'docs/errors.md: ERR_A has two headings',
    'docs/errors.md: ERR_NEW has no heading',
    'docs/errors.md: ERR_OLD is not a code of any error',
  ]);
});

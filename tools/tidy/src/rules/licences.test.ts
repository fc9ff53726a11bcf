import { expect, test } from 'vitest';
import { show, type Package } from '../workspace.ts';
import { IMPORT_TABLE } from './importTable.ts';
import { checkLicences, checkMitLoadsMit, LICENCE_TABLE, licenceOf } from './licences.ts';

const FILES: Readonly<Record<string, string>> = {
  'LICENSES/MIT.txt': 'mit',
  'LICENSES/GPL-2.0-only.txt': 'gpl',
  'packages/machine/LICENSE': 'mit',
  'packages/whatif/LICENSE': 'mit',
};

function violations(folder: string, license: string, isPrivate = false): readonly string[] {
  const one: Package = { folder, manifest: { name: 'x', license, private: isPrivate } };
  return show(checkLicences([one], (path) => FILES[path], LICENCE_TABLE));
}

test('a package with its licence and the text of it is fine', () => {
  expect(violations('packages/machine', 'MIT')).toEqual([]);
  expect(violations('tools/tidy', 'MIT', true)).toEqual([]);
});

test.each([
  ['packages/whatif', 'MIT', false, 'license is MIT and should be GPL-2.0-only'],
  [
    'packages/whatif',
    'GPL-2.0-only',
    false,
    'packages/whatif/LICENSE: is not LICENSES/GPL-2.0-only.txt',
  ],
  ['packages/trace', 'MIT', false, 'packages/trace/LICENSE: is not LICENSES/MIT.txt'],
  ['packages/novel', 'MIT', false, 'has no row in the licence table'],
  ['tools/tidy', 'MIT', false, 'must be private'],
])('refused: %s with %s', (folder, license, isPrivate, what) => {
  expect(violations(folder, license, isPrivate).join('\n')).toContain(what);
});

test('a star stands for one name', () => {
  expect(licenceOf('packages/backend-kvm', LICENCE_TABLE)?.id).toBe('GPL-2.0-only');
  expect(licenceOf('apps/cli/deep', LICENCE_TABLE)).toBeUndefined();
});

test('no MIT package of this house may load a GPL one', () => {
  expect(checkMitLoadsMit(IMPORT_TABLE, LICENCE_TABLE)).toEqual([]);
});

test('an import table that lets report load whatif is refused', () => {
  const table = { ...IMPORT_TABLE, report: { loads: ['whatif'], reason: 'r' } };
  expect(show(checkMitLoadsMit(table, LICENCE_TABLE))).toContain(
    'packages/report: is MIT and may load whatif, which is not',
  );
});

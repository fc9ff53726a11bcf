/**
 * The rules, applied to this workspace. Each rule's own test shows that it can fail; here none may.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { BANS, checkBans } from './rules/bans.ts';
import { checkNames, HEADINGS, namesOf, UNIONS } from './rules/documentedNames.ts';
import { checkImports, checkManifests, IMPORT_TABLE } from './rules/importTable.ts';
import { checkLicences, LICENCE_TABLE } from './rules/licences.ts';
import { checkFolders, checkForms, checkSize, FORMS } from './rules/limits.ts';
import { checkPlatforms, checkResolved, type Lockfile } from './rules/lockfile.ts';
import { checkPrivacy } from './rules/privacy.ts';
import {
  listPackages,
  listPaths,
  mustRead,
  readSources,
  readText,
  ROOT,
  show,
  type Manifest,
} from './workspace.ts';

const paths = listPaths();
const packages = listPackages(paths);
const sources = readSources(paths);

test('the workspace is found at all', () => {
  expect(packages.map(({ folder }) => folder)).toContain('packages/machine');
  expect(sources.length).toBeGreaterThan(10);
});

test('every import is one that the table allows and the manifest declares', () => {
  const root = JSON.parse(mustRead('package.json')) as Manifest;
  expect(show(checkImports(packages, sources, root, IMPORT_TABLE))).toEqual([]);
});

test('every manifest asks for siblings that the table allows', () => {
  expect(show(checkManifests(packages, IMPORT_TABLE))).toEqual([]);
});

test('every package has the licence of its row and ships its text', () => {
  expect(
    show(
      checkLicences(
        packages,
        (path) => (existsSync(join(ROOT, path)) ? mustRead(path) : undefined),
        LICENCE_TABLE,
      ),
    ),
  ).toEqual([]);
});

test('no file is too long and no line too wide', () => {
  expect(show(sources.flatMap(checkSize))).toEqual([]);
});

test('no source uses a form that the house does without', () => {
  expect(show(sources.flatMap((file) => checkForms(file, FORMS)))).toEqual([]);
});

test('time, randomness, files and processes enter in apps only', () => {
  expect(show(sources.flatMap((file) => checkBans(file, BANS)))).toEqual([]);
});

test('no folder has a name that says nothing', () => {
  expect(show(checkFolders(paths))).toEqual([]);
});

test('no file names a registry or a path of one machine', () => {
  const registry = new URL(
    execFileSync('npm', ['config', 'get', 'registry'], { cwd: ROOT, encoding: 'utf8' }).trim(),
  ).hostname;
  const files = paths.flatMap((path) => {
    const text = readText(path);
    return text === undefined ? [] : [{ path, text }];
  });
  expect(show(files.flatMap((file) => checkPrivacy(file, registry)))).toEqual([]);
});

test('the lockfile has every platform and no host', () => {
  const lock = JSON.parse(mustRead('package-lock.json')) as Lockfile;
  expect(show([...checkPlatforms(lock), ...checkResolved(lock)])).toEqual([]);
});

test.each(Object.keys(HEADINGS))('every name that %s explains is explained once', (document) => {
  const names = UNIONS.filter((row) => row.document === document).flatMap(({ path, type }) =>
    namesOf({ path, text: mustRead(path) }, type),
  );
  const heading = HEADINGS[document] ?? /never/g;
  expect(show(checkNames(names, { path: document, text: mustRead(document) }, heading))).toEqual(
    [],
  );
});

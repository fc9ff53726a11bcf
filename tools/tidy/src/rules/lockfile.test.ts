import { expect, test } from 'vitest';
import { show } from '../workspace.ts';
import { checkPlatforms, checkResolved, placesOf } from './lockfile.ts';

test('a package is looked for from the inside out', () => {
  expect(placesOf('node_modules/a/node_modules/@b/c', 'd')).toEqual([
    'node_modules/a/node_modules/@b/c/node_modules/d',
    'node_modules/a/node_modules/@b/node_modules/d',
    'node_modules/a/node_modules/d',
    'node_modules/d',
  ]);
  expect(placesOf('', 'd')).toEqual(['node_modules/d']);
});

test('a platform package that a front package names must be there, nested or not', () => {
  const optionalDependencies = { '@a/linux': '1', '@a/other': '1' };
  const front = {
    packages: { '': {}, 'node_modules/a': { optionalDependencies }, 'node_modules/@a/linux': {} },
  };
  expect(show(checkPlatforms(front))).toEqual([
    'package-lock.json: node_modules/a names @a/other, which is not in the lockfile: npm ci will refuse it',
  ]);
  const nested = { packages: { ...front.packages, 'node_modules/a/node_modules/@a/other': {} } };
  expect(checkPlatforms(nested)).toEqual([]);
});

test('an entry may link to a folder but not to a host', () => {
  const resolved = 'https://example.invalid/a.tgz';
  expect(
    checkResolved({ packages: { 'node_modules/@shootdown/cli': { resolved: 'apps/cli' } } }),
  ).toEqual([]);
  expect(show(checkResolved({ packages: { 'node_modules/a': { resolved } } }))[0]).toContain(
    'node_modules/a says where it was downloaded',
  );
});

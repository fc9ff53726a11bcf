import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { forgetReport, projectFolders, readRun } from './projects.ts';

let root = '';

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'shootdown-test-runner-'));
  mkdirSync(join(root, 'packages/a/src/deep'), { recursive: true });
  mkdirSync(join(root, 'packages/a/test-results'));
  mkdirSync(join(root, 'packages/leftover'));
  writeFileSync(
    join(root, 'package.json'),
    JSON.stringify({ workspaces: ['packages/*', 'apps/*'] }),
  );
  writeFileSync(join(root, 'packages/a/package.json'), JSON.stringify({ name: '@shootdown/a' }));
  writeFileSync(join(root, 'packages/a/test-results/vitest.json'), 'old');
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

test('a folder without a manifest is no package, and a missing folder is none either', () => {
  expect(projectFolders(root)).toEqual([join(root, 'packages/a')]);
});

test('a workspaces pattern that we cannot read is refused, not ignored', () => {
  writeFileSync(join(root, 'package.json'), JSON.stringify({ workspaces: ['packages/**'] }));
  expect(() => projectFolders(root)).toThrow('packages/**');
});

test('a report of an earlier run is forgotten', () => {
  const folder = join(root, 'packages/a');
  expect(readRun(folder).report).toBe('old');
  forgetReport(folder);
  expect(readRun(folder)).toEqual({ name: '@shootdown/a', hasTestFiles: false, report: null });
});

test('files of tests are found at any depth', () => {
  writeFileSync(join(root, 'packages/a/src/deep/x.prop.test.ts'), '');
  expect(readRun(join(root, 'packages/a')).hasTestFiles).toBe(true);
});

/**
 * Finds the packages of the workspace and their test reports. The list is package.json's
 * "workspaces", read the way npm reads `folder/*`.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ProjectRun } from './tally.ts';

const REPORT = join('test-results', 'vitest.json');

/** The folders of all packages of the workspace at `root`. */
export function projectFolders(root: string): readonly string[] {
  const { workspaces } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    readonly workspaces: readonly string[];
  };
  return workspaces.flatMap((pattern) => {
    if (!/^[\w-]+\/\*$/.test(pattern))
      throw new Error(`workspaces: write "${pattern}" as "folder/*", all that we read`);
    const parent = join(root, pattern.slice(0, -2));
    if (!existsSync(parent)) return [];
    const folders = readdirSync(parent).map((name) => join(parent, name));
    return folders.filter((folder) => existsSync(join(folder, 'package.json')));
  });
}

/** Deletes the report of an earlier run, so that it cannot be counted. */
export function forgetReport(folder: string): void {
  rmSync(join(folder, 'test-results'), { recursive: true, force: true });
}

/** Reads what the run left. */
export function readRun(folder: string): ProjectRun {
  const { name } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    readonly name: string;
  };
  const file = join(folder, REPORT);
  return {
    name,
    hasTestFiles: hasTestFiles(folder),
    report: existsSync(file) ? readFileSync(file, 'utf8') : null,
  };
}

function hasTestFiles(folder: string): boolean {
  return ['src', 'test'].some((name) => {
    const inside = join(folder, name);
    return (
      existsSync(inside) &&
      readdirSync(inside, { recursive: true, encoding: 'utf8' }).some((file) =>
        file.endsWith('.test.ts'),
      )
    );
  });
}

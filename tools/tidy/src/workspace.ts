/**
 * What the rules look at: the packages with their manifests, and every file that git knows or would
 * add. Rules take values, so that tests can invent them.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The fields of a package.json that a rule reads. */
export interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly license?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

/** A package: its folder, relative to the root and without a slash at the end, and its manifest. */
export interface Package {
  readonly folder: string;
  readonly manifest: Manifest;
}

/** A file: its path relative to the root, with `/`, and its text. */
export interface TextFile {
  readonly path: string;
  readonly text: string;
}

export const ROOT: string = join(dirname(fileURLToPath(import.meta.url)), '../../..');

/** A violation: where, and what is wrong with it. */
export interface Violation {
  readonly path: string;
  readonly line?: number;
  readonly what: string;
}

/** Violations as sorted lines, so that a failing test shows all of them at once. */
export function show(violations: readonly Violation[]): readonly string[] {
  return violations
    .map(({ path, line, what }) => `${path}${line === undefined ? '' : `:${line}`}: ${what}`)
    .toSorted();
}

/** Every path that git tracks, or would if asked to add all. */
export function listPaths(): readonly string[] {
  const listed = execFileSync(
    'git',
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    { cwd: ROOT, encoding: 'utf8' },
  );
  return [...new Set(listed.split('\0'))].filter(
    (path) => path !== '' && existsSync(join(ROOT, path)),
  );
}

/** The text of a file, or undefined for one that is not text (it has a NUL in its first 8 KiB). */
export function readText(path: string): string | undefined {
  const bytes = readFileSync(join(ROOT, path));
  return bytes.subarray(0, 8192).includes(0) ? undefined : bytes.toString('utf8');
}

/** The text of a file that must be there. */
export function mustRead(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** All packages of the workspace. */
export function listPackages(paths: readonly string[]): readonly Package[] {
  return paths
    .filter((path) => /^(?:packages|apps|tools)\/[^/]+\/package\.json$/.test(path))
    .map((path) => ({ folder: dirname(path), manifest: JSON.parse(mustRead(path)) as Manifest }));
}

/** All TypeScript of the workspace. */
export function readSources(paths: readonly string[]): readonly TextFile[] {
  return paths
    .filter((path) => /\.[mc]?ts$/.test(path))
    .map((path) => ({ path, text: mustRead(path) }));
}

/** Whether a file exists only for tests: it is not published and may import more. */
export function isTestFile(path: string): boolean {
  return (
    /\.(?:test|testlib)\.ts$/.test(path) || /^(?:packages|apps|tools)\/[^/]+\/test\//.test(path)
  );
}

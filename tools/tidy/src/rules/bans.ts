/**
 * What a package may not reach for. A run of the model is a function of its inputs: the same
 * schedule must give the same trace, byte for byte. So time, randomness, files, environment and
 * processes enter in apps only, and who reads or draws takes them as values. Tests are not held to
 * this.
 */
import { scanImports } from '../imports.ts';
import { lineOf, splitLayers } from '../layers.ts';
import { isTestFile, type TextFile, type Violation } from '../workspace.ts';

export interface BanRow {
  /** Folders, where `*` stands for any one name. */
  readonly folders: readonly string[];
  readonly globals: Readonly<Record<string, RegExp>>;
  /** Modules of Node, with or without `node:`; a subpath of one is banned with it. */
  readonly modules: readonly string[];
  /** Files that are let off, each with the reason. */
  readonly except?: Readonly<Record<string, string>>;
  readonly reason: string;
}

const use = (name: string): RegExp => new RegExp(`(?<![\\w$.])${name}\\s*(?:\\?\\.|[.(\\[])`, 'g');

const OUTSIDE_WORLD = {
  process: use('process'),
  console: use('console'),
  Date: /(?<![\w$.])(?:new\s+Date\b|Date\s*[.(])/g,
  'Math.random': /(?<![\w$.])Math\s*\.\s*random\b/g,
  performance: use('performance'),
  globalThis: /(?<![\w$.])globalThis\b/g,
};

const ASYNCHRONY = {
  setTimeout: use('setTimeout'),
  setInterval: use('setInterval'),
  setImmediate: use('setImmediate'),
  queueMicrotask: use('queueMicrotask'),
  Promise: /(?<![\w$.])Promise\b/g,
};

const OUTSIDE = [
  'fs',
  'child_process',
  'process',
  'os',
  'net',
  'http',
  'https',
  'worker_threads',
  'crypto',
  'perf_hooks',
];

export const BANS: readonly BanRow[] = [
  {
    folders: [
      'machine',
      'mmu-gather',
      'arch-x86',
      'linux-mm',
      'backend-*',
      'sim',
      'check',
      'corpus',
    ].map((name) => `packages/${name}`),
    globals: { ...OUTSIDE_WORLD, ...ASYNCHRONY },
    modules: [...OUTSIDE, 'timers'],
    except: {
      'packages/machine/src/determinism.ts': 'names the clocks and dice in order to refuse them',
    },
    reason:
      'the same schedule must give the same trace: the only scheduler is the driver, the only clock the model',
  },
  {
    folders: ['packages/trace', 'packages/whatif', 'packages/report'],
    globals: OUTSIDE_WORLD,
    modules: OUTSIDE,
    reason:
      'the same recording must give the same answer, also in a browser: apps open files and print',
  },
];

function matchesFolder(path: string, folder: string): boolean {
  return new RegExp(`^${folder.replaceAll('*', '[^/]+')}/`).test(path);
}

/** Checks one file against every row that names its folder. */
export function checkBans(file: TextFile, rows: readonly BanRow[]): readonly Violation[] {
  if (isTestFile(file.path)) return [];
  const { code } = splitLayers(file.text);
  const found = (line: number, name: string, row: BanRow): Violation => ({
    path: file.path,
    line,
    what: `${name} (${row.reason})`,
  });
  return rows
    .filter(
      (row) =>
        row.except?.[file.path] === undefined &&
        row.folders.some((folder) => matchesFolder(file.path, folder)),
    )
    .flatMap((row) => [
      ...Object.entries(row.globals).flatMap(([name, pattern]) =>
        [...code.matchAll(pattern)].map(({ index }) => found(lineOf(file.text, index), name, row)),
      ),
      ...scanImports(file.text)
        .filter(
          ({ specifier, typeOnly }) =>
            !typeOnly && row.modules.some((name) => isModule(specifier, name)),
        )
        .map(({ specifier, line }) => found(line, specifier, row)),
    ]);
}

function isModule(specifier: string, name: string): boolean {
  const bare = specifier.replace(/^node:/, '');
  return bare === name || bare.startsWith(`${name}/`);
}

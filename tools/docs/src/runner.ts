/**
 * Runs blocks as a reader would: in the root of the repository, without a terminal and without
 * colours, and with a `shootdown` that is this clone's sources. Each command has a shell of its
 * own, so that blocks share nothing but files.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Block } from './blocks.ts';
import { elsewhere, ELSEWHERE, type ElsewhereRow } from './elsewhere.ts';
import {
  compare,
  linesMatch,
  outputLines,
  parseSession,
  type Outcome,
  type Step,
} from './session.ts';

export const ROOT: string = join(dirname(fileURLToPath(import.meta.url)), '../../..');

/**
 * Where ts blocks are written: in the workspace, so that they find its packages, and in a folder
 * that git and the build leave alone.
 */
const TS_FOLDER = join(ROOT, 'tools/docs/dist/blocks');

/** Variables that the terminal, nx and vitest set, and a reader's shell does not. */
const NOT_A_READERS =
  /^(?:COLUMNS|LINES|FORCE_COLOR|CLICOLOR|NODE_OPTIONS|NODE_ENV|NODE_V8_COVERAGE|VITEST|VITE_|NX_)/;

const TIME_LIMIT_MS = 55_000;
const MAX_OUTPUT = 64 * 1024 * 1024;

/** A place where blocks can run; `close` removes what it made. */
export interface Reader {
  readonly env: NodeJS.ProcessEnv;
  close(): void;
}

/** Makes the shim of `shootdown` and the environment of a reader. */
export function openReader(): Reader {
  const folder = mkdtempSync(join(tmpdir(), 'shootdown-docs-'));
  const shim = join(folder, 'shootdown');
  const bin = join(ROOT, 'apps/cli/src/bin.ts');
  writeFileSync(
    shim,
    `#!/bin/sh\nexec '${process.execPath}' --conditions=@shootdown/source '${bin}' "$@"\n`,
  );
  chmodSync(shim, 0o755);
  const kept = Object.entries(process.env).filter(([name]) => !NOT_A_READERS.test(name));
  const path = [folder, dirname(process.execPath), process.env['PATH'] ?? ''].join(delimiter);
  return {
    env: { ...Object.fromEntries(kept), PATH: path, NO_COLOR: '1', npm_config_loglevel: 'error' },
    close: () => {
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Runs a command in bash. Both streams go to one pipe, in the order in which they were written. */
export function runCommand(command: string, env: NodeJS.ProcessEnv): Outcome {
  return run('bash', ['-c', `exec 2>&1\n${command}`], env);
}

function run(file: string, args: readonly string[], env: NodeJS.ProcessEnv): Outcome {
  const limits = { timeout: TIME_LIMIT_MS, maxBuffer: MAX_OUTPUT };
  const done = spawnSync(file, args, {
    cwd: ROOT,
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    ...limits,
  });
  const trouble = done.error === undefined ? '' : `\n(not finished: ${done.error.message})`;
  return { output: `${done.stdout}${done.stderr}${trouble}`, exitCode: done.status ?? -1 };
}

/** Runs an sh block and says what is wrong; undefined if nothing is. */
export function runShBlock(
  text: string,
  env: NodeJS.ProcessEnv,
  rows: readonly ElsewhereRow[] = ELSEWHERE,
): string | undefined {
  const steps = parseSession(text);
  return steps === undefined ? runScript(text, env, rows) : runSteps(steps, env, rows);
}

function runSteps(
  steps: readonly Step[],
  env: NodeJS.ProcessEnv,
  rows: readonly ElsewhereRow[],
): string | undefined {
  for (const step of steps) {
    const row = elsewhere(step.command, rows);
    if (row !== undefined && row.instead === undefined) {
      if (step.output.length === 0) continue;
      return `$ ${step.command}\nis run elsewhere (${row.reason}), so nothing compares the output beside it: leave the output out`;
    }
    const wrong = compare(step, runCommand(row?.instead ?? step.command, env));
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

function runScript(
  text: string,
  env: NodeJS.ProcessEnv,
  rows: readonly ElsewhereRow[],
): string | undefined {
  const kept = text.split('\n').filter((line) => elsewhere(line, rows) === undefined);
  if (kept.every((line) => line.trim() === '' || line.trim().startsWith('#'))) return undefined;
  const outcome = runCommand(`set -e\n${kept.join('\n')}`, env);
  return outcome.exitCode === 0 ? undefined : `exit code ${outcome.exitCode}:\n${outcome.output}`;
}

/** The file of a ts block. */
export function tsFileOf(block: Block, folder: string = TS_FOLDER): string {
  return join(folder, `${block.path.replace(/[^\w.-]+/g, '-')}.line${block.line}.ts`);
}

/** Writes all ts blocks, and a tsconfig for them. */
export function writeTsBlocks(blocks: readonly Block[], folder: string = TS_FOLDER): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const block of blocks) writeFileSync(tsFileOf(block, folder), `${block.text}\n`);
  const compilerOptions = {
    isolatedDeclarations: false,
    declaration: false,
    declarationMap: false,
  };
  const config = { extends: join(ROOT, 'tsconfig.base.json'), compilerOptions, include: ['*.ts'] };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
}

/** Typechecks all written ts blocks in one go; the compiler's words if something is wrong. */
export function typecheckTsBlocks(
  env: NodeJS.ProcessEnv,
  folder: string = TS_FOLDER,
): string | undefined {
  const outcome = run(
    process.execPath,
    [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', folder, '--pretty', 'false'],
    env,
  );
  return outcome.exitCode === 0 ? undefined : outcome.output;
}

/** Runs a written ts block and says what is wrong; undefined if nothing is. */
export function runTsBlock(
  block: Block,
  env: NodeJS.ProcessEnv,
  folder: string = TS_FOLDER,
): string | undefined {
  const outcome = run(
    process.execPath,
    ['--conditions=@shootdown/source', tsFileOf(block, folder)],
    env,
  );
  if (outcome.exitCode !== 0) return `exit code ${outcome.exitCode}:\n${outcome.output}`;
  if (block.output === undefined) return undefined;
  const actual = outputLines(outcome.output);
  if (linesMatch(outputLines(block.output), actual)) return undefined;
  return `--- the document says\n${block.output}\n--- the block printed\n${actual.join('\n')}\n---`;
}

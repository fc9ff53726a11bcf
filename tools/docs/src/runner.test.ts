import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Block } from './blocks.ts';
import { checkRow, ELSEWHERE } from './elsewhere.ts';
import {
  openReader,
  ROOT,
  runShBlock,
  runTsBlock,
  typecheckTsBlocks,
  writeTsBlocks,
  type Reader,
} from './runner.ts';

let reader: Reader;
let folder = '';

beforeAll(() => {
  reader = openReader();
  mkdirSync(join(ROOT, 'tools/docs/dist'), { recursive: true });
  folder = mkdtempSync(join(ROOT, 'tools/docs/dist/runner-test-'));
});

afterAll(() => {
  reader.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('an sh block', () => {
  test.each([
    ['prints what it says', '$ echo a; echo b >&2; echo c\na\nb\nc'],
    ['may leave lines out', '$ seq 1 9\n1\n...\n9'],
    ['may fail when it says so', '$ echo no; exit 3\nno\n[exit 3]'],
    ['runs in the root', '$ ls tsconfig.base.json\ntsconfig.base.json'],
    [
      'has no colours, width or terminal',
      '$ echo "$NO_COLOR [${COLUMNS-unset}]"; test -t 1 || echo no terminal\n1 [unset]\nno terminal',
    ],
    ['shares nothing between commands', '$ A=1\n$ echo "[${A-unset}]"\n[unset]'],
    ['finds our own shootdown first', '$ command -v shootdown | grep -c shootdown-docs-\n1'],
    ['may be a plain script', 'A=1\ntest "$A" = 1'],
  ])('%s', (_name, text) => {
    expect(runShBlock(text, reader.env)).toBeUndefined();
  });

  test.each([
    ['prints something else', '$ echo a\nb', '--- the command printed\na'],
    ['prints more', '$ seq 1 2\n1', '--- the command printed\n1\n2'],
    ['prints nothing', '$ true\na', '--- the document says\na'],
    ['fails without saying so', '$ exit 2', 'exit code 2, not 0'],
    ['succeeds though it says not', '$ true\n[exit 1]', 'exit code 0, not 1'],
    ['is wrong in its second command', '$ true\n$ echo a\nb', '$ echo a'],
    ['is a script that fails in its middle', 'false\ntrue', 'exit code 1'],
  ])('is refused when it %s', (_name, text, what) => {
    expect(runShBlock(text, reader.env)).toContain(what);
  });
});

describe('a command that is run elsewhere', () => {
  const rows = [
    { command: 'exit 7', reason: 'r' },
    { command: 'exit 8', reason: 'r', instead: 'echo a' },
  ];

  test('is left out, alone or in a script', () => {
    expect(runShBlock('$ exit 7', reader.env, rows)).toBeUndefined();
    expect(runShBlock('exit 7\ntrue', reader.env, rows)).toBeUndefined();
  });

  test('may not promise an output, because nobody would compare it', () => {
    expect(runShBlock('$ exit 7\nx', reader.env, rows)).toContain('leave the output out');
  });

  test('is replaced by what the row says, and then its output is compared', () => {
    expect(runShBlock('$ exit 8\na', reader.env, rows)).toBeUndefined();
    expect(runShBlock('$ exit 8\nb', reader.env, rows)).toContain('--- the command printed\na');
  });

  test('must be in .ci/run if its row says so, as a line and not in a comment', () => {
    const row = { command: 'a', reason: 'r', inCi: 'run a' };
    expect(checkRow(row, 'x\n  run a\n')).toBeUndefined();
    expect(checkRow(row, '# run a\n')).toContain('no line "run a"');
  });

  test('has a reason', () => {
    for (const row of ELSEWHERE) expect(row.reason).not.toBe('');
  });
});

describe('a ts block', () => {
  function block(text: string, output?: string): Block {
    const plain = { path: 'a.md', line: 1, language: 'ts', text };
    return output === undefined ? plain : { ...plain, output };
  }

  function ran(one: Block): string | undefined {
    writeTsBlocks([one], folder);
    return runTsBlock(one, reader.env, folder);
  }

  test('finds the packages of the workspace and prints what it says', () => {
    const text = "import { cpuId } from '@shootdown/machine';\nconsole.log(cpuId(2));";
    expect(ran(block(text, '2'))).toBeUndefined();
    expect(typecheckTsBlocks(reader.env, folder)).toBeUndefined();
  });

  test('is refused when it prints something else', () => {
    expect(ran(block('console.log(1);', '2'))).toContain('--- the block printed\n1');
  });

  test('is refused when it throws', () => {
    expect(ran(block("throw new Error('no');"))).toContain('Error: no');
  });

  test('is refused when its types are wrong, although it runs', () => {
    const wrong = block("const a: number = 'a';\nvoid a;");
    expect(ran(wrong)).toBeUndefined();
    expect(typecheckTsBlocks(reader.env, folder)).toContain('TS2322');
  });
});

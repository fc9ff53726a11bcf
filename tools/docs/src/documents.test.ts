/**
 * Every executable block of every document. A document without one is fine; a README without the
 * command that tests this clone is not.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { blocksOf, LANGUAGES, type Block } from './blocks.ts';
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

/** All documents that are executed, relative to the root. */
function documents(): readonly string[] {
  const within = (folder: string): readonly string[] =>
    existsSync(join(ROOT, folder))
      ? readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
          .filter((name) => name.endsWith('.md'))
          .map((name) => `${folder}/${name}`)
      : [];
  const readmes = ['packages', 'apps'].flatMap((parent) =>
    readdirSync(join(ROOT, parent)).map((name) => `${parent}/${name}/README.md`),
  );
  return ['README.md', ...readmes, ...within('docs'), ...within('apps/cli/test')]
    .filter((path) => existsSync(join(ROOT, path)))
    .toSorted();
}

const blocks = documents().flatMap((path) =>
  blocksOf(path, readFileSync(join(ROOT, path), 'utf8')),
);
const executable = (language: string): (readonly [string, Block])[] =>
  blocks
    .filter((block) => block.language === language)
    .map((block) => [`${block.path}:${block.line}`, block] as const);
const shBlocks = executable('sh');
const tsBlocks = executable('ts');

let reader: Reader;

beforeAll(() => {
  reader = openReader();
  writeTsBlocks(tsBlocks.map(([, block]) => block));
});

afterAll(() => {
  reader.close();
});

test('every language that is executed is one of the two that are executed here', () => {
  expect(Object.keys(LANGUAGES).filter((name) => LANGUAGES[name]?.run)).toEqual(['sh', 'ts']);
});

test('README.md says how this clone is tested, in a block that .ci/run reads', () => {
  const ofReadme = blocks.filter(({ path, language }) => path === 'README.md' && language === 'sh');
  expect(ofReadme.some(({ text }) => /^(?:\$ )?npm ci && npm test$/m.test(text))).toBe(true);
});

test('what is said to be run elsewhere is', () => {
  const ci = readFileSync(join(ROOT, '.ci/run'), 'utf8');
  expect(ELSEWHERE.flatMap((row) => checkRow(row, ci) ?? [])).toEqual([]);
});

test('the ts blocks of all documents typecheck', () => {
  expect(tsBlocks.length === 0 ? undefined : typecheckTsBlocks(reader.env)).toBeUndefined();
});

test.each(shBlocks)('the sh block at %s', (_place, block) => {
  expect(runShBlock(block.text, reader.env)).toBeUndefined();
});

test.each(tsBlocks)('the ts block at %s', (_place, block) => {
  expect(runTsBlock(block, reader.env)).toBeUndefined();
});

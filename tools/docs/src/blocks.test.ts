import { expect, test } from 'vitest';
import { blocksOf } from './blocks.ts';

const fence = (language: string, text: string): string => `\`\`\`${language}\n${text}\n\`\`\`\n`;

test('blocks are found with their line and language', () => {
  const blocks = blocksOf('a.md', `# A\n\n${fence('sh', '$ true')}words\n${fence('json', '{}')}`);
  expect(blocks).toEqual([
    { path: 'a.md', line: 3, language: 'sh', text: '$ true' },
    { path: 'a.md', line: 7, language: 'json', text: '{}' },
  ]);
});

test('a text block right after a block is its output, one after words is not', () => {
  const near = blocksOf('a.md', `${fence('ts', 'a')}\n${fence('text', 'out')}`);
  const far = blocksOf('a.md', `${fence('ts', 'a')}\nwords\n\n${fence('text', 'out')}`);
  expect(near[0]?.output).toBe('out');
  expect(far[0]).not.toHaveProperty('output');
});

test('a block in a list loses the indentation of its fence and no more', () => {
  expect(blocksOf('a.md', '- a\n  ```sh\n  $ a\n    b\n\n c\n  ```\n')[0]?.text).toBe(
    '$ a\n  b\n\nc',
  );
});

test('a longer fence holds a shorter one', () => {
  expect(blocksOf('a.md', `\`\`\`\`text\n${fence('sh', '$ false')}\`\`\`\`\n`)).toHaveLength(1);
});

test.each(['bash', 'shell', '', 'typescript', 'ts skip'])(
  'a fence of "%s" is refused, because it would not be run',
  (language) => {
    expect(() => blocksOf('a.md', fence(language, 'x'))).toThrow(
      `a.md:1: a fence of "${language}"`,
    );
  },
);

test('a fence without an end is refused', () => {
  expect(() => blocksOf('a.md', '```sh\n$ true\n')).toThrow('a.md:1: a fence that does not end');
});

import { expect, test } from 'vitest';
import { compare, linesMatch, parseSession } from './session.ts';

test('a session is commands and what follows them', () => {
  expect(parseSession('$ a\nx  \ny\n\n$ b\n$ c\nz\n[exit 3]\n')).toEqual([
    { command: 'a', output: ['x', 'y'], exitCode: 0 },
    { command: 'b', output: [], exitCode: 0 },
    { command: 'c', output: ['z'], exitCode: 3 },
  ]);
});

test('a command goes on after a backslash', () => {
  expect(parseSession('$ a \\\n  b \\\n  c\nx')).toEqual([
    { command: 'a \\\n  b \\\n  c', output: ['x'], exitCode: 0 },
  ]);
});

test('without a dollar it is a plain script', () => {
  expect(parseSession('a\nb')).toBeUndefined();
});

test('output before the first command is refused', () => {
  expect(() => parseSession('x\n$ a')).toThrow('"x"');
});

test.each([
  [['a', 'b'], 'a b', true],
  [['a'], 'a b', false],
  [['a', 'b'], 'a', false],
  [['b'], 'a', false],
  [['...'], '', true],
  [['...'], 'a b', true],
  [['a', '...', 'c'], 'a b b c', true],
  [['a', '...', 'c'], 'a c', true],
  [['a', '...', 'c'], 'a b', false],
  [['...', 'b', '...', 'c'], 'a b c b c', true],
])('%j against the lines of "%s": %s', (expected, actual, matches) => {
  expect(linesMatch(expected, actual === '' ? [] : actual.split(' '))).toBe(matches);
});

test('the exit code counts, also when the output is right', () => {
  expect(
    compare({ command: 'a', output: ['x'], exitCode: 0 }, { output: 'x\n', exitCode: 1 }),
  ).toContain('exit code 1, not 0');
});

import { expect, test } from 'vitest';
import { show } from '../workspace.ts';
import { checkPrivacy } from './privacy.ts';

const HOST = 'packages.example.invalid';
const found = (text: string, path = 'docs/a.md'): string =>
  show(checkPrivacy({ path, text }, HOST)).join('\n');
const join = (...parts: readonly string[]): string => parts.join('');

test.each([
  [join('see ', '/wo', 'rk/main'), 'an absolute path'],
  [join('"', '/ho', 'me/me/x"'), 'an absolute path'],
  [join('cd ', '/ro', 'ot/x'), 'an absolute path'],
  [join('> ', '/tm', 'p/out'), 'an absolute path'],
  [join('see ../', 'shared/design'), 'out of the repository'],
  [join('https://', 'registry', '.example.invalid/x'), 'address of a registry'],
  [`//${HOST}/x`, 'the host of the registry'],
])('refused: %s', (text, what) => {
  expect(found(text)).toContain(what);
});

const FINE = [
  'https://example.invalid/home/x',
  'packages/root/x',
  './home/x',
  'registry.ts',
  '/sys/kernel',
  '"${HOME}/tmp/x"',
];

test.each(FINE)('fine: %s', (text) => {
  expect(found(text)).toBe('');
});

test('recordings are left alone', () => {
  expect(found(join('/tm', 'p/x'), 'examples/traces/a.txt')).toBe('');
});

test('a registry on this machine names nobody', () => {
  expect(checkPrivacy({ path: 'a.md', text: 'http://127.0.0.1:4873/' }, '127.0.0.1')).toEqual([]);
});

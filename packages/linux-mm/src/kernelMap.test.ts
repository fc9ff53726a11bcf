import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { kernelMap } from './kernelMap.testlib.ts';

test('docs/kernel-map.md says what is true: paste what is expected here into it if it is not', () => {
  const shown = readFileSync(new URL('../../../docs/kernel-map.md', import.meta.url), 'utf8');
  expect(shown).toBe(kernelMap());
});

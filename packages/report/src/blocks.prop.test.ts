import fc from 'fast-check';
import { expect, test } from 'vitest';
import { wrap } from './blocks.ts';
import { thousands } from './words.ts';

test('wrapping keeps every character, in order, and no line is too wide', () => {
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[a-z]{1,30}$/), { minLength: 1 }),
      fc.integer({ min: 5, max: 60 }),
      (words, width) => {
        const lines = wrap(words.join(' '), width);
        expect(lines.join('').replaceAll(' ', '')).toBe(words.join(''));
        for (const line of lines) expect(line.length).toBeLessThanOrEqual(width);
        // Nothing is broken that fits.
        const all = words.join(' ');
        expect(lines.length > 1).toBe(all.length > width);
      },
    ),
  );
});

test('thousands are grouped by three', () => {
  fc.assert(
    fc.property(fc.nat(), (n) => {
      expect(thousands(n)).toBe(n.toLocaleString('en-US'));
    }),
  );
});

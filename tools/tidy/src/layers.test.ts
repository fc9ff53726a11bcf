import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lineOf, splitLayers } from './layers.ts';

const code = (source: string): string => splitLayers(source).code;

test.each([
  ['a line comment', 'a // any\nb', 'a       \nb'],
  ['a block comment over lines', 'a /* x\ny */ b', 'a     \n     b'],
  ['a string', "f('any')", "f('   ')"],
  ['a string with an escaped quote', String.raw`f('a\'b') + c`, "f('    ') + c"],
  ['a string that holds a comment', "f('// x') // y", "f('    ')     "],
  ['a template with code inside', 'f(`a ${any} b`)', 'f(`  ${any}  `)'],
  ['a template in a template', '`x${`y${z}y`}x` + w', '` ${` ${z} `} ` + w'],
  ['braces in a template expression', '`${ {a: 1}.a }x` + b', '`${ {a: 1}.a } ` + b'],
  ['a regular expression', 'x = /any!/.test(y)', 'x = /    /.test(y)'],
  ['a regular expression with a slash in a class', 'x = /[/]any/g;', 'x = /      /g;'],
  ['a regular expression after return', 'return /any/;', 'return /   /;'],
  ['a division', 'a / any / b', 'a / any / b'],
  ['a division after a bracket', 'f(a) / any / b', 'f(a) / any / b'],
  ['an unfinished string', "f('abc\nd", "f('   \nd"],
])('the code of %s', (_name, source, expected) => {
  expect(code(source)).toBe(expected);
});

test('comments are the other layer, also when strings look like them', () => {
  expect(splitLayers("f('// no') // yes\n").comments).toBe('           // yes\n');
});

test('both layers keep the length and the lines of any source', () => {
  const pieces = fc.constantFrom(
    "'",
    '"',
    '`',
    '${',
    '}',
    '{',
    '/',
    '//',
    '/*',
    '*/',
    '\\',
    '\n',
    'a',
    ' ',
    '[',
    ']',
    '=',
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 40 }), (parts) => {
      const source = parts.join('');
      const layers = splitLayers(source);
      for (const layer of [layers.code, layers.comments]) {
        expect(layer.length).toBe(source.length);
        expect(layer.split('\n').length).toBe(source.split('\n').length);
      }
    }),
  );
});

test('lines count from one', () => {
  expect(lineOf('a\nb', 0)).toBe(1);
  expect(lineOf('a\nb', 2)).toBe(2);
});

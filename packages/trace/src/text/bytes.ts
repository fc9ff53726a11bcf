/**
 * Bytes of a line. `at` exists because an index that the loop's own bounds prove needs no
 * `undefined`, and this is the one place that says so.
 */

/** The byte at `index`, which the caller knows to be inside. */
export function at(bytes: Uint8Array, index: number): number {
  return bytes[index] as number;
}

/** Character codes that the formats use. */
export const Char = {
  tab: 9,
  newline: 10,
  space: 32,
  hash: 35,
  openParen: 40,
  closeParen: 41,
  plus: 43,
  comma: 44,
  minus: 45,
  dot: 46,
  zero: 48,
  nine: 57,
  colon: 58,
  less: 60,
  equals: 61,
  greater: 62,
  openBracket: 91,
  closeBracket: 93,
  lowerA: 97,
  lowerF: 102,
  lowerX: 120,
} as const;

/** The value of a hexadecimal digit, or -1. */
export const HEX: Int8Array = new Int8Array(256).fill(-1);
for (let i = 0; i < 10; i++) HEX[48 + i] = i;
for (let i = 0; i < 6; i++) {
  HEX[65 + i] = 10 + i;
  HEX[97 + i] = 10 + i;
}

/** Whether `byte` is a decimal digit. */
export function isDigit(byte: number): boolean {
  return byte >= Char.zero && byte <= Char.nine;
}

const UTF8 = new TextDecoder();

/** The text of `bytes[start..end)`; bytes that are not UTF-8 become U+FFFD. */
export function textOf(bytes: Uint8Array, start: number, end: number): string {
  return UTF8.decode(bytes.subarray(start, end));
}

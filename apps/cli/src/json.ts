/** JSON in which no control character is left raw: JSON.stringify leaves those above 0x7e. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(
    /[\u007f-\u009f\p{Cf}\u2028\u2029]/gu,
    (char) =>
      Array.from({ length: char.length }, (_, i) => char.charCodeAt(i))
        .map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`)
        .join(''),
  );
}

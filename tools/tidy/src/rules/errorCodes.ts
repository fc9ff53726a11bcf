/**
 * Every error code has its paragraph in docs/errors.md, and every paragraph its code. Codes are
 * read off the closed unions in the sources; a paragraph is a heading of the second or third level
 * that is a code.
 */
import { splitLayers } from '../layers.ts';
import type { TextFile, Violation } from '../workspace.ts';

/** Where a union of codes is. */
export const CODE_UNIONS: readonly {
  readonly path: string;
  readonly type: string;
  readonly reason: string;
}[] = [
  { path: 'packages/machine/src/errors.ts', type: 'UsageCode', reason: "the caller's mistakes" },
  { path: 'packages/trace/src/errors.ts', type: 'TraceErrorCode', reason: 'bad input files' },
];

/**
 * The codes of a union, in order. Throws if the type is not there or has no code: the rule would
 * otherwise pass by finding nothing.
 */
export function codesOf(file: TextFile, type: string): readonly string[] {
  const { code } = splitLayers(file.text);
  const match = new RegExp(`\\bexport type ${type}\\s*=([^;]*);`, 'd').exec(code);
  const [start, end] = match?.indices?.[1] ?? [0, 0];
  const codes = [...file.text.slice(start, end).matchAll(/'(ERR_[A-Z0-9_]+)'/g)].map(
    (one) => one[1] ?? '',
  );
  if (codes.length === 0) throw new Error(`${file.path}: found no codes in a type called ${type}`);
  return codes;
}

/**
 * The codes that have a heading: `## ERR_X` or `### ERR_X`, with or without backquotes, alone or
 * with more text.
 */
export function headingsOf(markdown: string): readonly string[] {
  return [...markdown.matchAll(/^#{2,3} +`?(ERR_[A-Z0-9_]+)\b/gm)].map((match) => match[1] ?? '');
}

/** Compares codes and headings. */
export function checkCodes(codes: readonly string[], document: TextFile): readonly Violation[] {
  const headings = headingsOf(document.text);
  const path = document.path;
  return [
    ...codes
      .filter((code) => !headings.includes(code))
      .map((code) => ({ path, what: `${code} has no heading` })),
    ...headings
      .filter((code) => !codes.includes(code))
      .map((code) => ({ path, what: `${code} is not a code of any error` })),
    ...headings
      .filter((code, index) => headings.indexOf(code) !== index)
      .map((code) => ({ path, what: `${code} has two headings` })),
  ];
}

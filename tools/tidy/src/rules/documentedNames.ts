/**
 * Names that a reader may meet have their paragraph, and every paragraph its name: error codes in
 * docs/errors.md, axioms of the machine in docs/soundness.md. Names are read off the closed unions
 * in the sources; a paragraph is a heading that is a name.
 */
import { splitLayers } from '../layers.ts';
import type { TextFile, Violation } from '../workspace.ts';

/** A union of names, and the document that explains each. */
export interface UnionRow {
  readonly path: string;
  readonly type: string;
  readonly document: string;
  readonly reason: string;
}

export const UNIONS: readonly UnionRow[] = [
  {
    path: 'packages/machine/src/errors.ts',
    type: 'UsageCode',
    document: 'docs/errors.md',
    reason: "the caller's mistakes",
  },
  {
    path: 'packages/trace/src/errors.ts',
    type: 'TraceErrorCode',
    document: 'docs/errors.md',
    reason: 'bad input files',
  },
  {
    path: 'packages/machine/src/axioms.ts',
    type: 'AxiomName',
    document: 'docs/soundness.md',
    reason: 'what a verdict may rest on',
  },
];

/** What a heading has to be to count, by document. */
export const HEADINGS: Readonly<Record<string, RegExp>> = {
  /** `## ERR_X` or `### ERR_X`, with or without backquotes, alone or with more text. */
  'docs/errors.md': /^#{2,3} +`?(ERR_[A-Z0-9_]+)\b/gm,
  /** A name alone, in backquotes. */
  'docs/soundness.md': /^### +`([a-z][A-Za-z]*)`$/gm,
};

/**
 * The names of a union, in order. Throws if the type is not there or has no name: the rule would
 * otherwise pass by finding nothing.
 */
export function namesOf(file: TextFile, type: string): readonly string[] {
  const { code } = splitLayers(file.text);
  const match = new RegExp(`\\bexport type ${type}\\s*=([^;]*);`, 'd').exec(code);
  const [start, end] = match?.indices?.[1] ?? [0, 0];
  const names = [...file.text.slice(start, end).matchAll(/'([A-Za-z0-9_]+)'/g)].map(
    (one) => one[1] ?? '',
  );
  if (names.length === 0) throw new Error(`${file.path}: found no names in a type called ${type}`);
  return names;
}

/** The names that have a heading. */
export const headingsOf = (markdown: string, heading: RegExp): readonly string[] =>
  [...markdown.matchAll(heading)].map((match) => match[1] ?? '');

/** Compares names and headings. */
export function checkNames(
  names: readonly string[],
  { path, text }: TextFile,
  heading: RegExp,
): readonly Violation[] {
  const headings = headingsOf(text, heading);
  return [
    ...names
      .filter((name) => !headings.includes(name))
      .map((name) => ({ path, what: `${name} has no heading` })),
    ...headings
      .filter((name) => !names.includes(name))
      .map((name) => ({ path, what: `${name} is in no union of names` })),
    ...headings
      .filter((name, index) => headings.indexOf(name) !== index)
      .map((name) => ({ path, what: `${name} has two headings` })),
  ];
}

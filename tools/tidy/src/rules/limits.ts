/**
 * Limits that hold for every TypeScript file of the workspace: its size, and forms that the house
 * does without. Forms are looked for in the code layer, where strings and comments are blanks;
 * directives in the comment layer. oxlint and tsc refuse some of them too; here they cannot be
 * switched off by a comment.
 */
import { lineOf, splitLayers, type Layers } from '../layers.ts';
import { isTestFile, type TextFile, type Violation } from '../workspace.ts';

export const MAX_LINES = 400;
export const MAX_COLUMNS = 140;

export interface FormRow {
  readonly what: string;
  readonly layer: keyof Layers;
  readonly pattern: RegExp;
  readonly reason: string;
  readonly only?: 'tests';
  /** Paths where the form is allowed, each with why. */
  readonly except?: Readonly<Record<string, string>>;
}

export const FORMS: readonly FormRow[] = [
  {
    what: 'a default export',
    layer: 'code',
    pattern: /\bexport\s+default\b|\bas\s+default\b/g,
    reason: 'a name that every importer chooses anew cannot be searched for',
    except: {
      'tools/tsup.config.ts': 'tsup reads the default export',
      'tools/vitest.config.ts': 'vitest reads the default export',
    },
  },
  {
    what: 'the type any',
    layer: 'code',
    pattern: /(?<![\w$.])any\b(?!\s*[(:?])/g,
    reason: 'it switches the compiler off',
  },
  {
    what: 'a non-null !',
    layer: 'code',
    pattern: /[\w$)\]]!(?!=)/g,
    reason: 'a claim without an argument; use an if or assert()',
  },
  {
    what: 'an enum',
    layer: 'code',
    pattern: /(?<![\w$.])enum\s+[\w$]+\s*\{/g,
    reason: 'not erasable: Node cannot run it',
  },
  {
    what: 'a namespace',
    layer: 'code',
    pattern: /(?<![\w$.])(?:namespace|module)\s+[\w$.]+\s*\{/g,
    reason: 'a file is a namespace',
  },
  {
    what: 'a test that does not run',
    layer: 'code',
    only: 'tests',
    pattern:
      /(?<![\w$.])(?:(?:test|it|describe|suite)(?:\.\w+)*\.(?:skip|only|todo|fails|skipIf|runIf)|[xf](?:it|test|describe))\b/g,
    reason: 'what is wrong is mended or listed as expectRefuted, not hidden',
  },
  {
    what: 'a compiler directive',
    layer: 'comments',
    pattern: /@ts-(?:ignore|expect-error|nocheck)\b/g,
    reason: 'mend the types',
  },
  {
    what: 'a linter directive',
    layer: 'comments',
    pattern: /\b(?:ox|es)lint-(?:disable|enable)/g,
    reason: 'mend it, or change the rule',
  },
];

/** Names that a folder may not have. */
export const NO_FOLDERS: readonly string[] = [
  'utils',
  'util',
  'common',
  'shared',
  'helpers',
  'misc',
];

/** Checks the size of one file. */
export function checkSize(file: TextFile): readonly Violation[] {
  const lines = file.text.replace(/\n$/, '').split('\n');
  const long = lines.flatMap((text, index) =>
    text.length > MAX_COLUMNS
      ? [
          {
            path: file.path,
            line: index + 1,
            what: `${text.length} columns, more than ${MAX_COLUMNS}`,
          },
        ]
      : [],
  );
  const what = `${lines.length} lines, more than ${MAX_LINES}: it is asking to be two files`;
  const tall = lines.length > MAX_LINES ? [{ path: file.path, what }] : [];
  return [...tall, ...long];
}

/** Checks one file against every form. */
export function checkForms(file: TextFile, forms: readonly FormRow[]): readonly Violation[] {
  const layers = splitLayers(file.text);
  return forms
    .filter(
      (row) =>
        row.except?.[file.path] === undefined && (row.only === undefined || isTestFile(file.path)),
    )
    .flatMap((row) =>
      [...layers[row.layer].matchAll(row.pattern)].map((match) => ({
        path: file.path,
        line: lineOf(file.text, match.index),
        what: `${row.what} (${row.reason})`,
      })),
    );
}

/** Checks that no folder has a name that says nothing. */
export function checkFolders(paths: readonly string[]): readonly Violation[] {
  return paths.flatMap((path) => {
    const folder = path
      .split('/')
      .slice(0, -1)
      .find((part) => NO_FOLDERS.includes(part));
    return folder === undefined
      ? []
      : [{ path, what: `a folder called ${folder} says nothing about what is in it` }];
  });
}

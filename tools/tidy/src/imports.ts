/**
 * Finds what a file imports: `import … from`, `export … from`, bare `import 'x'`, `import('x')` and
 * `require('x')`. It looks for the statement in the code layer, where strings are blanks, and reads
 * the name at the same place of the source; so text that only looks like an import is not one.
 */
import { lineOf, splitLayers } from './layers.ts';

/** One import. */
export interface ImportSite {
  readonly specifier: string;
  /**
   * Erased entirely: `import type`, `export type … from`, `typeof import('x')`. A braces list of
   * `type` names is not: the import itself stays.
   */
  readonly typeOnly: boolean;
  readonly line: number;
}

const STATEMENT =
  /(?<![\w$.])(?:import|export)\b(?<type>\s+type\b(?!\s+from\b)(?!\s*,))?(?<clause>[^'"`;()=]*?)(?<quote>['"])(?<name> *)\k<quote>/g;
const CALL =
  /(?<typeof>\btypeof\s+)?(?<![\w$.])(?:import|require)\s*\(\s*(?<quote>['"`])(?<name> *)\k<quote>/g;

/** All imports of `source`, in order of appearance. */
export function scanImports(source: string): readonly ImportSite[] {
  const { code } = splitLayers(source);
  const found: (ImportSite & { readonly offset: number })[] = [];
  const note = (match: RegExpExecArray, typeOnly: boolean): void => {
    const length = match.groups?.['name']?.length ?? 0;
    const end = match.index + match[0].length - 1;
    found.push({
      specifier: source.slice(end - length, end),
      typeOnly,
      line: lineOf(source, match.index),
      offset: match.index,
    });
  };
  for (const match of code.matchAll(STATEMENT)) {
    const clause = match.groups?.['clause'] ?? '';
    const bare = clause.trim() === '' && match[0].startsWith('import');
    if (bare || /\bfrom\s*$/.test(clause)) note(match, match.groups?.['type'] !== undefined);
  }
  for (const match of code.matchAll(CALL)) note(match, match.groups?.['typeof'] !== undefined);
  return found
    .toSorted((a, b) => a.offset - b.offset)
    .map(({ specifier, typeOnly, line }) => ({ specifier, typeOnly, line }));
}

/** The package of a specifier: `@a/b/c` is in `@a/b`, `x/y` in `x`. */
export function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

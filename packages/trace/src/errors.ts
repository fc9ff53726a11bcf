/**
 * A bad input file. The message is one line: where, what was expected, what was found, what to do
 * next.
 */

/** Every code of a TraceFormatError: docs/errors.md has a paragraph for each. */
export type TraceErrorCode =
  | 'ERR_TRACE_CORRUPT'
  | 'ERR_TRACE_EMPTY'
  | 'ERR_TRACE_KIND'
  | 'ERR_TRACE_LINE'
  | 'ERR_TRACE_TOO_LARGE'
  | 'ERR_TRACE_TRUNCATED'
  | 'ERR_TRACE_UNSUPPORTED';

/**
 * Where in the input: a line of a text (1-based), or a byte of a file (of the decompressed one, if
 * it was compressed).
 */
export type TracePosition = { readonly line: number } | { readonly byte: number };

/** What a TraceFormatError says. */
export interface TraceFormatDetails {
  readonly code: TraceErrorCode;
  readonly at: TracePosition;
  /** What should have been there. */
  readonly expected: string;
  /** What was there. */
  readonly found: string;
  /** What to do next, when there is something to do. */
  readonly hint?: string;
}

/** Thrown, or listed with `keepGoing`, when an input cannot be read as what it claims to be. */
export class TraceFormatError extends Error {
  override readonly name = 'TraceFormatError';
  readonly code: TraceErrorCode;
  readonly source: string;
  readonly at: TracePosition;
  readonly expected: string;
  readonly found: string;

  /** @param source - the input's name, as the user gave it. */
  constructor(source: string, details: TraceFormatDetails) {
    const where = 'line' in details.at ? `line ${details.at.line}` : `byte ${details.at.byte}`;
    const hint = details.hint === undefined ? '' : `; ${details.hint}`;
    super(`${source}: ${where}: expected ${details.expected}, found ${details.found}${hint}`);
    this.code = details.code;
    this.source = source;
    this.at = details.at;
    this.expected = details.expected;
    this.found = details.found;
  }
}

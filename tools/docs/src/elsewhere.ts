/**
 * Commands of documents that are not run where they stand, each with why and with what makes sure
 * of it instead. A row counts only if that is so: what `.ci/run` should run must be in it.
 */
export interface ElsewhereRow {
  /** The whole command, as a document writes it after `$ ` or on its own line. */
  readonly command: string;
  readonly reason: string;
  /** A line of .ci/run that runs it. */
  readonly inCi?: string;
  /** What is run in its place, so that the output beside it is still compared. */
  readonly instead?: string;
}

export const ELSEWHERE: readonly ElsewhereRow[] = [
  {
    command: 'npm ci && npm test',
    reason:
      'run by .ci/run in a fresh clone: here it would remove the packages that run it, and run itself',
    inCi: "test_command='npm ci && npm test'",
  },
  {
    command: 'npm test',
    reason: 'run by .ci/run: here it would run itself',
    inCi: "test_command='npm ci && npm test'",
  },
  {
    command: 'npm ci && npm start',
    reason: 'npm ci is run by .ci/run in a fresh clone; what npm start prints is compared here',
    inCi: "check 'npm start' prints_something npm start --silent",
    instead: 'npm start --silent',
  },
  {
    command: 'npm ci',
    reason: 'run by .ci/run in a fresh clone',
    inCi: "test_command='npm ci && npm test'",
  },
  {
    command: 'npm run build',
    reason: 'npm test does it first; here it would delete dist under running tests',
  },
  {
    command: 'npm run typecheck',
    reason: 'a check of its own in .ci/run',
    inCi: 'check typecheck npm run typecheck',
  },
  {
    command: 'npm run lint',
    reason: 'a check of its own in .ci/run',
    inCi: 'check lint npm run lint',
  },
  {
    command: 'npm run check:pkg',
    reason: 'a check of its own in .ci/run',
    inCi: 'check check:pkg npm run check:pkg',
  },
  {
    command: 'npm run bench',
    reason: 'prints ratios of the machine it runs on, and takes minutes; its tests run it small',
  },
];

/** The row of a command, if it has one. */
export function elsewhere(
  command: string,
  rows: readonly ElsewhereRow[] = ELSEWHERE,
): ElsewhereRow | undefined {
  return rows.find((row) => row.command === command.trim());
}

/** What is wrong with a row, if anything: `ci` is the text of .ci/run. */
export function checkRow(row: ElsewhereRow, ci: string): string | undefined {
  if (row.inCi === undefined) return undefined;
  const lines = ci.split('\n').map((line) => line.trim());
  return lines.includes(row.inCi)
    ? undefined
    : `"${row.command}" is said to be run by .ci/run, which has no line "${row.inCi}"`;
}

/**
 * Reads an sh block. Lines that begin with `$ ` are commands, and what follows up to the next one
 * is what the command prints, both streams together. A command goes on over a line that ends in a
 * backslash. A line `...` stands for any lines, and a last line `[exit N]` for an exit code other
 * than 0. A block without `$ ` is a plain script.
 */

/** A command and what a reader is told that it prints. */
export interface Step {
  readonly command: string;
  readonly output: readonly string[];
  readonly exitCode: number;
}

/** What a command really did. */
export interface Outcome {
  readonly output: string;
  readonly exitCode: number;
}

const ANY_LINES = '...';

/**
 * The steps of a block; undefined if it is a plain script. Throws for text before the first
 * command.
 */
export function parseSession(text: string): readonly Step[] | undefined {
  const lines = text.split('\n');
  if (!lines.some((line) => line.startsWith('$ '))) return undefined;
  const steps: { command: string; output: string[] }[] = [];
  for (const line of lines) {
    const last = steps.at(-1);
    if (line.startsWith('$ ')) steps.push({ command: line.slice(2), output: [] });
    else if (last !== undefined && last.output.length === 0 && last.command.endsWith('\\'))
      last.command += `\n${line}`;
    else if (last !== undefined) last.output.push(line);
    else if (line.trim() !== '') throw new Error(`output before the first command: "${line}"`);
  }
  return steps.map(({ command, output }) => {
    const kept = tidyLines(output);
    const exit = /^\[exit (\d+)\]$/.exec(kept.at(-1) ?? '');
    return exit === null
      ? { command, output: kept, exitCode: 0 }
      : { command, output: tidyLines(kept.slice(0, -1)), exitCode: Number(exit[1]) };
  });
}

/** Lines without spaces at their ends, and without empty lines at the end of all. */
function tidyLines(lines: readonly string[]): readonly string[] {
  const trimmed = lines.map((line) => line.trimEnd());
  return trimmed.slice(0, trimmed.findLastIndex((line) => line !== '') + 1);
}

/** Output as lines to compare. */
export function outputLines(output: string): readonly string[] {
  return tidyLines(output.split('\n'));
}

/** Whether lines are the expected ones, where `...` stands for any number of them. */
export function linesMatch(expected: readonly string[], actual: readonly string[]): boolean {
  const [first, ...rest] = expected;
  if (first === undefined) return actual.length === 0;
  if (first === ANY_LINES)
    return (
      actual.some((_line, from) => linesMatch(rest, actual.slice(from))) || linesMatch(rest, [])
    );
  return actual.length > 0 && actual[0] === first && linesMatch(rest, actual.slice(1));
}

/** What is wrong with an outcome, for a reader of the failing test; undefined if nothing is. */
export function compare(step: Step, outcome: Outcome): string | undefined {
  const actual = outputLines(outcome.output);
  if (outcome.exitCode === step.exitCode && linesMatch(step.output, actual)) return undefined;
  const exit =
    outcome.exitCode === step.exitCode
      ? ''
      : `exit code ${outcome.exitCode}, not ${step.exitCode}\n`;
  return `$ ${step.command}\n${exit}--- the document says\n${step.output.join('\n')}\n--- the command printed\n${actual.join('\n')}\n---`;
}

/** What the command's end says to a shell. docs/errors.md has the same list. */
export const Exit = {
  /** Answered; within budget. */
  ok: 0,
  /** Answered; over budget. */
  exceeded: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The input cannot be read. */
  input: 3,
  /** No answer, or one that could not be written; with --strict or --budget an incomplete one. */
  incomplete: 4,
  /** A bug of ours. */
  bug: 70,
} as const;

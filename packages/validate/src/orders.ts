/** Counting through the ways in which ambiguous reads can go: the last one fastest. */

/** Counts `choices` up; false after the last. */
export function next(choices: number[], radices: readonly number[]): boolean {
  for (let at = radices.length - 1; at >= 0; at--) {
    const now = (choices[at] ?? 0) + 1;
    for (let behind = at + 1; behind < radices.length; behind++) choices[behind] = 0;
    if (now < (radices[at] ?? 0)) {
      choices[at] = now;
      choices.length = at + 1;
      return true;
    }
  }
  return false;
}

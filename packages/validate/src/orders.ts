/** Counting through the ways in which ambiguous steps can go. */

/** One way after the other, the last choice fastest. */
export class Orders {
  #choices: number[] | null = null;
  #radices: number[] = [];

  /** Whether ways are being tried; if not, every step goes as it stands. */
  get trying(): boolean {
    return this.#choices !== null;
  }

  /** The first way is as things stand now. */
  begin(): void {
    this.#choices = [];
    this.#radices = [];
  }

  end(): void {
    this.#choices = null;
  }

  /** Which of `count` ways the next ambiguous step goes. */
  index(count: number): number {
    if (count < 2 || this.#choices === null) return 0;
    const at = this.#radices.push(count) - 1;
    return Math.min(this.#choices[at] ?? 0, count - 1);
  }

  /** Goes on to the next way; false after the last. */
  next(): boolean {
    const choices = this.#choices ?? [];
    const radices = this.#radices;
    this.#radices = [];
    for (let at = radices.length - 1; at >= 0; at--) {
      const now = (choices[at] ?? 0) + 1;
      if (now >= (radices[at] ?? 0)) continue;
      this.#choices = Array.from({ length: at }, (_, index) => choices[index] ?? 0);
      this.#choices.push(now);
      return true;
    }
    return false;
  }

  /** Does something of another CPU, which goes as it stands. */
  outside(what: () => void): void {
    const choices = this.#choices;
    this.#choices = null;
    what();
    this.#choices = choices;
  }
}

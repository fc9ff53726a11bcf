/**
 * Splits TypeScript into what is code and what is comment, without a parser: every character stays
 * at its place, so that offsets and line numbers found in one layer are true in the other. In
 * `code` the comments and the insides of strings, templates and regular expressions are blanks; in
 * `comments` everything else is. The one thing that needs a guess is `/`: it starts a regular
 * expression unless what stands before it can end an expression.
 */

/** Two texts of the length of the source. */
export interface Layers {
  readonly code: string;
  readonly comments: string;
}

/** A word before `/` that cannot end an expression, so that a regular expression follows. */
const BEFORE_REGEXP =
  /(?:^|[^\w$.])(?:return|typeof|case|in|of|do|else|void|delete|throw|new|await|yield|instanceof)$/;

const blank = (text: string): string => text.replace(/[^\n]/g, ' ');

class Splitter {
  private readonly source: string;
  private at = 0;
  private code = '';
  private comments = '';
  /** Depth of braces at which each open `${` ends. */
  private readonly templates: number[] = [];
  private braces = 0;

  constructor(source: string) {
    this.source = source;
  }

  split(): Layers {
    while (this.at < this.source.length) this.step();
    return { code: this.code, comments: this.comments };
  }

  private step(): void {
    const char = this.source.charAt(this.at);
    const two = this.source.slice(this.at, this.at + 2);
    if (two === '//' || (two === '#!' && this.at === 0)) this.takeComment(this.until('\n'));
    else if (two === '/*') this.takeComment(this.until('*/', 2) + 2);
    else if (char === "'" || char === '"') this.takeQuoted(char);
    else if (char === '`') this.takeTemplate();
    else if (char === '/' && this.startsRegExp()) this.takeRegExp();
    else if (char === '}' && this.templates.at(-1) === this.braces) this.resumeTemplate();
    else this.takePlain(char);
  }

  private until(text: string, from = 0): number {
    const found = this.source.indexOf(text, this.at + from);
    return found === -1 ? this.source.length : found;
  }

  private takeComment(end: number): void {
    const text = this.source.slice(this.at, end);
    this.code += blank(text);
    this.comments += text;
    this.at += text.length;
  }

  private takeCode(text: string): void {
    this.code += text;
    this.comments += blank(text);
    this.at += text.length;
  }

  private takePlain(char: string): void {
    if (char === '{') this.braces += 1;
    if (char === '}') this.braces -= 1;
    this.takeCode(char);
  }

  private takeBlank(end: number): void {
    const text = blank(this.source.slice(this.at, end));
    this.code += text;
    this.comments += text;
    this.at += text.length;
  }

  private takeQuoted(quote: string): void {
    this.takeCode(quote);
    this.takeBlank(this.endOf((char) => char === quote || char === '\n'));
    if (this.source.charAt(this.at) === quote) this.takeCode(quote);
  }

  private takeTemplate(): void {
    this.takeCode('`');
    this.restOfTemplate();
  }

  private resumeTemplate(): void {
    this.templates.pop();
    this.takeCode('}');
    this.restOfTemplate();
  }

  private restOfTemplate(): void {
    this.takeBlank(
      this.endOf((char, index) => char === '`' || this.source.startsWith('${', index)),
    );
    if (this.source.startsWith('${', this.at)) {
      this.takeCode('${');
      this.templates.push(this.braces);
    } else if (this.at < this.source.length) {
      this.takeCode('`');
    }
  }

  private startsRegExp(): boolean {
    const before = this.code.trimEnd();
    return before === '' || /[=([{,;:!&|?+\-*%~^<>}]$/.test(before) || BEFORE_REGEXP.test(before);
  }

  private takeRegExp(): void {
    this.takeCode('/');
    let inClass = false;
    const end = this.endOf((char) => {
      if (char === '[') inClass = true;
      if (char === ']') inClass = false;
      return char === '\n' || (char === '/' && !inClass);
    });
    this.takeBlank(end);
    if (this.source.charAt(this.at) === '/') this.takeCode('/');
  }

  /** The first offset from here that `isEnd`, where a backslash hides the character after it. */
  private endOf(isEnd: (char: string, index: number) => boolean): number {
    for (let index = this.at; index < this.source.length; index += 1) {
      const char = this.source.charAt(index);
      if (char === '\\') index += 1;
      else if (isEnd(char, index)) return index;
    }
    return this.source.length;
  }
}

/** Splits `source` into its layers. */
export function splitLayers(source: string): Layers {
  return new Splitter(source).split();
}

/** The 1-based line of an offset. */
export function lineOf(source: string, offset: number): number {
  return source.slice(0, offset).split('\n').length;
}

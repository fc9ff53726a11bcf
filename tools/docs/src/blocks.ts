/**
 * Finds the fenced blocks of a Markdown document. Every fence must name its language, and the
 * language says whether the block is executed: a document cannot slip out of being run by calling
 * its commands something else, because a name that is not in the table is refused.
 */

/** What happens to a block of a language, and why. */
export const LANGUAGES: Readonly<
  Record<string, { readonly run: boolean; readonly reason: string }>
> = {
  sh: { run: true, reason: 'commands that a reader types here' },
  ts: { run: true, reason: 'code that a reader copies' },
  console: { run: false, reason: 'commands that need root, another kernel or another machine' },
  text: { run: false, reason: 'output; right after a ts block it is what that block prints' },
  json: { run: false, reason: 'data' },
  yaml: { run: false, reason: 'data' },
  diff: { run: false, reason: 'a change' },
  c: { run: false, reason: 'kernel code that we talk about' },
  mermaid: { run: false, reason: 'a drawing' },
};

/** A fenced block. */
export interface Block {
  readonly path: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
  readonly language: string;
  readonly text: string;
  /** The text block that follows with nothing but empty lines between, if there is one. */
  readonly output?: string;
}

const FENCE = /^(?<indent> *)(?<ticks>`{3,})(?<info>[^`]*)$/;

/**
 * All blocks of a document, in order. Throws for a fence without an end or without a known
 * language.
 */
export function blocksOf(path: string, markdown: string): readonly Block[] {
  const lines = markdown.split('\n');
  const found: { readonly block: Block; readonly end: number }[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const open = FENCE.exec(lines[at] ?? '')?.groups;
    if (open === undefined) continue;
    const ticks = open['ticks'] ?? '';
    const end = lines.findIndex((line, index) => index > at && line.trim() === ticks);
    if (end === -1) throw new Error(`${path}:${at + 1}: a fence that does not end`);
    const language = (open['info'] ?? '').trim();
    if (LANGUAGES[language] === undefined) {
      throw new Error(
        `${path}:${at + 1}: a fence of "${language}": say one of ${Object.keys(LANGUAGES).join(', ')}`,
      );
    }
    const indent = (open['indent'] ?? '').length;
    const text = lines
      .slice(at + 1, end)
      .map((line) => line.slice(Math.min(indent, line.search(/\S|$/))));
    found.push({ block: { path, line: at + 1, language, text: text.join('\n') }, end });
    at = end;
  }
  return found.map(({ block, end }, index) => {
    const next = found[index + 1]?.block;
    const follows =
      next?.language === 'text' &&
      lines.slice(end + 1, next.line - 1).every((line) => line.trim() === '');
    return follows ? { ...block, output: next.text } : block;
  });
}

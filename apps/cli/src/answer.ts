/** How an answer is printed: as text, as Markdown, or as JSON of its view. */
import { UsageError } from '@shootdown/machine';
import { type Block, renderMarkdown, renderText } from '@shootdown/report';
import { jsonText } from './json.ts';
import { type Format, parseFormat } from './options.ts';
import type { Output } from './replay.ts';

/** The formats of an answer that is one document. */
export type DocumentFormat = Exclude<Format, 'ndjson'>;

/** @throws UsageError ERR_FORMAT_NAME */
export function parseDocumentFormat(word: string): DocumentFormat {
  const format = parseFormat(word);
  if (format !== 'ndjson') return format;
  throw new UsageError('ERR_FORMAT_NAME', '--format ndjson is for replay; use text, md or json');
}

/** Prints `view`, or the blocks that it is drawn as. */
export function writeAnswer(
  view: object,
  blocks: () => readonly Block[],
  format: DocumentFormat,
  output: Output,
): void {
  if (format === 'json') output.write(`${jsonText(view, 2)}\n`);
  else if (format === 'md') output.write(renderMarkdown(blocks()));
  else output.write(renderText(blocks(), output.style));
}

/**
 * A report as a list of blocks, and the two plain forms that draw them: text for a terminal of 100
 * columns, and Markdown for a cover letter.
 */

/** A column of a table. */
export interface Column {
  readonly title: string;
  /**
   * A `bar` holds a bar of up to BAR characters; it shrinks to what room is left, since it only
   * repeats a number.
   */
  readonly align: 'left' | 'right' | 'bar';
}

/** A column of words. */
export const left = (title: string): Column => ({ title, align: 'left' });

/** A column of numbers. */
export const right = (title: string): Column => ({ title, align: 'right' });

/** The longest bar. */
export const BAR = 10;

/** A piece of a report. */
export type Block =
  | { readonly kind: 'heading'; readonly text: string }
  | { readonly kind: 'lead'; readonly lines: readonly string[] }
  | { readonly kind: 'lines'; readonly lines: readonly string[] }
  | { readonly kind: 'warning'; readonly text: string }
  | {
      readonly kind: 'table';
      readonly columns: readonly Column[];
      readonly rows: readonly (readonly string[])[];
    }
  | { readonly kind: 'drawing'; readonly lines: readonly string[] };

/** How a terminal emphasises; the identity where it cannot or must not. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  warn(text: string): string;
}

/** No emphasis. */
export const PLAIN: Style = { bold: (text) => text, dim: (text) => text, warn: (text) => text };

const WIDTH = 100;
/** No column of words is made narrower. */
const NARROWEST = 8;

/**
 * Names of tasks come from strangers' traces: no control character of theirs may reach a terminal,
 * and none of the characters that turn text around.
 */
export function harmless(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\ufffd');
}

function harmlessBlock(block: Block): Block {
  switch (block.kind) {
    case 'heading':
    case 'warning':
      return { ...block, text: harmless(block.text) };
    case 'table':
      return { ...block, rows: block.rows.map((row) => row.map(harmless)) };
    case 'lead':
    case 'lines':
    case 'drawing':
      return { ...block, lines: block.lines.map(harmless) };
  }
}

/** The blocks as text, 100 columns wide. */
export function renderText(blocks: readonly Block[], style: Style): string {
  const parts = blocks.map(harmlessBlock).map((block): string => {
    switch (block.kind) {
      case 'heading':
        return wrap(block.text, WIDTH)
          .map((line) => style.bold(line))
          .join('\n');
      case 'lead':
        return block.lines
          .flatMap((line) => wrap(line, WIDTH))
          .map((line) => style.bold(line))
          .join('\n');
      case 'lines':
        return block.lines
          .flatMap((line) => wrap(line, WIDTH))
          .map((line) => style.dim(line))
          .join('\n');
      case 'warning':
        return wrap(block.text, WIDTH - 2)
          .map((line, i) => style.warn(`${i === 0 ? '!' : ' '} ${line}`))
          .join('\n');
      case 'table':
        return tableLines(block.columns, block.rows, style).join('\n');
      case 'drawing':
        return block.lines.map((line) => `  ${line}`).join('\n');
    }
  });
  // A heading stands right above what it heads; everything else is set apart.
  return `${parts.map((part, i) => (i === 0 || blocks[i - 1]?.kind === 'heading' ? part : `\n${part}`)).join('\n')}\n`;
}

function tableLines(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  style: Style,
): readonly string[] {
  const widths = fit(columns, rows);
  const draw = (cells: readonly string[]): string => {
    const parts = columns.map((column, i) => {
      const cell = cells[i] ?? '';
      const width = widths[i] ?? 0;
      return column.align === 'right' ? cell.padStart(width) : cell.padEnd(width);
    });
    return `  ${parts.join('  ')}`.trimEnd();
  };
  const lines = [style.dim(draw(columns.map((column) => column.title)))];
  for (const row of rows) {
    const cells = columns.map((column, i) => {
      const cell = row[i] ?? '';
      const width = widths[i] ?? 0;
      return column.align === 'bar'
        ? ['█'.repeat(Math.ceil((cell.length * width) / BAR))]
        : wrap(cell, Math.max(1, width));
    });
    const height = Math.max(...cells.map((parts) => parts.length));
    for (let line = 0; line < height; line++)
      lines.push(draw(cells.map((parts) => parts[line] ?? '')));
  }
  return lines;
}

/**
 * Widths that fit WIDTH: bars give way first, then the widest left-aligned columns, whose cells
 * then take several lines.
 */
function fit(columns: readonly Column[], rows: readonly (readonly string[])[]): readonly number[] {
  const widths = columns.map((column, i) =>
    Math.max(column.title.length, ...rows.map((row) => (row[i] ?? '').length)),
  );
  let over = widths.reduce((sum, width) => sum + width + 2, 0) - WIDTH;
  const shrink = (index: number, least: number): void => {
    const width = widths[index] ?? 0;
    const less = Math.max(0, Math.min(over, width - least));
    widths[index] = width - less;
    over -= less;
  };
  for (const [index, column] of columns.entries()) if (column.align === 'bar') shrink(index, 0);
  const words = columns.flatMap((column, i) => (column.align === 'left' ? [i] : []));
  // One character less each step.
  for (let step = over; step > 0; step--) {
    const widest = words.toSorted((a, b) => (widths[b] ?? 0) - (widths[a] ?? 0))[0];
    if (widest === undefined || (widths[widest] ?? 0) <= NARROWEST) break;
    shrink(widest, (widths[widest] ?? 0) - 1);
  }
  return widths;
}

/** A space at which no line is broken. */
export const NO_BREAK = '\u00a0';

/** A word wider than `width` in pieces, broken behind a comma where there is one. */
function pieces(word: string, width: number): readonly string[] {
  if (word.length <= width) return [word];
  const comma = word.lastIndexOf(',', width - 1);
  const end = comma > 0 ? comma + 1 : width;
  return [word.slice(0, end), ...pieces(word.slice(end), width)];
}

/** Breaks `text` at spaces into lines of at most `width`; a longer word is cut. */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ').flatMap((one) => pieces(one, width))) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.map((broken) => broken.replaceAll(NO_BREAK, ' '));
}

/** The blocks as Markdown. */
export function renderMarkdown(blocks: readonly Block[]): string {
  const parts = blocks.map(harmlessBlock).map((block): string => {
    switch (block.kind) {
      case 'heading':
        return `### ${escape(block.text)}`;
      case 'lead':
        return block.lines.map((line) => `**${escape(line)}**`).join('\n\n');
      case 'lines':
        return block.lines.map(escape).join('  \n');
      case 'warning':
        return `> ${escape(block.text)}`;
      case 'table': {
        const head = `| ${block.columns.map((column) => escape(column.title)).join(' | ')} |`;
        const rule = `| ${block.columns.map((column) => (column.align === 'right' ? '--:' : ':--')).join(' | ')} |`;
        return [head, rule, ...block.rows.map((row) => `| ${row.map(escape).join(' | ')} |`)].join(
          '\n',
        );
      }
      case 'drawing':
        return ['```text', ...block.lines, '```'].join('\n');
    }
  });
  return `${parts.join('\n\n')}\n`;
}

/** Task names come from strangers' traces: nothing in them may become markup. */
function escape(text: string): string {
  return text
    .replaceAll(NO_BREAK, ' ')
    .replace(/[\\`*_{}[\]<>#|~]/g, (char) => `\\${char}`)
    .replace(/\n/g, ' ');
}

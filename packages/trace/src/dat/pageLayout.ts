/**
 * The layout of a ring-buffer page, from the text of events/header_page: a timestamp, the bytes in
 * use with two flags, then events.
 */
import type { DatFile } from './datFile.ts';
import { parseFields } from './eventFormat.ts';

/** Offsets inside a page. */
export interface PageLayout {
  readonly timestamp: number;
  readonly commit: number;
  /** 4 or 8: the size of a long in the kernel, which may differ from that of its user space. */
  readonly commitSize: 4 | 8;
  readonly data: number;
}

/**
 * In the low word of `commit`: the bytes in use, and what is known of events lost before this page.
 */
export const Commit = {
  bytes: 0x07ff_ffff,
  missedStored: 0x4000_0000,
  missed: 0x8000_0000,
} as const;

/** Reads the layout. @throws TraceFormatError ERR_TRACE_CORRUPT when the text describes no page. */
export function pageLayout(file: DatFile, headerPage: string): PageLayout {
  const fields = new Map(parseFields(headerPage).map((field) => [field.name, field]));
  const timestamp = fields.get('timestamp');
  const commit = fields.get('commit');
  const data = fields.get('data');
  const usable =
    timestamp?.size === 8 &&
    commit !== undefined &&
    data !== undefined &&
    data.offset >= commit.offset + commit.size &&
    data.offset <= 64;
  if (!usable || timestamp.offset > 56 || (commit.size !== 4 && commit.size !== 8)) {
    throw file.error(
      'ERR_TRACE_CORRUPT',
      0,
      'a header_page with timestamp, commit and data',
      JSON.stringify(headerPage.slice(0, 200)),
    );
  }
  return {
    timestamp: timestamp.offset,
    commit: commit.offset,
    commitSize: commit.size,
    data: data.offset,
  };
}

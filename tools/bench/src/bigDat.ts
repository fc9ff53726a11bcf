/**
 * A large trace.dat out of a small one: trace-cmd converts it to version 6, whose per-CPU data is
 * plain ring-buffer pages, and the pages are then repeated with later timestamps. Formats, event
 * mix and page fill stay those of a real machine, and trace-cmd can read the result.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PAGE = 4096;

/**
 * Writes `times` repetitions of the recording `from` into `folder`; returns the new file's path.
 */
export function makeBigDat(from: string, times: number, folder: string): string {
  const v6 = join(folder, 'v6.dat');
  execFileSync('trace-cmd', ['convert', '-i', from, '-o', v6, '--file-version', '6'], {
    stdio: 'ignore',
  });
  const bytes = readFileSync(v6);
  const table = bytes.lastIndexOf('flyrecord\0') + 'flyrecord\0'.length;
  const firstData = Number(bytes.readBigUInt64LE(table));
  const extents: { offset: number; size: number }[] = [];
  // The table ends where the first CPU's data may begin at the earliest: entries are offset and
  // size, 16 bytes.
  for (let at = table; at + 16 <= firstData && extents.length < 4096; at += 16) {
    const offset = Number(bytes.readBigUInt64LE(at));
    const size = Number(bytes.readBigUInt64LE(at + 8));
    if (offset < firstData || offset > bytes.length) break;
    extents.push({ offset, size });
  }
  const parts: Buffer[] = [];
  const head = Buffer.from(bytes.subarray(0, firstData));
  let position = firstData;
  for (const [index, { offset, size }] of extents.entries()) {
    head.writeBigUInt64LE(BigInt(position), table + 16 * index);
    head.writeBigUInt64LE(BigInt(size * times), table + 16 * index + 8);
    for (let copy = 0; copy < times; copy++) {
      const pages = Buffer.from(bytes.subarray(offset, offset + size));
      // A minute apart, longer than any of the recordings.
      for (let page = 0; page + 8 <= size; page += PAGE)
        pages.writeBigUInt64LE(pages.readBigUInt64LE(page) + 60_000_000_000n * BigInt(copy), page);
      parts.push(pages);
    }
    position += size * times;
  }
  const path = join(folder, 'big.dat');
  writeFileSync(path, Buffer.concat([head, ...parts]));
  return path;
}

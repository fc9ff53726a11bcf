/**
 * How fast recordings are read and answered, beside the designs that were not taken and beside
 * trace-cmd.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { bytesSource, type ByteSource, openTrace } from '@shootdown/trace';
import { nodeCodecs } from '@shootdown/trace/node';
import { countReplay } from '@shootdown/whatif';
import { makeBigDat } from './bigDat.ts';
import { type Measured, measure } from './measure.ts';
import { readlineAndRegex, splitAndRegex } from './rejected.ts';

const EXAMPLES = new URL('../../../examples/traces/', import.meta.url);

/** How much work a run of the benchmarks does. */
export interface Size {
  readonly textMegabytes: number;
  readonly datRepeats: number;
  readonly runs: number;
}

/** ftrace text: the recording of 6.12 repeated, from memory, so that no disk is measured. */
export async function textBench(size: Size): Promise<readonly Measured[]> {
  const text = gunzipSync(readFileSync(new URL('qemu-6.12-smp8.ftrace.txt.gz', EXAMPLES)));
  const header = text.subarray(0, text.indexOf('\n', text.indexOf('| |')) + 1);
  const body = text.subarray(header.length);
  const times = Math.max(1, Math.round((size.textMegabytes * 1e6) / body.length));
  const megabytes = (header.length + body.length * times) / 1e6;
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(header);
    for (let i = 0; i < times; i++) yield new Uint8Array(body);
  }
  const source: ByteSource = { name: 'bench', size: null, chunks };
  const zipped = gzipSync(Buffer.concat([header, ...Array.from({ length: times }, () => body)]));
  const { runs } = size;
  return [
    await measure('read ftrace text', 'MB', runs, async () => {
      await drain(source);
      return megabytes;
    }),
    await measure('read and count (replay)', 'MB', runs, async () => {
      await countReplay(await openTrace(source));
      return megabytes;
    }),
    await measure('read ftrace text, gzip (MB of text)', 'MB', runs, async () => {
      await drain(bytesSource('bench', zipped));
      return megabytes;
    }),
    await measure(
      'rejected: decode, split, regular expression',
      'MB',
      Math.min(2, runs),
      async () => {
        await splitAndRegex(chunks());
        return megabytes;
      },
    ),
    await measure('rejected: readline, regular expression', 'MB', Math.min(2, runs), async () => {
      await readlineAndRegex(chunks());
      return megabytes;
    }),
  ];
}

/**
 * trace.dat: the isolated67 recording repeated; `trace-cmd report` prints the same file in the same
 * run.
 */
export async function datBench(size: Size): Promise<readonly Measured[]> {
  const folder = mkdtempSync(join(tmpdir(), 'shootdown-bench-'));
  try {
    const path = makeBigDat(
      fileURLToPath(new URL('qemu-6.12-isolated67.v7-zstd.dat', EXAMPLES)),
      size.datRepeats,
      folder,
    );
    const { runs } = size;
    return [
      await measure('read trace.dat', 'events', runs, async () => await withFile(path, drain)),
      await measure('read and count (replay)', 'events', runs, async () =>
        withFile(path, async (source) => (await countReplay(await openTrace(source))).records),
      ),
      await measure('trace-cmd report > /dev/null', 'events', Math.min(2, runs), async () => {
        execFileSync('trace-cmd', ['report', path], { stdio: ['ignore', 'ignore', 'ignore'] });
        return await withFile(path, drain);
      }),
    ].map((measured, i, all) => (i === 2 ? withoutOurs(measured, all[0]) : measured));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * trace-cmd does not say how many events it printed, so its run counts them with our reader, whose
 * time is taken off again.
 */
function withoutOurs(both: Measured, ours: Measured | undefined): Measured {
  return { ...both, seconds: both.seconds - (ours?.seconds ?? 0) };
}

async function drain(source: ByteSource): Promise<number> {
  const trace = await openTrace(source, { codecs: nodeCodecs });
  let events = 0;
  for await (const batch of trace.batches()) events += batch.length;
  return events;
}

async function withFile<T>(path: string, body: (source: ByteSource) => Promise<T>): Promise<T> {
  const file = await open(path);
  try {
    return await body({
      name: path,
      size: statSync(path).size,
      async *chunks() {
        for (let offset = 0; ;) {
          const { bytesRead, buffer } = await file.read(
            new Uint8Array(1 << 20),
            0,
            1 << 20,
            offset,
          );
          if (bytesRead === 0) return;
          offset += bytesRead;
          yield buffer.subarray(0, bytesRead);
        }
      },
      async read(offset, length) {
        const { bytesRead, buffer } = await file.read(new Uint8Array(length), 0, length, offset);
        return buffer.subarray(0, bytesRead);
      },
    });
  } finally {
    await file.close();
  }
}

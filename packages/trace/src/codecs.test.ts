import { gzipSync, deflateSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { portableCodecs } from './codecs.ts';
import { nodeCodecs } from './node.ts';
import type { Codecs } from './source.ts';

const KINDS: readonly (readonly [string, Codecs])[] = [
  ['portable', portableCodecs],
  ['node', nodeCodecs],
];

/** Bytes that compress, but not to nothing. */
function sample(length: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, (_, i) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return i % 3 === 0 ? state >>> 24 : i & 0x1f;
  });
}

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
}

/** All that a gunzip gave, and what it threw. */
async function collect(
  codecs: Codecs,
  bytes: Uint8Array,
  piece = 1000,
): Promise<{ out: Uint8Array; error: unknown }> {
  const parts: Uint8Array[] = [];
  let error: unknown = null;
  try {
    for await (const part of codecs.gunzip(inPieces(bytes, piece))) parts.push(part);
  } catch (thrown) {
    error = thrown;
  }
  return { out: new Uint8Array(Buffer.concat(parts)), error };
}

function outcome(run: () => Uint8Array): Uint8Array | 'thrown' {
  try {
    return run();
  } catch {
    return 'thrown';
  }
}

describe.each(KINDS)('%s codecs', (_name, codecs) => {
  test('a gzip stream of one member comes out as it went in', async () => {
    const plain = sample(300_000);
    for (const piece of [977, 10_000, 1 << 20]) {
      const { out, error } = await collect(codecs, new Uint8Array(gzipSync(plain)), piece);
      expect(error).toBe(null);
      expect(Buffer.compare(out, plain)).toBe(0);
    }
  });

  test('a gzip stream of several members comes out joined, however it was cut', async () => {
    const parts = [sample(900, 1), sample(0, 2), sample(21_000, 3), sample(1, 4)];
    const packed = new Uint8Array(Buffer.concat(parts.map((part) => gzipSync(part))));
    for (const piece of [1, 2, 7, 19, 8191, 8192, 1 << 20]) {
      const { out, error } = await collect(codecs, packed, piece);
      expect(error).toBe(null);
      expect(Buffer.compare(out, Buffer.concat(parts))).toBe(0);
    }
  });

  test('a gzip stream that is cut gives what could be read, then throws', async () => {
    const plain = sample(300_000);
    const packed = new Uint8Array(gzipSync(plain));
    for (const cut of [
      packed.length - 1,
      packed.length - 8,
      packed.length - 9,
      packed.length >> 1,
      20,
      5,
      0,
    ]) {
      const { out, error } = await collect(codecs, packed.subarray(0, cut));
      expect(error, `cut at ${cut}`).toBeInstanceOf(Error);
      expect(Buffer.compare(out, plain.subarray(0, out.length))).toBe(0);
      expect(out.length).toBeGreaterThanOrEqual((plain.length * cut) / packed.length - 70_000);
    }
  });

  test('a gzip stream with a wrong checksum gives what could be read, then throws', async () => {
    const plain = sample(50_000);
    const packed = new Uint8Array(gzipSync(plain));
    packed.set([(packed.at(-8) as number) ^ 1], packed.length - 8);
    const { out, error } = await collect(codecs, packed);
    expect(error).toBeInstanceOf(Error);
    expect(out.length).toBeGreaterThan(plain.length - 16_384);
    expect(Buffer.compare(out, plain.subarray(0, out.length))).toBe(0);
  });

  test('a gzip bomb is handed over in bounded pieces', async () => {
    const packed = new Uint8Array(gzipSync(new Uint8Array(64 << 20)));
    let largest = 0;
    let total = 0;
    for await (const part of codecs.gunzip(inPieces(packed, packed.length))) {
      largest = Math.max(largest, part.length);
      total += part.length;
    }
    expect(total).toBe(64 << 20);
    expect(largest).toBeLessThanOrEqual(16 << 20);
  });

  test.each(['zlib', 'zstd'] as const)(
    '%s gives exactly the stated size and refuses any other',
    (kind) => {
      const pack = kind === 'zlib' ? deflateSync : zstdCompressSync;
      for (const length of [1, 40_960, 300_000]) {
        const plain = sample(length);
        const packed = new Uint8Array(pack(plain));
        expect(Buffer.compare(codecs[kind](packed, length), plain)).toBe(0);
        expect(outcome(() => codecs[kind](packed, length - 1))).toBe('thrown');
        expect(outcome(() => codecs[kind](packed, length + 1))).toBe('thrown');
        expect(outcome(() => codecs[kind](packed.subarray(0, packed.length - 1), length))).toBe(
          'thrown',
        );
      }
    },
  );

  test.each(['zlib', 'zstd'] as const)('a %s bomb throws instead of growing', (kind) => {
    const packed = new Uint8Array(
      (kind === 'zlib' ? deflateSync : zstdCompressSync)(new Uint8Array(256 << 20)),
    );
    expect(outcome(() => codecs[kind](packed, 4096))).toBe('thrown');
  });
});

test('both kinds of codecs refuse the same damaged zlib chunks, and give the stated size of a damaged zstd frame or nothing', () => {
  const plain = sample(3000);
  const packed = {
    zlib: new Uint8Array(deflateSync(plain)),
    zstd: new Uint8Array(zstdCompressSync(plain)),
  };
  fc.assert(
    fc.property(
      fc.constantFrom('zlib' as const, 'zstd' as const),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (kind, where, flip) => {
        const damaged = packed[kind].slice();
        const at = where % damaged.length;
        damaged.set([(damaged[at] as number) ^ flip], at);
        const results = KINDS.map(([, codecs]) =>
          outcome(() => codecs[kind](damaged, plain.length)),
        );
        expect(
          results.every((result) => result === 'thrown' || result.length === plain.length),
        ).toBe(true);
        // zlib has a checksum that both look at; a zstd frame of trace-cmd has none, and damage may
        // pass as other bytes.
        expect(
          kind === 'zstd' ||
            results[0] === results[1] ||
            results.every((result) => result !== 'thrown'),
        ).toBe(true);
      },
    ),
    { numRuns: 400 },
  );
});

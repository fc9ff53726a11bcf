/**
 * The shipped recordings, counted outside our code with zcat, grep and awk, or by the kernel in
 * /proc/interrupts.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { cpuId } from '@shootdown/machine';
import { expect, test } from 'vitest';
import { countReplay } from './count.ts';
import { bytesSource, openTrace } from '@shootdown/trace';
import { example } from './examples.testlib.ts';
import type { Cause } from './ledger.ts';
import { tlbCalls } from './ledger.ts';
import type { ReplayCounts } from './result.ts';

const SIX_SEVEN = [cpuId(6), cpuId(7)];
const calls = (causes: readonly Cause[], match: Partial<Cause>): number =>
  causes
    .filter((cause) =>
      Object.entries(match).every(([key, value]) => cause[key as keyof Cause] === value),
    )
    .reduce((sum, cause) => sum + cause.calls, 0);

test('64 collapses on 8 CPUs: 448 table syncs, 60 by the collapser in madvise and 4 by khugepaged, 64 on each isolated CPU', async () => {
  const all = await countReplay(await example('qemu-6.12-thp-collapse.v7-zstd.dat'));
  const sync = all.causes.filter((cause) => cause.kind === 'table-sync');
  expect(
    sync.map(({ comm, origin, requests, calls: n }) => [
      comm,
      origin.kind,
      origin.name,
      requests,
      n,
    ]),
  ).toEqual([
    ['collapser', 'syscall', 'madvise(MADV_COLLAPSE)', 60, 60 * 7],
    ['khugepaged', 'kthread', 'khugepaged', 4, 4 * 7],
  ]);
  expect(all.machine.byKind['table-sync']).toBe(448);

  const isolated = await countReplay(await example('qemu-6.12-thp-collapse.v7-zstd.dat'), {
    isolated: SIX_SEVEN,
  });
  expect(isolated.accounts.map((account) => account.received.byKind['table-sync'])).toEqual([
    64, 64,
  ]);
  // grep -o 'hft-spin-[0-9]*' | sort | uniq -c, on the lines of CPUs 6 and 7
  expect(isolated.accounts.map((account) => account.tasks[0])).toEqual([
    'hft-spin-216',
    'hft-spin-217',
  ]);
  expect(isolated.accounts.map((account) => account.tlbRow)).toEqual([0, 0]);
});

test('two quiet CPUs: 123 calls, 88 of them TLB work, 109 interrupts, and a TLB row of 62', async () => {
  const counts = await countReplay(await example('qemu-6.12-isolated67.v7-zstd.dat'), {
    isolated: SIX_SEVEN,
  });
  expect(counts.evidence.level).toBe('A');
  expect(counts.received).toEqual({
    calls: 123,
    byKind: {
      'user-flush': 62,
      'flush-all': 24,
      'kernel-range': 2,
      'text-patching': 18,
      scheduler: 17,
    },
  });
  expect(tlbCalls(counts.received)).toBe(88);
  expect(calls(counts.causes, { comm: 'hft-log', kind: 'user-flush' })).toBe(52);
  expect(counts.accounts.reduce((sum, account) => sum + (account.callInterrupts ?? 0), 0)).toBe(
    109,
  );
  expect(counts.tlbRowBasis).toBe('counted');
  expect(counts.accounts.map((account) => account.tlbRow)).toEqual([31, 31]);
  // 505 csd_queue_cpu lines in the whole report.
  expect(counts.matrix.cells.reduce((sum, cell) => sum + cell.calls, 0)).toBe(505);
  // grep csd_queue_cpu | awk '$2 == "[000]"' | grep -o ' cpu=[0-9]*' | sort | uniq -c
  expect(counts.matrix.cells.filter((cell) => cell.from === 0).map((cell) => cell.calls)).toEqual([
    50, 61, 56, 54, 54, 16, 16,
  ]);
});

test('the TLB row that the trace tells equals the one that the kernel counted', async () => {
  const counts = await countReplay(await example('qemu-6.12-smp8.trace-cmd-report.txt.gz'));
  const row = (when: string): readonly number[] => {
    const file = new URL(
      `../../../examples/traces/qemu-6.12-smp8.proc-interrupts.${when}.txt`,
      import.meta.url,
    );
    const line = readFileSync(file, 'utf8')
      .split('\n')
      .find((text) => text.startsWith('TLB:'));
    return (line ?? '').trim().split(/\s+/).slice(1, 9).map(Number);
  };
  const before = row('before');
  const kernel = row('after').map((n, cpu) => n - (before[cpu] ?? 0));
  const traced = counts.accounts.map((account) => account.tlbRow ?? 0);
  expect(kernel).toEqual([0, 12, 23, 22, 23, 23, 14, 14]);
  // One flush on CPU 5 came after the recording had stopped and before the second snapshot.
  expect(traced.map((n, cpu) => (kernel[cpu] ?? 0) - n)).toEqual([0, 0, 0, 0, 0, 1, 0, 0]);
});

test('a 6.1 kernel names no target: evidence C, every received flush matched to the senders in sight', async () => {
  const counts = await countReplay(await example('qemu-6.1-rt-smp4.ftrace.txt.gz'));
  expect(counts.evidence.level).toBe('C');
  // zcat | grep -c 'tlb_flush.*(1)'
  const received = 93;
  expect(counts.flushes?.byReason[1]).toBe(received);
  const { one, ambiguous, none } = counts.evidence.matched ?? { one: 0, ambiguous: 0, none: 0 };
  expect(one + ambiguous + none).toBe(received);
  expect(counts.received.calls).toBe(received);
  expect(counts.tlbRowBasis).toBe('at-least');
  expect(counts.whatIf.find((row) => row.id === 'no-table-sync')).toMatchObject({
    calls: null,
    basis: 'no data in this trace',
  });
});

/** The report of isolated67 without the events whose names match, as an older kernel records it. */
async function without(pattern: RegExp): Promise<ReplayCounts> {
  const name = 'qemu-6.12-isolated67.trace-cmd-report.txt.gz';
  const file = readFileSync(new URL(`../../../examples/traces/${name}`, import.meta.url));
  const lines = gunzipSync(file).toString('latin1').split('\n');
  const kept = lines.filter((line) => !pattern.test(line)).join('\n');
  return countReplay(await openTrace(bytesSource(name, new TextEncoder().encode(kept))));
}

/** Who sent user flushes from where, to which CPUs. */
const senders = (counts: ReplayCounts): ReadonlySet<string> =>
  new Set(
    counts.causes
      .filter((cause) => cause.kind === 'user-flush' && cause.comm !== '?')
      .map((cause) => `${cause.comm}: ${cause.origin.name}`),
  );

test.each([
  ['B', / csd_\w+: /],
  ['C', / (?:csd_\w+|ipi_\w+): /],
])(
  'the same machine seen by evidence %s: nothing that evidence A does not say',
  async (level, pattern) => {
    const strong = await countReplay(await example('qemu-6.12-isolated67.trace-cmd-report.txt.gz'));
    const weak = await without(pattern);
    expect(weak.evidence.level).toBe(level);
    const strongCalls = new Map(
      strong.matrix.cells.map((cell) => [`${cell.from} ${cell.to}`, cell.calls]),
    );
    for (const { from, to, calls: n } of weak.matrix.cells) {
      expect(n, `CPU ${from} to CPU ${to}`).toBeLessThanOrEqual(
        strongCalls.get(`${from} ${to}`) ?? 0,
      );
    }
    const known = senders(strong);
    expect([...senders(weak)].filter((sender) => !known.has(sender))).toEqual([]);
    const flushes = weak.received.byKind['user-flush'] ?? 0;
    expect(flushes).toBeGreaterThan(100);
    expect(flushes).toBeLessThanOrEqual(strong.received.byKind['user-flush'] ?? 0);
  },
);

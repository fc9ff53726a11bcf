/** Sentences over small views; the numbers are those of the views. */
import { readFileSync } from 'node:fs';
import { cpuId } from '@shootdown/machine';
import { bytesSource, openTrace } from '@shootdown/trace';
import { CALL_KINDS, countReplay } from '@shootdown/whatif';
import { beforeAll, describe, expect, test } from 'vitest';
import { accountBlocks, tlbRowSentence } from './cpus.ts';
import { causeTable } from './causes.ts';
import { headline } from './headline.ts';
import { type CauseView, replayView, type ReplayView } from './view.ts';

let view: ReplayView;
let cause: CauseView;

beforeAll(async () => {
  const name = 'qemu-6.12-isolated67.v7-zstd.dat';
  const bytes = readFileSync(new URL(`../../../../examples/traces/${name}`, import.meta.url));
  const trace = await openTrace(bytesSource(name, bytes));
  const counts = await countReplay(trace, { isolated: [cpuId(6), cpuId(7)] });
  const context = { toolVersion: '0', file: name, bytes: null, header: trace.header };
  view = replayView(counts, { ...context, kinds: CALL_KINDS });
  const [first] = view.causes;
  if (first === undefined) throw new Error('no cause');
  cause = first;
});

/** The view of a trace with only these causes. */
function withCauses(
  causes: readonly Partial<CauseView>[],
  over: Partial<ReplayView> = {},
): ReplayView {
  const all = causes.map((part) => ({ ...cause, ...part }));
  const byKind: Record<string, number> = {};
  for (const { kind, calls } of all) byKind[kind] = (byKind[kind] ?? 0) + calls;
  const calls = all.reduce((sum, one) => sum + one.calls, 0);
  const tlbCalls = all.filter((one) => one.tlb).reduce((sum, one) => sum + one.calls, 0);
  return { ...view, causes: all, received: { calls, tlbCalls, byKind }, ...over };
}

describe('who sent most', () => {
  test('a kernel thread has no address space of its own', () => {
    const [, source] = headline(
      withCauses([{ task: 'khugepaged', in: 'khugepaged', inKind: 'kthread', calls: 3 }]),
    );
    expect(source).toBe('All 3 user TLB flushes came from khugepaged.');
  });

  test('kinds of one task are not added up', () => {
    const [, source] = headline(
      withCauses([
        { calls: 5 },
        { calls: 4, kind: 'table-sync', what: 'page-table sync', reach: 'all-cpus', in: 'madvise' },
      ]),
    );
    expect(source).toBe(
      'All 5 user TLB flushes came from hft-log (munmap); ' +
        'such calls go where its address space is loaded, idle (lazy) CPUs too.',
    );
  });

  test('one is one, and an unknown sender is nobody', () => {
    const lines = headline(withCauses([{ task: '?', calls: 9 }, { calls: 1 }]));
    expect(lines[1]).toMatch(/^1 of the 10 user TLB flushes came from hft-log/);
    expect(headline(withCauses([{ calls: 1 }]))).toEqual([
      'CPUs 6-7 were interrupted 109 times by function calls in 8.0 s: 1 of the 1 call queued to them was TLB work.',
      expect.stringMatching(/^The user TLB flush came from hft-log \(munmap\)/),
    ]);
  });
});

describe('weaker evidence', () => {
  const weak = (level: 'B' | 'C'): Partial<ReplayView> => ({
    evidence: { level, why: 'test', matched: null },
    complete: false,
    tlbRow: { basis: 'at-least', total: 2 },
  });

  test('B has seen calls sent, not queued', () => {
    const lines = headline(withCauses([{ calls: 3 }], weak('B')));
    expect(lines[0]).toContain(
      ': at least 3 of the 3 calls seen to be sent to them were TLB work.',
    );
    const table = causeTable(withCauses([{ calls: 3 }], weak('B')));
    expect(table.kind === 'table' && table.columns.map(({ title }) => title)).toContain('seen as');
  });

  test('none that is known is not at least 0', () => {
    const lines = headline(withCauses([{ calls: 3, tlb: false, kind: 'other' }], weak('B')));
    expect(lines[0]).toContain(
      '; of the 3 calls seen to be sent to them none is known to be TLB work.',
    );
  });

  test('more calls than interrupts: some interrupts were not recorded', () => {
    expect(headline(withCauses([{ calls: 500 }], weak('B')))[0]).toContain(
      'interrupted at least 109 times',
    );
  });

  test('C says what was received, and a cut with it', () => {
    const cut = { cpus: '2', from: null, to: null };
    expect(headline(withCauses([{ calls: 40 }], { ...weak('C'), cut }))[0]).toBe(
      'CPUs 6-7 received at least 40 TLB flushes from other CPUs in 8.0 s (from or to CPU 2 only).',
    );
    expect(headline(withCauses([{ calls: 40 }], { ...weak('C'), cut, isolated: '' }))[0]).toBe(
      'At least 40 TLB flushes were received by or from CPU 2 in 8.0 s.',
    );
  });

  test('tables say at least where calls may be missing, and no row of at least 0', () => {
    const [, table] = accountBlocks(withCauses([{ calls: 3 }], weak('C')));
    const [row] = table?.kind === 'table' ? table.rows : [];
    expect(row?.slice(4, 7)).toEqual(['>= 61', '>= 44', '>= 31']);
    expect(
      tlbRowSentence({ ...view, tlbRow: { basis: 'at-least', total: 0 } }, 'CPUs 6-7'),
    ).toBeNull();
  });
});

test('what the TLB row hides is listed, each kind in its own words', () => {
  expect(tlbRowSentence(view, 'CPUs 6-7')).toContain(
    '(24 flushes of everything, 2 kernel-range flushes)',
  );
});

test('interrupts of other kinds get a line', () => {
  const lines = accountBlocks(view).at(-1);
  expect(lines?.kind === 'lines' && lines.lines[0]).toMatch(
    /^Other interrupts there that were recorded: \d+ local_timer/,
  );
});

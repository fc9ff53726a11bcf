/** The order law notices whoever breaks it: one mutant for each of its sentences. */
import { call, localIrqRestore, localIrqSave, nop, PAGE_SIZE } from '@shootdown/machine';
import { describe, expect, test } from 'vitest';
import { coreFunctions } from './compose.ts';
import type { Kernel, Kthread } from './kernel.ts';
import { MODES, type Mode } from './kconfigModes.testlib.ts';
import { type AllFunctions, edition, onCpu } from './kernel.testlib.ts';
import { type Page, putPage } from './kernel/pageAlloc.ts';
import { freeTable } from './kernel/pgtable.ts';
import { type MmuGather, tlbFlushMmuTlbonly } from './mmuGather.ts';
import type { TableFreeing } from './probe.ts';
import { judge, type Mutation, type Plan } from './programs.testlib.ts';

function modeOf(name: string): Mode {
  const mode = MODES.find((one) => one.name === name);
  if (mode === undefined) throw new Error(`no mode is called ${name}`);
  return mode;
}

/** Both threads unmap pages and tables of their own, and empty what they share. */
const PLAN: Plan = {
  seed: 1,
  main: [
    { do: 'shared', empty: false, pages: 3 },
    { do: 'gup', shared: false },
    { do: 'touch', chunk: 0, pages: 5 },
    { do: 'unmapChunks', chunk: 0, chunks: 1 },
    { do: 'touch', chunk: 1, pages: 4 },
    { do: 'dontneed', chunk: 1, pages: 4 },
    { do: 'unmap', chunk: 1, pages: 2 },
  ],
  other: [
    { do: 'shared', empty: false, pages: 3 },
    { do: 'touch', chunk: 0, pages: 4 },
    { do: 'shared', empty: true, pages: 3 },
    { do: 'gup', shared: true },
    { do: 'unmapChunks', chunk: 0, chunks: 3 },
  ],
};

const SEEDS = Array.from({ length: 10 }, (_, index) => index + 1);

/** What the law says of ten schedules of the plan. */
const findings = (mode: string, mutation: Mutation = {}): readonly string[] =>
  SEEDS.flatMap((seed) => judge(modeOf(mode), { ...PLAN, seed }, mutation).broken);

const replace = (functions: Partial<AllFunctions>): Mutation => ({
  editions: [edition(functions)],
});

/** As __tlb_remove_table(), whatever it says about how. */
function* release(k: Kernel, table: Page, by: TableFreeing): Kthread {
  k.probe?.({ kind: 'free-table', table, by });
  yield* call(freeTable(k, table));
}

/** A kernel thread on CPU 3 that has interrupts off again and again, and no user memory. */
function besideReader(k: Kernel): void {
  onCpu(k, 3, function* () {
    for (let round = 0; round < 20; round++) {
      const flags = yield* localIrqSave();
      for (let step = 0; step < 150; step++) yield* nop();
      yield* localIrqRestore(flags);
    }
  });
}

const RCU = 'RCU_TABLE_FREE';

test.each([RCU, 'TABLE_FREE', 'none', 'x86 7.0', 'TABLE_FREE, NO_GATHER'])(
  'the plan itself breaks nothing: %s',
  (mode) => {
    expect(findings(mode)).toEqual([]);
    expect(findings(mode, { beside: besideReader })).toEqual([]);
  },
);

describe('a page is not freed', () => {
  test('by who invalidates nothing', () => {
    const found = findings(RCU, replace({ *tlbFlush() {} }));
    expect(found.join('\n')).toMatch(
      /page \d+ is freed, unmapped from 0x1000\w+ of mm\d+, before an invalidation covers it/,
    );
    expect(found.join('\n')).toMatch(/page \d+ is freed while CPU \d.* may still use it/);
  });

  test('by who invalidates when it has freed', () => {
    const tlbFlush = function* (k: Kernel, tlb: MmuGather): Kthread {
      for (const { page } of tlb.active.pages.splice(0)) yield* call(putPage(k, page));
      yield* call(coreFunctions.tlbFlush(k, tlb));
    };
    const found = findings(RCU, replace({ tlbFlush })).join('\n');
    expect(found).toMatch(
      /page \d+ is freed, unmapped from 0x\w+ of mm\d+, before a flush covers it/,
    );
    expect(found).toMatch(/before an invalidation covers it/);
  });

  test('by a backend that forgets the first page of a range', () => {
    const found = findings(RCU, {
      backend: (backend) => ({
        ...backend,
        flushTlbMmRange: (k, info) =>
          backend.flushTlbMmRange(k, { ...info, start: info.start + PAGE_SIZE }),
      }),
    });
    expect(found.join('\n')).toMatch(/before an invalidation covers it/);
    // The gather did ask for it.
    expect(found.join('\n')).not.toMatch(/before a flush covers it/);
  });

  test('without page batches, by a backend that clears entries and forgets to invalidate', () => {
    const mode = 'TABLE_FREE, NO_GATHER';
    const found = findings(mode, {
      backend: (backend) => ({
        ...backend,
        *flushTlbMmRange(k, info) {
          if (info.freedTables) yield* call(backend.flushTlbMmRange(k, info));
        },
      }),
    });
    expect(found.join('\n')).toMatch(/before an invalidation covers it/);
  });
});

describe('a table is not freed', () => {
  test('as soon as it is unhooked', () => {
    const tlbRemoveTable = (k: Kernel, _tlb: MmuGather, table: Page): Kthread =>
      release(k, table, 'direct');
    const found = findings(RCU, replace({ tlbRemoveTable })).join('\n');
    expect(found).toMatch(/table \d+ of mm\d+ is freed \(direct\) before a flush for tables/);
    expect(found).toMatch(
      /table \d+ of mm\d+ is freed \(direct\) before an invalidation for tables/,
    );
    expect(found).toMatch(/table \d+ is freed while CPU \d.* may still use it/);
  });

  test('by a backend that leaves out CPUs which are lazy', () => {
    const found = findings(RCU, {
      backend: (backend) => ({
        ...backend,
        flushTlbMmRange: (k, info) => backend.flushTlbMmRange(k, { ...info, freedTables: false }),
      }),
    });
    expect(found.join('\n')).toMatch(/is freed \(\w+\) before an invalidation for tables/);
    expect(found.join('\n')).not.toMatch(/before a flush for tables/);
  });

  test('by RCU without a grace period', () => {
    const tlbRemoveTable = function* (k: Kernel, tlb: MmuGather, table: Page): Kthread {
      yield* call(tlbFlushMmuTlbonly(k, tlb));
      yield* call(release(k, table, 'rcu'));
    };
    const found = findings(RCU, { ...replace({ tlbRemoveTable }), beside: besideReader });
    expect(found.join('\n')).toMatch(
      /is freed \(rcu\) while a reader from before goes on: .*CPU 3 since \d+/,
    );
  });

  test('alone, without a wait for walkers', () => {
    const tlbRemoveTableOne = (k: Kernel, _tlb: MmuGather, table: Page): Kthread =>
      release(k, table, 'one');
    const found = findings(RCU, replace({ tlbRemoveTableOne })).join('\n');
    expect(found).toMatch(/table \d+ of mm\d+ is freed \(one\) without a wait for walkers/);
    // Without RCU freeing the flush's interrupts are the wait.
    expect(findings('TABLE_FREE', replace({ tlbRemoveTableOne }))).toEqual([]);
  });

  test('alone, with a wait that comes too late', () => {
    const tlbRemoveTableOne = function* (k: Kernel, tlb: MmuGather, table: Page): Kthread {
      yield* call(release(k, table, 'one'));
      yield* call(k.fn.tlbRemoveTableSyncOne(k));
    };
    const found = findings(RCU, replace({ tlbRemoveTableOne })).join('\n');
    expect(found).toMatch(/is freed \(one\) without a wait for walkers/);
  });

  test('after a wait that waits for nobody', () => {
    const tlbRemoveTableSyncOne = function* (k: Kernel): Kthread {
      k.probe?.({ kind: 'sync', by: 'ipi' });
      yield* nop();
    };
    const found = findings(RCU, { ...replace({ tlbRemoveTableSyncOne }), beside: besideReader });
    expect(found.join('\n')).toMatch(
      /is freed \(one\) while a reader from before goes on: .*CPU 3 since \d+/,
    );
  });

  test('twice, nor never', () => {
    const forgetful = findings(RCU, replace({ *tlbRemoveTable() {} })).join('\n');
    expect(forgetful).toMatch(/table \d+ of mm\d+ was unhooked and is never freed/);
    const tlbRemoveTableOne = function* (k: Kernel, tlb: MmuGather, table: Page): Kthread {
      yield* call(coreFunctions.tlbRemoveTableOne(k, tlb, table));
      k.probe?.({ kind: 'free-table', table, by: 'one' });
    };
    const eager = findings(RCU, replace({ tlbRemoveTableOne })).join('\n');
    expect(eager).toMatch(/table \d+ is freed and was never unhooked/);
  });
});

test('whoever frees by interrupts alone has waited for walkers', () => {
  // GUP-fast again and again, on a CPU that has the mm loaded, while the other one frees tables.
  const walks = Array.from({ length: 12 }, () => ({ do: 'gup', shared: false }) as const);
  const plan: Plan = {
    seed: 1,
    main: [
      { do: 'touch', chunk: 0, pages: 2 },
      { do: 'unmapChunks', chunk: 0, chunks: 3 },
    ],
    other: [{ do: 'touch', chunk: 0, pages: 9 }, ...walks],
  };
  const judged = (mutation: Mutation): string =>
    Array.from({ length: 30 }, (_, seed) =>
      judge(modeOf('TABLE_FREE'), { ...plan, seed: seed + 1 }, mutation),
    )
      .flatMap(({ broken }) => broken)
      .join('\n');
  expect(judged({})).toBe('');
  // A backend that says it is done and has interrupted nobody.
  const nobody = judged({
    backend: (backend) => ({ ...backend, *flushTlbMmRange() {} }),
  });
  expect(nobody).toMatch(/is freed \(batch\) while somebody walks in it: CPU 1 since \d+/);
});

/** The table of rules, and what composeKernel refuses. */
import { Machine, UsageError } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import { mmFunctions } from '@shootdown/linux-mm';
import { describe, expect, test } from 'vitest';
import { composeKernel, coreFunctions } from './compose.ts';
import type { CoreFunctions } from './kernel.ts';
import { edition, testKernel } from './kernel.testlib.ts';
import { DEFAULT_RELEASE, type Release, RELEASES, RULES, type Rules, rulesOf } from './rules.ts';
import { type BackendParts, defineTlbBackend, NO_CLAIMS } from './tlb.ts';

describe('the table of rules', () => {
  test.each(Object.entries(RULES))(
    '%s has a value and its evidence for each release',
    (_, rule) => {
      expect(rule.holds).toHaveLength(RELEASES.length);
      expect(rule.evidence).toHaveLength(RELEASES.length);
      expect(rule.since).not.toBe('');
    },
  );

  test('is read by release', () => {
    for (const release of RELEASES)
      expect(Object.keys(rulesOf(release))).toEqual(Object.keys(RULES));
  });

  test.each<[keyof Rules, Release, boolean]>([
    // 6.12.117's switch_mm_irqs_off() clears the bit; 6.18's leaves it.
    ['cpumaskClearedLazily', '6.12.117', false],
    ['cpumaskClearedLazily', '6.18', true],
    ['pvRemovesTables', '6.12.117', true],
    ['pvRemovesTables', '6.18', false],
    ['ptReclaim', '6.12.117', false],
    ['ptReclaim', '7.0', true],
    // tlb_remove_table_one() of 6.12.117 calls tlb_remove_table_sync_one().
    ['tableOneByRcu', '6.12.117', false],
    ['tableOneByRcu', '7.0', false],
    ['tableOneByRcu', '7.3', true],
    // Back-ported further than to 6.18.
    ['unshareInGather', '6.12.117', true],
    ['unshareInGather', '6.18', false],
    ['unshareInGather', '7.0', true],
    ['pfnmapFlushInFreeVmas', '6.12.117', false],
    ['pfnmapFlushInFreeVmas', '7.0', true],
  ])('%s in %s: %s', (rule, release, holds) => {
    expect(rulesOf(release)[rule]).toBe(holds);
  });

  test('holds for 7.0 when nobody says', () => {
    expect(DEFAULT_RELEASE).toBe('7.0');
    expect(testKernel().rules).toEqual(rulesOf('7.0'));
    expect(testKernel({ kernel: '6.1.192' }).rules).toEqual(rulesOf('6.1.192'));
  });
});

/** The code and message that `body` is refused with. */
function refusal(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof UsageError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'not refused';
}

describe('composeKernel', () => {
  test('knows five releases', () => {
    expect(refusal(() => testKernel({ kernel: '5.15' as Release }))).toBe(
      "ERR_KERNEL: no rules for kernel '5.15'; expected one of 6.1.192, 6.12.117, 6.18, 7.0, 7.3",
    );
  });

  test('has a baseline, or the names of its editions, once each', () => {
    expect(testKernel().editions).toEqual(['baseline']);
    const parts = [
      edition({ *tlbFlush() {} }, 'one'),
      edition({ *tlbRemoveTable() {} }, 'one'),
      edition({ *tlbRemoveTableSyncOne() {} }, 'two'),
    ];
    const k = testKernel({ editions: parts });
    expect(k.editions).toEqual(['one', 'two']);
    const names = Object.keys(coreFunctions) as (keyof CoreFunctions)[];
    expect(names.filter((name) => k.fn[name] !== coreFunctions[name])).toEqual([
      'tlbFlush',
      'tlbRemoveTable',
      'tlbRemoveTableSyncOne',
    ]);
  });

  test('refuses two editions that replace the same function', () => {
    const editions = [edition({ *tlbFlush() {} }, 'one'), edition({ *tlbFlush() {} }, 'two')];
    expect(refusal(() => testKernel({ editions }))).toBe(
      'ERR_EDITION: two and one both replace tlbFlush: choose one of them',
    );
  });

  test('refuses an edition that refuses', () => {
    const picky = {
      ...edition({}, 'picky'),
      refuses: ({ kconfig }: { readonly kconfig: { readonly PT_RECLAIM: boolean } }) =>
        kconfig.PT_RECLAIM ? 'it is for kernels without PT_RECLAIM' : null,
    };
    expect(refusal(() => testKernel({ editions: [picky] }))).toBe(
      'ERR_EDITION: picky with native: it is for kernels without PT_RECLAIM',
    );
    const kconfig = { PT_RECLAIM: false };
    expect(refusal(() => testKernel({ editions: [picky], kconfig }))).toBe('not refused');
  });

  test('has what a backend claims under the editions that were chosen', () => {
    const series = { flushTlbMultiImpliesIpiBroadcast: false };
    const backend = { ...native(), claimsIn: { series } };
    expect(testKernel({ backend }).claims).toEqual(native().claims);
    const { claims } = testKernel({ backend, editions: [edition({}, 'series')] });
    expect(claims).toEqual({ ...native().claims, ...series });
  });

  test('refuses a backend of another version of the contract', () => {
    const machine = new Machine({ cpus: 1 });
    const backend = { ...native(), apiVersion: 2 as 1 };
    expect(refusal(() => composeKernel({ machine, backend, functions: mmFunctions }))).toBe(
      'ERR_BACKEND: native is for apiVersion 2 of the contract, this core has 1: install the version that fits',
    );
  });

  test('refuses less memory than a huge page for each node', () => {
    expect(refusal(() => testKernel({ frames: 511 }))).toMatch(/^ERR_MEMORY: 511 page frames in 1/);
    expect(refusal(() => testKernel({ frames: 1023, nodes: 2 }))).toBe(
      'ERR_MEMORY: 1023 page frames in 2 nodes: a node needs 512 frames (2 MiB) at least',
    );
    expect(refusal(() => testKernel({ frames: 1024, nodes: 2 }))).toBe('not refused');
  });
});

describe('defineTlbBackend', () => {
  const PARTS: BackendParts = {
    id: 'plain',
    models: { tree: '7.0', path: 'arch/none', symbol: 'flush_tlb_mm_range' },
    *switchMm() {},
    *enterLazyTlb() {},
    *flushTlbMmRange() {},
    *flushTlbKernelRange() {},
    *flushTlbAll() {},
  };

  test('claims nothing for who says nothing, and pays for it', () => {
    const plain = defineTlbBackend(PARTS);
    expect(plain.claims).toEqual(NO_CLAIMS);
    expect(NO_CLAIMS).toEqual({
      flushTlbMultiImpliesIpiBroadcast: false,
      flushImpliesSmpMb: false,
      needsTableInvalidate: true,
    });
    expect(plain.pteNeedsFlush(0, 0)).toBe(true);
    expect(Object.isFrozen(plain)).toBe(true);
  });

  test.each<[string, Partial<BackendParts>, string]>([
    ['an id', { id: 'Plain' }, "a backend's id is lower-case letters, digits and '-', not 'Plain'"],
    [
      'half a batch',
      { *batchFlush() {} },
      'plain has some of batchShouldDefer, batchAddPending and batchFlush: bring all or none',
    ],
    [
      'one side of user mode',
      { *exitToUserMode() {} },
      'plain has one of exitToUserMode and enterFromUserMode: bring both or none',
    ],
    [
      'claims that contradict each other',
      { claims: { flushTlbMultiImpliesIpiBroadcast: true } },
      'plain claims flushTlbMultiImpliesIpiBroadcast but not flushImpliesSmpMb: an IPI that was waited for orders memory too',
    ],
  ])('refuses %s', (_what, parts, message) => {
    expect(refusal(() => defineTlbBackend({ ...PARTS, ...parts }))).toBe(`ERR_BACKEND: ${message}`);
  });
});

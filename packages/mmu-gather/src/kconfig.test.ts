/** Which configurations a kernel can have. */
import { UsageError } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import { describe, expect, test } from 'vitest';
import { type Kconfig, NO_OPTIONS, resolveKconfig } from './kconfig.ts';
import { testKernel } from './kernel.testlib.ts';
import type { TlbBackend } from './tlb.ts';

/** A backend whose architecture selects nothing; with the generic tlb_flush(). */
const plain = (kconfig: Partial<Kconfig> = {}, parts: Partial<TlbBackend> = {}): TlbBackend => ({
  ...native(),
  id: 'plain',
  tlbFlush: undefined,
  kconfig,
  ...parts,
});

/** The names of the options that are on. */
const on = (config: Kconfig): readonly string[] =>
  Object.entries(config).flatMap(([name, set]) => (set ? [name] : []));

const refusal = (backend: TlbBackend, wanted: Partial<Kconfig> = {}): string => {
  try {
    resolveKconfig(backend, wanted);
  } catch (error) {
    if (error instanceof UsageError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'not refused';
};

test('an architecture that selects nothing has nothing', () => {
  expect(resolveKconfig(plain())).toEqual(NO_OPTIONS);
  expect(on(NO_OPTIONS)).toEqual([]);
});

test('what the architecture selects is changed by what is wanted', () => {
  const backend = plain({ MMU_GATHER_TABLE_FREE: true, MMU_GATHER_MERGE_VMAS: true });
  expect(on(resolveKconfig(backend))).toEqual(['MMU_GATHER_TABLE_FREE', 'MMU_GATHER_MERGE_VMAS']);
  const changed = resolveKconfig(backend, {
    MMU_GATHER_MERGE_VMAS: false,
    MMU_GATHER_PAGE_SIZE: true,
  });
  expect(on(changed)).toEqual(['MMU_GATHER_TABLE_FREE', 'MMU_GATHER_PAGE_SIZE']);
});

describe('select', () => {
  test('RCU_TABLE_FREE selects TABLE_FREE', () => {
    const config = resolveKconfig(plain(), { MMU_GATHER_RCU_TABLE_FREE: true });
    expect(on(config)).toEqual(['MMU_GATHER_TABLE_FREE', 'MMU_GATHER_RCU_TABLE_FREE']);
  });

  test('NO_RANGE selects MERGE_VMAS', () => {
    const config = resolveKconfig(plain({ MMU_GATHER_NO_RANGE: true }));
    expect(on(config)).toEqual(['MMU_GATHER_NO_RANGE', 'MMU_GATHER_MERGE_VMAS']);
  });

  test.each<[keyof Kconfig, keyof Kconfig]>([
    ['MMU_GATHER_RCU_TABLE_FREE', 'MMU_GATHER_TABLE_FREE'],
    ['MMU_GATHER_NO_RANGE', 'MMU_GATHER_MERGE_VMAS'],
  ])('who wants %s cannot have %s off', (option, selected) => {
    expect(refusal(plain(), { [option]: true, [selected]: false })).toBe(
      `ERR_KCONFIG: ${option} selects ${selected}, which cannot be off then`,
    );
  });
});

describe('depends on', () => {
  test.each<[keyof Kconfig, keyof Kconfig, string]>([
    [
      'MMU_GATHER_NO_GATHER',
      'MMU_GATHER_TABLE_FREE',
      'without a page batch tables need a batch of their own',
    ],
    [
      'MMU_GATHER_NO_TABLE_INVALIDATE',
      'MMU_GATHER_RCU_TABLE_FREE',
      'without RCU the invalidation is what keeps a walker off a freed table',
    ],
    ['PT_RECLAIM', 'MMU_GATHER_RCU_TABLE_FREE', 'reclaimed tables are freed by RCU'],
  ])('%s is refused without %s', (option, needed, why) => {
    const message = `ERR_KCONFIG: ${option} depends on ${needed}: ${why}; turn that on, or this off`;
    // Whoever asks for it: the architecture, or a caller.
    expect(refusal(plain({ [option]: true }))).toBe(message);
    expect(refusal(plain(), { [option]: true })).toBe(message);
    // Turning the architecture's off does not help who keeps what needs it.
    expect(refusal(plain({ [option]: true, [needed]: true }), { [needed]: false })).toBe(message);
  });
});

test('an option that does not exist is refused by name, with those that do', () => {
  const misspelt = { MMU_GATHER_NORANGE: true } as Partial<Kconfig>;
  for (const message of [refusal(plain(misspelt)), refusal(plain(), misspelt)]) {
    expect(message).toMatch(
      /^ERR_KCONFIG: there is no option MMU_GATHER_NORANGE; the options are /,
    );
    for (const option of Object.keys(NO_OPTIONS)) expect(message).toContain(option);
  }
});

describe('what an option asks of the backend', () => {
  test('NO_RANGE relies on the generic tlb_flush()', () => {
    expect(refusal(native(), { MMU_GATHER_NO_RANGE: true })).toBe(
      'ERR_KCONFIG: MMU_GATHER_NO_RANGE relies on the generic tlb_flush(), and native brings its own: leave out tlbFlush',
    );
    expect(refusal(plain(), { MMU_GATHER_NO_RANGE: true })).toBe('not refused');
  });

  test('NO_GATHER needs entries that are invalidated when they are cleared', () => {
    const wanted = { MMU_GATHER_NO_GATHER: true, MMU_GATHER_TABLE_FREE: true };
    expect(refusal(plain(), wanted)).toBe(
      'ERR_KCONFIG: MMU_GATHER_NO_GATHER frees pages one by one, so clearing an entry must invalidate it: plain has no ptepGetAndClear',
    );
    const clears = plain({}, { ptepGetAndClear: () => [][Symbol.iterator]() as never });
    expect(refusal(clears, wanted)).toBe('not refused');
  });

  test('who needs no table invalidation needs RCU_TABLE_FREE', () => {
    const claims = { ...native().claims, needsTableInvalidate: false };
    expect(refusal(plain({}, { claims }))).toBe(
      'ERR_KCONFIG: plain claims that tables need no invalidation (needsTableInvalidate: false), which needs MMU_GATHER_RCU_TABLE_FREE',
    );
    expect(refusal(plain({ MMU_GATHER_RCU_TABLE_FREE: true }, { claims }))).toBe('not refused');
  });
});

describe('PT_RECLAIM in a kernel', () => {
  test.each([
    ['6.1.192', false],
    ['6.12.117', false],
    ['6.18', true],
    ['7.0', true],
    ['7.3', true],
  ] as const)('%s on x86: %s', (kernel, has) => {
    expect(testKernel({ kernel }).kconfig.PT_RECLAIM).toBe(has);
  });

  test('it can be turned off where it is, and not on where RCU is missing', () => {
    expect(testKernel({ kconfig: { PT_RECLAIM: false } }).kconfig.PT_RECLAIM).toBe(false);
    const backend = plain({ MMU_GATHER_TABLE_FREE: true });
    expect(testKernel({ backend }).kconfig.PT_RECLAIM).toBe(false);
    expect(() => testKernel({ backend, kconfig: { PT_RECLAIM: true } })).toThrow('depends on');
  });
});

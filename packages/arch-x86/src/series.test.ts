/**
 * The series on top of a release: who is interrupted when page tables are reused. The expected CPUs
 * are those of the scene, by hand; what each series does is its posting's.
 */
import { call, compute } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import {
  Madvise,
  type MmFunctions,
  setUpWorkload,
  type User,
  WORKLOADS,
} from '@shootdown/linux-mm';
import {
  coreEditions,
  type CoreFunctions,
  coreFunctions,
  type Edition,
  KERNEL_COSTS,
  type Kthread,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import { expect, test } from 'vitest';
import {
  flushTlbMmRange,
  nativePvMmuOps,
  nativePvTlbInit,
  type PvMmuOps,
  x86Editions,
  type X86Functions,
} from './index.ts';
import { BASE, byClock, eventOf, startProcess, testKernel } from './kernel.testlib.ts';

const MIB2 = 2 ** 21;

const parts = (name: string): readonly Edition[] =>
  [...coreEditions, ...x86Editions].filter((part) => part.name === name);

const made = (replaces: Partial<MmFunctions & X86Functions>): Edition => ({
  name: 'made up by a test',
  source: '',
  notModelled: '',
  replaces,
});

/** The flush has waited for who walked before it: time for them to begin anew, and to be found. */
function late(part: Edition): Edition {
  const fn: CoreFunctions = { ...coreFunctions, ...part.replaces };
  const waiting: Partial<CoreFunctions> = {
    *tlbRemoveTableSyncMm(k, mm): Kthread {
      yield* compute(200_000);
      yield* call(fn.tlbRemoveTableSyncMm(k, mm));
    },
  };
  return { ...part, replaces: { ...part.replaces, ...waiting } };
}

/** A walk of 3 ms, which finds nothing and says that it found the page. */
const longWalk = made({
  *gupFastPgdRange(): Kthread<number> {
    yield* compute(3_000_000);
    return 1;
  },
});

/** Does the same as mainline's flush and its claim, but does not interrupt: as far as the claim goes. */
const claimless = (): TlbBackend => {
  const { claims, ...rest } = native();
  return { ...rest, claims: { ...claims, flushTlbMultiImpliesIpiBroadcast: false } };
};

interface Scene {
  readonly backend?: TlbBackend;
  readonly failures?: Readonly<Record<string, number>>;
}

/**
 * CPU 0 collapses; its threads on CPUs 1 and 2 and another process on CPU 3 walk their tables all the
 * time; CPU 4 is idle. Gives the CPUs that the table sync has called.
 */
function synced(edition: string, { backend, failures }: Scene = {}): readonly number[] {
  const chosen = parts(edition);
  const [core = made({}), ...others] = chosen;
  const { k, records } = testKernel({
    cpus: 5,
    record: true,
    editions: [late(core), ...others, longWalk],
    ...(backend === undefined ? {} : { backend }),
  });
  const walk = (times: number) =>
    function* (user: User): Kthread {
      for (let n = 0; n < times; n++) yield* call(user.vmsplice(BASE, 1));
    };
  startProcess(k, 0, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: MIB2 }));
    yield* call(user.touch(BASE, 512));
    for (const cpu of [1, 2]) yield* call(user.thread(cpu, walk(20)));
    yield* call(user.compute(10_000_000));
    expect(yield* call(user.madvise(BASE, MIB2, Madvise.COLLAPSE))).toBe(0);
  });
  startProcess(k, 3, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: MIB2 }));
    yield* call(user.touch(BASE, 1));
    yield* call(walk(20)(user));
  });
  byClock(k, failures === undefined ? {} : { failures });
  expect([...k.warnings]).toEqual([]);
  return records
    .map(eventOf)
    .filter(({ kind, func }) => kind === 'csd_queue_cpu' && func === 'tlb_remove_table_smp_sync')
    .map(({ target }) => target);
}

const ALL = [1, 2, 3, 4];
const WALKERS = [1, 2];

test.each([
  ['baseline', ALL],
  ['targeted-sync', WALKERS],
  ['targeted-sync-v4', []],
  ['targeted-sync-v4-fixed', []],
  ['implies-ipi-v7', []],
] as const)('%s, where the flush has interrupted them: the sync calls %j', (edition, called) => {
  expect(synced(edition)).toEqual(called);
});

test.each([
  ['baseline', ALL],
  ['targeted-sync', WALKERS],
  ['targeted-sync-v4', WALKERS],
  ['targeted-sync-v4-fixed', WALKERS],
  ['implies-ipi-v7', ALL],
] as const)('%s, where a flush implies nothing: the sync calls %j', (edition, called) => {
  expect(synced(edition, { backend: claimless() })).toEqual(called);
});

test.each(['targeted-sync', 'targeted-sync-v4', 'targeted-sync-v4-fixed'])(
  '%s: without memory for a cpumask everybody is called',
  (edition) => {
    const failures = { alloc_cpumask_var: 1 };
    expect(synced(edition, { backend: claimless(), failures })).toEqual(ALL);
  },
);

test('without an mm everybody is called, and the kernel says so', () => {
  const { k } = testKernel({ editions: parts('targeted-sync') });
  startProcess(k, 0, function* () {
    yield* call(k.fn.tlbRemoveTableSyncMm(k, null));
  });
  byClock(k);
  expect([...k.warnings]).toEqual(['NULL mm in tlb_remove_table_sync_mm']);
  expect(k.stats.calRow).toEqual(new Float64Array([0, 1, 1, 1]));
});

test('a walk that is announced with interrupts on is a finding', () => {
  const { k } = testKernel({ editions: parts('targeted-sync') });
  startProcess(k, 0, function* ({ mm }) {
    yield* call(k.fn.ptWalkLocklessEnd(k, yield* call(k.fn.ptWalkLocklessStart(k, mm))));
  });
  byClock(k);
  expect([...k.warnings]).toEqual([
    'interrupts are on in pt_walk_lockless_start',
    'interrupts are on in pt_walk_lockless_end',
  ]);
});

/** An NMI walks in the middle of a walk: what the CPU says about itself afterwards. */
test.each([
  ['targeted-sync-v4', false],
  ['targeted-sync-v4-fixed', true],
])('%s: after a walk inside a walk the outer one is still announced: %s', (edition, still) => {
  const { k } = testKernel({ editions: parts(edition) });
  const seen: boolean[] = [];
  startProcess(k, 0, function* ({ mm }) {
    k.machine.cpu(0).irqsOn = false;
    const outer = yield* call(k.fn.ptWalkLocklessStart(k, mm));
    const inner = yield* call(k.fn.ptWalkLocklessStart(k, k.initMm));
    yield* call(k.fn.ptWalkLocklessEnd(k, inner));
    yield* compute(1000);
    seen.push(k.percpu[0]?.activeLocklessPtWalkMm.value === mm);
    yield* call(k.fn.ptWalkLocklessEnd(k, outer));
    k.machine.cpu(0).irqsOn = true;
  });
  byClock(k);
  expect(seen).toEqual([still]);
});

/** Flushes of a hugetlb mapping that two processes share, by whether lazy CPUs are reached. */
function lazyReached(edition: string): number {
  let reached = 0;
  const watch = made({
    *flushTlbMmRange(k, info): Kthread {
      if (info.freedTables) reached++;
      yield* call(flushTlbMmRange(k, info));
    },
  });
  const workload = WORKLOADS.find(({ name }) => name === 'hugetlb-unshare');
  const { k } = testKernel({ cpus: 3, editions: [...parts(edition), watch] });
  const values = { sharers: 2, tables: 1, pages: 2 };
  if (workload !== undefined) setUpWorkload(k, workload, { threads: 1, values });
  runByClock(k.machine, { costs: KERNEL_COSTS });
  return reached;
}

test('the flush for the one table that is unshared reaches lazy CPUs, since the property', () => {
  const before = lazyReached('baseline');
  expect(lazyReached('targeted-sync')).toBe(before);
  for (const edition of ['targeted-sync-v4', 'targeted-sync-v4-fixed', 'implies-ipi-v7'])
    expect([edition, lazyReached(edition)]).toEqual([edition, before + 1]);
});

test('a release without unsharing in the gather is refused', () => {
  for (const { name } of coreEditions)
    expect(() => testKernel({ kernel: '6.18', editions: parts(name) })).toThrow(
      `${name} with native: it applies to trees that unshare hugetlb tables inside the gather (6.19), and 6.18 does not`,
    );
});

test('who implies an IPI broadcast: the native flush, and a flush that says so', () => {
  const own: PvMmuOps = { ...nativePvMmuOps, *flushTlbMulti() {} };
  expect(nativePvTlbInit(nativePvMmuOps)).toBe(true);
  expect(nativePvTlbInit(own)).toBe(false);
  expect(nativePvTlbInit({ ...own, flushTlbMultiImpliesIpiBroadcast: true })).toBe(true);
});

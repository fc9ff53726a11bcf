/** linux-mm's workloads, which know no architecture, on four CPUs of arm64. */
import { call, PAGE_SIZE, walk } from '@shootdown/machine';
import { KERNEL_COSTS, type ProbeEvent } from '@shootdown/mmu-gather';
import {
  framesFor,
  Madvise,
  type MmKernel,
  setUpWorkload,
  type Values,
  type Workload,
  WORKLOADS,
} from '@shootdown/linux-mm';
import { runByClock } from '@shootdown/sim';
import { describe, expect, test } from 'vitest';
import { arm64 } from './arm64.ts';
import { BASE, type Broadcast, runProgram, type TestKernel, testKernel } from './kernel.testlib.ts';

const MIB = 2 ** 20;

/** Small enough for a test. */
const SMALL: Readonly<Record<string, Values>> = {
  madvise: { pages: 8, iterations: 4 },
  munmap: { list: [1, 33, 600], iterations: 2 },
  mprotect: { list: [1, 33, 600], iterations: 2 },
  lazy: { list: [1, 33, 600], iterations: 2 },
  pageout: { list: [1, 33], iterations: 2 },
  migrate: { list: [1, 33], iterations: 2 },
  collapse: { size: 4 * MIB },
};

function named(name: string): Workload {
  const workload = WORKLOADS.find((one) => one.name === name);
  if (workload === undefined) throw new RangeError(`there is no workload ${name}`);
  return workload;
}

interface Ran extends TestKernel {
  readonly phases: readonly string[];
}

function run(workload: Workload, threads: number = workload.threads ?? 2): Ran {
  const fallbacks = workload.parameters.map(({ name, fallback }) => [name, fallback] as const);
  const values: Values = { ...Object.fromEntries(fallbacks), ...SMALL[workload.name] };
  const frames = framesFor(workload, { threads, values });
  const kernel = testKernel({ backend: arm64(), frames, nodes: workload.nodes ?? 1 });
  const phases = setUpWorkload(kernel.k, workload, { threads, values });
  const { ended } = runByClock(kernel.k.machine, { costs: KERNEL_COSTS });
  expect(ended).toBe(true);
  return { ...kernel, phases: phases.counts.map(({ name }) => name) };
}

/** Functions that CPUs were interrupted for. */
const interruptedFor = (k: MmKernel): readonly string[] =>
  Array.from(new Set(k.stats.ipis.values().map(({ func }) => func)));

/** Waiting for lockless walkers is the core's, and no flush. */
const SYNC = 'tlb_remove_table_smp_sync';

describe('a workload', () => {
  test.each(WORKLOADS)('$name runs, and no flush interrupts anybody', (workload) => {
    const { k, broadcasts, phases, records } = run(workload);
    expect(phases.length).toBeGreaterThan(0);
    expect(broadcasts.length).toBeGreaterThan(0);
    expect(interruptedFor(k).filter((func) => func !== SYNC)).toEqual([]);
    expect([...k.warnings]).toEqual([]);
    // Tracepoints and counters of flushes are x86's.
    expect(records.filter(({ event }) => event.kind === 'tlb_flush')).toEqual([]);
    expect(k.stats.vmstat.nr_tlb_remote_flush + k.stats.vmstat.nr_tlb_remote_flush_received).toBe(
      0,
    );
  });

  test.each(['munmap', 'mprotect', 'madvise', 'pageout', 'fork'])(
    '%s with a thread on each of four CPUs needs no call-function interrupt at all',
    (name) => {
      const { k } = run(named(name), 4);
      expect(interruptedFor(k)).toEqual([]);
      expect(Array.from(k.stats.calRow)).toEqual([0, 0, 0, 0]);
    },
  );

  test('collapse does for the table sync alone: the flush is not what waits for walkers', () => {
    const { k } = run(named('collapse'), 4);
    expect(interruptedFor(k)).toEqual([SYNC]);
    // Two huge pages, and each sync goes to the three other CPUs.
    expect(Array.from(k.stats.calRow).reduce((sum, count) => sum + count)).toBe(2 * 3);
  });
});

const perPage = ({ what }: Broadcast): boolean => what.from !== null;

describe('exit', () => {
  test('sends one invalidation, of the ASID, for the tables; pages alone would need none', () => {
    const { k, broadcasts } = testKernel();
    const mm = runProgram(k, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: 20 * PAGE_SIZE }));
      yield* call(user.touch(BASE, 20));
      broadcasts.splice(0);
    });
    expect(mm.users.value).toBe(0);
    // Who ran it is nobody's business.
    expect(mm.cpumask.value.next(0)).toBe(-1);
    expect(broadcasts).toMatchObject([{ from: 0, what: { pcid: 1, from: null, upper: 'all' } }]);
  });

  test('of an mm that mapped nothing sends none', () => {
    const { k, broadcasts } = testKernel();
    runProgram(k, function* () {});
    expect(broadcasts).toEqual([]);
  });
});

describe('munmap of 8 pages', () => {
  /** What a munmap of 8 pages broadcasts, beside pages that keep the table or not. */
  function unmapped(neighbour: boolean): readonly Broadcast[] {
    const { k, broadcasts } = testKernel();
    const sent: Broadcast[] = [];
    runProgram(k, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: 9 * PAGE_SIZE }));
      yield* call(user.touch(BASE, 9));
      if (!neighbour) yield* call(user.munmap(BASE + 8 * PAGE_SIZE, PAGE_SIZE));
      broadcasts.splice(0);
      yield* call(user.munmap(BASE, 8 * PAGE_SIZE));
      sent.push(...broadcasts);
    });
    return sent;
  }

  test('sends a TLBI for each, of the last level, while their table stays', () => {
    const sent = unmapped(true);
    expect(sent.map(({ what }) => [what.from, what.upper])).toEqual(
      Array.from({ length: 8 }, (_, n) => [BASE + n * PAGE_SIZE, 'none']),
    );
  });

  test('and one for the path to the tables that go: the VMA’s flush came before', () => {
    const sent = unmapped(false);
    expect(sent.every(perPage)).toBe(true);
    expect(sent.slice(0, 8).map(({ what }) => what.upper)).toEqual(Array(8).fill('none'));
    expect(sent.slice(8).map(({ what }) => what.upper)).toEqual(['path']);
  });
});

test('reclaim of 8 pages sends a TLBI for each as it is unmapped, and no other', () => {
  const { k, broadcasts } = testKernel();
  const sent: Broadcast[] = [];
  runProgram(k, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 8 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 8));
    broadcasts.splice(0);
    yield* call(user.madvise(BASE, 8 * PAGE_SIZE, Madvise.PAGEOUT));
    sent.push(...broadcasts);
  });
  expect(sent.map(({ what }) => [what.from, what.upper])).toEqual(
    Array.from({ length: 8 }, (_, n) => [BASE + n * PAGE_SIZE, 'none']),
  );
});

test('a page table is unhooked, then invalidated on every CPU, and freed only then', () => {
  const { k } = testKernel();
  const seen: string[] = [];
  const tables = new Set<number>();
  let walkers = 0;
  let walkersLeft = 0;
  k.probe = (event: ProbeEvent) => {
    if (event.kind === 'unhook-table') {
      tables.add(event.table.pfn);
      seen.push('unhook');
      walkers += k.machine.cpus.filter(({ tlb }) => tlb.walksThrough(event.table.pfn)).length;
    } else if (event.kind === 'flushed' && event.freedTables) {
      seen.push('flushed');
      for (const { tlb } of k.machine.cpus)
        walkersLeft += tables
          .values()
          .filter((table) => tlb.walksThrough(table))
          .toArray().length;
    } else if (event.kind === 'free-table') seen.push(`free by ${event.by}`);
  };
  let after: readonly string[] = [];
  runProgram(k, function* (user) {
    const other = yield* call(
      user.thread(1, function* (thread) {
        yield* call(thread.mmap({ addr: BASE, length: 8 * PAGE_SIZE }));
        yield* call(thread.touch(BASE, 8));
      }),
    );
    yield* call(user.join(other));
    yield* call(user.touch(BASE, 8));
    yield* call(user.munmap(BASE, 8 * PAGE_SIZE));
    yield* call(user.nanosleep(100_000_000));
    after = [...seen];
    expect(walk(k.machine.physical, user.mm.pgd, k.machine.levels, BASE)).toHaveLength(1);
  });
  // A PTE table, a PMD table and a PUD table: nothing else is near.
  const step = (what: string): readonly string[] => Array<string>(3).fill(what);
  expect(after).toEqual([...step('unhook'), 'flushed', ...step('free by rcu')]);
  // CPU 0 had cached all three, and CPU 1, lazy by now, too.
  expect(walkers).toBeGreaterThanOrEqual(3);
  expect(walkersLeft).toBe(0);
});

/** Leaving a shared hugetlb page table: who flushes, who waits for walkers, who frees it, and when. */
import { call, localIrqDisable, localIrqEnable } from '@shootdown/machine';
import { findEntry, Level, type Release, tlbGatherMmu } from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import { systemCall } from './entry.ts';
import { hugePmdUnshare, hugePmdUnshareFlush } from './hugetlbShare.ts';
import { allShare, evict, GIB, map, MIB2, Story, touch, unmap } from './hugetlb.testlib.ts';
import { vmaLookup } from './vma.ts';
import { BASE } from './workloads/workload.ts';

const SYNC = 'tlb_remove_table_smp_sync';

/** Events without the numbers of tables, and without their freeing, which RCU times. */
const kinds = (story: Story, name: string): readonly string[] =>
  story
    .of(name)
    .events.filter((event) => !event.startsWith('free'))
    .map((event) => event.replace(/^unhook \d+/, 'unhook'));

/** By process `p`: everything below `end`, before i_mmap_rwsem is dropped. */
const flushOf = (p: number, end: number): readonly string[] => [
  `flush p${p} +0..${end} locked`,
  `flushed p${p} +0..${end} locked`,
];

/** The PUD table goes too, where nothing else is near: one address at the level above it. */
const pudTableGoes = (p: number): readonly string[] => [
  'unhook',
  `flush p${p} +0..4096 freed`,
  `flushed p${p} +0..4096 freed`,
];

test('every leaver flushes; the one after whom a single owner is left waits for walkers', () => {
  const story = new Story(3);
  const left: unknown[] = [];
  const look = (): unknown => left.push(story.sharing(2)?.count);
  story.run([
    ...allShare(story, 3),
    { ...unmap(0), after: look },
    { ...unmap(1), after: look },
    unmap(2),
    evict(story, 2),
  ]);
  expect(left).toEqual([1, 0]);
  expect(kinds(story, 'p0 leaves')).toEqual([
    'unhook locked',
    ...flushOf(0, GIB),
    ...pudTableGoes(0),
  ]);
  expect(kinds(story, 'p1 leaves')).toEqual([
    'unhook locked',
    ...flushOf(1, GIB),
    // For all walkers, those of p0 too, which did not wait.
    'sync ipi locked',
    ...pudTableGoes(1),
  ]);
  // The owner unmaps one huge page, and frees the table and the one above it.
  expect(kinds(story, 'p2 leaves')).toEqual([
    'unhook',
    'unhook',
    `flush p2 +0..${MIB2} freed`,
    `flushed p2 +0..${MIB2} freed`,
  ]);
  // 4 CPUs: all but the sender. Nobody else runs a leaver's mm, so no flush sends an interrupt.
  expect([0, 1, 2].map((p) => story.of(`p${p} leaves`).ipis)).toEqual([{}, { [SYNC]: [1, 3] }, {}]);
  expect(story.findings).toEqual([]);
});

test('a gigabyte is 512 huge pages, more than are flushed one by one: everything goes', () => {
  const story = new Story(2);
  story.run([...allShare(story, 2), unmap(0), unmap(1), evict(story, 1)]);
  // Reason 3, local to the mm, of all pages (-1); and for the PUD table one address, which is less
  // than an entry of its level covers, so 0.
  expect(story.of('p0 leaves').flushes).toEqual({ '3:-1': 1, '3:0': 1 });
  // The owner flushes its one huge page, and the tables by the same flush.
  expect(story.of('p1 leaves').flushes).toEqual({ '3:1': 1 });
  expect(story.findings).toEqual([]);
});

test('the table is freed once, by its last owner, and the tables above it by each', () => {
  const story = new Story(3);
  let table = -1;
  const freed: string[] = [];
  const watch = story.k.probe;
  story.k.probe = (event) => {
    watch?.(event);
    if (event.kind === 'free-table') freed.push(`free ${event.table.pfn}`);
  };
  story.run([
    ...allShare(story, 3),
    { ...touch(0, 0), name: 'look', after: () => (table = story.sharing(0)?.pfn ?? -1) },
    unmap(1),
    unmap(0),
    {
      ...touch(2, 0),
      name: 'the owner uses it',
      after: () => expect(freed).not.toContain(`free ${table}`),
    },
    unmap(2),
    evict(story, 2),
  ]);
  expect(story.of('the owner uses it').faults).toBe(0);
  expect(freed.filter((line) => line === `free ${table}`)).toHaveLength(1);
  expect(freed).toHaveLength(4);
  expect(story.findings).toEqual([]);
});

test('several tables of one mapping take one flush and one wait', () => {
  const story = new Story(2);
  story.run([...allShare(story, 2, 3), unmap(0, 3 * GIB), unmap(1, 3 * GIB), evict(story, 1)]);
  expect(kinds(story, 'p0 leaves')).toEqual([
    'unhook locked',
    'unhook locked',
    'unhook locked',
    ...flushOf(0, 3 * GIB),
    'sync ipi locked',
    ...pudTableGoes(0),
  ]);
  expect(story.of('p0 leaves').ipis).toEqual({ [SYNC]: [1, 3] });
  expect(story.findings).toEqual([]);
});

test('6.18: every unsharing waits for walkers, before anything is flushed', () => {
  const story = new Story(3, { kernel: '6.18' });
  story.run([
    ...allShare(story, 3, 2),
    unmap(0, 2 * GIB),
    unmap(1, 2 * GIB),
    unmap(2, 2 * GIB),
    evict(story, 2),
  ]);
  for (const p of [0, 1]) {
    expect(kinds(story, `p${p} leaves`)).toEqual([
      'unhook locked',
      'sync ipi locked',
      'unhook locked',
      'sync ipi locked',
      ...flushOf(p, 2 * GIB),
      ...pudTableGoes(p),
    ]);
    expect(story.of(`p${p} leaves`).ipis).toEqual({ [SYNC]: [2, 6] });
  }
  expect(story.syncs('p2 leaves')).toBe(0);
  expect(story.findings).toEqual([]);
});

test.each<[Release, number]>([
  ['6.1.192', 1],
  ['6.12.117', 1],
  ['6.18', 2],
  ['7.0', 1],
  ['7.3', 1],
])(
  '%s: three sharers of a table wait %i times in all, in whatever order they leave',
  (kernel, waits) => {
    for (const order of [
      [0, 1, 2],
      [2, 0, 1],
      [1, 2, 0],
    ]) {
      const story = new Story(3, { kernel });
      const last = order.at(-1) ?? 0;
      story.run([...allShare(story, 3), ...order.map((p) => unmap(p)), evict(story, last)]);
      expect(order.reduce((all, p) => all + story.syncs(`p${p} leaves`), 0)).toBe(waits);
      expect(story.syncs(`p${last} leaves`)).toBe(0);
      expect(story.findings).toEqual([]);
    }
  },
);

test('who leaves it to one owner does not go on while a walker has interrupts off', () => {
  const walkNs = 50_000;
  const leave = (walks: boolean): number => {
    const story = new Story(3);
    let took = 0;
    story.run([
      ...allShare(story, 2),
      {
        on: 2,
        name: 'a walk begins',
        *run(user) {
          if (walks)
            yield* call(
              user.thread(3, function* (walker) {
                yield* localIrqDisable();
                yield* call(walker.compute(walkNs));
                yield* localIrqEnable();
              }),
            );
          yield* call(user.compute(walkNs / 5));
        },
      },
      {
        ...unmap(0),
        *run(user) {
          const from = user.k.machine.time;
          yield* call(user.munmap(BASE, GIB));
          took = user.k.machine.time - from;
        },
      },
      unmap(1),
      evict(story, 1),
    ]);
    expect(story.findings).toEqual([]);
    return took;
  };
  // About 40 of its 50 us are left when the table is let go.
  expect(leave(false)).toBeLessThan(walkNs / 5);
  expect(leave(true)).toBeGreaterThan(walkNs / 2);
});

test('exit lets shared tables go as munmap does, and flushes the mm as a whole', () => {
  const story = new Story(3);
  story.run([
    ...allShare(story, 3),
    { on: 0, name: 'p0 is about to end', run: (user) => user.compute(1) },
    { on: 1, name: 'p0 has ended', run: (user) => user.nanosleep(1e6) },
    { on: 2, name: 'p1 has ended', run: (user) => user.nanosleep(1e6) },
    unmap(2),
    evict(story, 2),
  ]);
  const whole = (p: number): readonly string[] => [
    `flush p${p} all locked`,
    `flushed p${p} all locked`,
  ];
  expect(kinds(story, 'p0 has ended').slice(0, 3)).toEqual(['unhook locked', ...whole(0)]);
  expect(kinds(story, 'p1 has ended').slice(0, 4)).toEqual([
    'unhook locked',
    ...whole(1),
    'sync ipi locked',
  ]);
  expect(story.syncs('p0 has ended')).toBe(0);
  expect(story.of('p1 has ended').ipis[SYNC]).toEqual([1, 3]);
  expect(story.findings).toEqual([]);
});

test('nobody picks up the table of one who is exiting', () => {
  let shared = 0;
  let late = 0;
  for (let lingersNs = 20; lingersNs < 8000; lingersNs += 40) {
    const story = new Story(2, { cpus: 2 });
    story.run(
      [
        map(story, 1),
        ...allShare(story, 1),
        {
          on: 1,
          name: 'p1 comes while p0 exits',
          *run(user) {
            yield* call(user.access(BASE, true));
            yield* call(user.nanosleep(1e6));
            yield* call(user.access(BASE + MIB2, true));
          },
          after: () => expect(story.sharing(1)?.count).toBe(0),
        },
        unmap(1),
        evict(story, 1),
      ],
      { lingersNs },
    );
    expect(story.findings).toEqual([]);
    if (story.syncs('p1 comes while p0 exits') > 0) shared++;
    else late++;
  }
  // Both have happened: the table was shared, and then let go by p0; and p1 was too late for it.
  expect(Math.min(shared, late)).toBeGreaterThan(10);
});

test('whoever unshares without the locks, or does not flush, is told so', () => {
  const story = new Story(2);
  story.run([
    ...allShare(story, 2),
    {
      on: 0,
      name: 'unshares without locks',
      run: (user) =>
        systemCall(user.k, { name: 'munmap', args: {} }, function* () {
          const { k, mm } = user;
          const vma = vmaLookup(mm, BASE);
          const pmd = yield* call(findEntry(k, mm, BASE, Level.pmd));
          if (vma === null || pmd === null) return -1;
          const forgets = yield* call(tlbGatherMmu(k, mm));
          yield* call(hugePmdUnshare(k, forgets, vma, BASE, pmd));
          yield* call(k.fn.tlbFinishMmu(k, forgets));
          const flushes = yield* call(tlbGatherMmu(k, mm));
          yield* call(hugePmdUnshareFlush(k, flushes, vma));
          yield* call(k.fn.tlbFinishMmu(k, flushes));
          return 0;
        }),
    },
    unmap(1),
  ]);
  expect([...story.k.warnings].toSorted()).toEqual([
    'a table is unshared without i_mmap_rwsem for writing',
    'a table is unshared without the lock of the VMA',
    'unshared tables are flushed without i_mmap_rwsem',
    'unshared tables were not flushed before tlb_finish_mmu',
  ]);
});

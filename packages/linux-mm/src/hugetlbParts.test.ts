/** hugetlb memory of which a part changes: a shared table is let go as a whole. */
import { call } from '@shootdown/machine';
import { tlbGatherMmu } from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import { systemCall } from './entry.ts';
import {
  allShare,
  evict,
  GIB,
  map,
  MIB2,
  type Step,
  Story,
  touch,
  unmap,
} from './hugetlb.testlib.ts';
import { hugetlbChangeProtection } from './hugetlb.ts';
import { hugetlbSplitAround } from './hugetlbShare.ts';
import { Madvise } from './madvise.ts';
import { vmaLookup } from './vma.ts';
import { BASE } from './workloads/workload.ts';

const SYNC = 'tlb_remove_table_smp_sync';

test('mprotect lets a shared table go, because the others keep their protection', () => {
  const story = new Story(2);
  story.run([
    ...allShare(story, 2),
    {
      on: 1,
      name: 'p1 protects',
      run: (user) => user.mprotect(BASE, GIB, { read: true, write: false }),
      after: () => expect([story.sharing(0)?.count, story.sharing(1)]).toEqual([0, null]),
    },
    { ...touch(0, 0), name: 'p0 writes on' },
    {
      ...touch(1, 0, false),
      name: 'p1 reads',
      after: () => expect(story.sharing(1)?.pfn).not.toBe(story.sharing(0)?.pfn),
    },
    {
      on: 1,
      name: 'p1 unprotects',
      run: (user) => user.mprotect(BASE, GIB, { read: true, write: true }),
    },
    { ...touch(1, 0), name: 'p1 writes' },
    unmap(0),
    unmap(1),
    evict(story, 1),
  ]);
  const { events, ipis } = story.of('p1 protects');
  expect(events.slice(1)).toEqual([
    `flush p1 +0..${GIB} locked`,
    `flushed p1 +0..${GIB} locked`,
    'sync ipi locked',
  ]);
  expect(ipis).toEqual({ [SYNC]: [1, 3] });
  expect(story.of('p0 writes on').faults).toBe(0);
  expect(story.of('p1 reads').faults).toBe(1);
  // In a table of its own only the entry that is there changes, and one huge page is flushed.
  expect(story.of('p1 unprotects').events).toEqual([
    `flush p1 +0..${MIB2} locked`,
    `flushed p1 +0..${MIB2} locked`,
  ]);
  expect(story.of('p1 writes').faults).toBe(0);
  expect(story.findings).toEqual([]);
});

test('6.18: a change of protection flushes what it was asked for, and whole tables that it lets go', () => {
  const story = new Story(2, { kernel: '6.18' });
  const protect =
    (page: number): Step['run'] =>
    (user) =>
      systemCall(user.k, { name: 'mprotect', args: {} }, function* () {
        const { k, mm } = user;
        const vma = vmaLookup(mm, BASE);
        if (vma === null) return -1;
        const start = BASE + page * MIB2;
        const to = { start, end: start + MIB2, read: true, write: false };
        const tlb = yield* call(tlbGatherMmu(k, mm));
        const changed = yield* call(hugetlbChangeProtection(k, tlb, vma, to));
        yield* call(k.fn.tlbFinishMmu(k, tlb));
        return changed;
      });
  story.run([
    ...allShare(story, 2),
    { on: 1, name: 'of a shared table', run: protect(7) },
    { on: 0, name: 'of one of our own', run: protect(0) },
    { ...touch(0, 0, false), name: 'p0 reads' },
    unmap(0),
    unmap(1),
    evict(story, 1),
  ]);
  // Not by the gather, so no flush is announced by it.
  expect(story.of('of a shared table').events.slice(1)).toEqual(['sync ipi locked']);
  expect(story.of('of a shared table').flushes).toEqual({ '3:-1': 1 });
  expect(story.of('of one of our own').events).toEqual([]);
  expect(story.of('of one of our own').flushes).toEqual({ '3:1': 1 });
  expect(story.of('p0 reads').faults).toBe(0);
  expect(story.findings).toEqual([]);
});

test('MADV_DONTNEED of one page lets the whole table go, and the next access shares it again', () => {
  const story = new Story(3);
  story.run([
    ...allShare(story, 2),
    touch(0, 5),
    {
      on: 1,
      name: 'p1 drops a page',
      run: (user) => user.madvise(BASE + 5 * MIB2, MIB2, Madvise.DONTNEED),
      after: () => expect([story.sharing(0)?.count, story.sharing(1)]).toEqual([0, null]),
    },
    {
      ...touch(1, 5),
      after: () => expect([story.sharing(0)?.count, story.sharing(1)?.count]).toEqual([1, 1]),
    },
    unmap(0),
    // Who dropped a page has the file mapped as before, for others to find.
    map(story, 2),
    {
      ...touch(2, 5),
      after: () => expect(story.sharing(2)).toEqual(story.sharing(1)),
    },
    unmap(1),
    unmap(2),
    evict(story, 2),
  ]);
  expect(story.syncs('p1 drops a page')).toBe(1);
  // The page was the file's all the time, in the table that p0 had.
  expect(story.of('p1 touches 5').faults).toBe(1);
  expect(story.findings).toEqual([]);
});

test('a mapping that is split inside a gigabyte does not share that table any more', () => {
  const story = new Story(2);
  const split =
    (from: number, to: number): Step['run'] =>
    (user) =>
      systemCall(user.k, { name: 'mprotect', args: {} }, function* () {
        yield* call(hugetlbSplitAround(user.k, user.mm, BASE + from, BASE + to));
        return 0;
      });
  story.run([
    ...allShare(story, 2, 2),
    { on: 1, name: 'between tables', run: split(0, GIB) },
    {
      on: 1,
      name: 'in the second table',
      run: split(GIB, GIB + MIB2),
      after: () =>
        expect([BASE, BASE + GIB].map((at) => story.sharing(0, at)?.count)).toEqual([1, 0]),
    },
    unmap(0, 2 * GIB),
    unmap(1, 2 * GIB),
    evict(story, 1),
  ]);
  expect(story.of('between tables').events).toEqual([]);
  expect(story.of('in the second table').events.slice(1)).toEqual([
    `flush p1 +${GIB}..${2 * GIB} locked`,
    `flushed p1 +${GIB}..${2 * GIB} locked`,
    'sync ipi locked',
  ]);
  expect(story.findings).toEqual([]);
});

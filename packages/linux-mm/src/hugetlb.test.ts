/** hugetlb memory: who shares a page table with whom, private mappings, and what is refused. */
import { call, UsageError } from '@shootdown/machine';
import { HPAGE_PMD_NR, pageOf } from '@shootdown/mmu-gather';
import { describe, expect, test } from 'vitest';
import { systemCall } from './entry.ts';
import { mmput } from './exit.ts';
import { dupMm } from './fork.ts';
import { Madvise } from './madvise.ts';
import { Errno } from './mm.ts';
import {
  allShare,
  evict,
  GIB,
  map,
  MIB2,
  pmdTable,
  PRIVATE,
  SHARED,
  type Step,
  Story,
  touch,
  unmap,
} from './hugetlb.testlib.ts';
import { runProgram, testKernel } from './kernel.testlib.ts';
import { BASE } from './workloads/workload.ts';

describe('sharing', () => {
  test('who maps the same gigabyte of a file uses the table of the first', () => {
    const story = new Story(3);
    const counts: unknown[] = [];
    const look = (): unknown => counts.push(story.sharing(0)?.count);
    const and = (step: Step): Step => ({ ...step, after: look });
    story.run([
      map(story, 0),
      and(touch(0, 0)),
      map(story, 1),
      and(touch(1, 0)),
      map(story, 2),
      {
        ...touch(2, 0),
        after: () => {
          look();
          expect(story.sharing(1)).toEqual(story.sharing(0));
          expect(story.sharing(2)).toEqual(story.sharing(0));
        },
      },
      touch(2, 7),
      touch(0, 7),
      touch(1, 7),
      unmap(0),
      unmap(1),
      unmap(2),
      evict(story, 2),
    ]);
    // Users beyond the first.
    expect(counts).toEqual([0, 1, 2]);
    // Page 0: one fault brings it in, one each hooks the table in. Page 7: one fault for all three.
    const faults = [0, 1, 2].map((p) => [0, 7].map((n) => story.of(`p${p} touches ${n}`).faults));
    expect(faults).toEqual([
      [1, 0],
      [1, 0],
      [1, 1],
    ]);
    expect(story.findings).toEqual([]);
  });

  test('a page has a reference by the file and one by the table, however many share that', () => {
    const story = new Story(2);
    const counts: (number | undefined)[] = [];
    const look = (): void => {
      const frame = story.file.pages.get(0);
      counts.push(frame === undefined ? undefined : pageOf(story.k, frame).refcount.value);
    };
    story.run([
      ...allShare(story, 1),
      { ...touch(0, 0), after: look },
      map(story, 1),
      { ...touch(1, 0), after: look },
      { ...unmap(0), after: look },
      { ...unmap(1), after: look },
      evict(story, 1),
    ]);
    // Who lets a table go leaves its pages mapped. Who had it last unmaps them, and the file stays.
    expect(counts).toEqual([2, 2, 2, 1]);
    expect(story.file.pages.size).toBe(0);
    expect(story.findings).toEqual([]);
  });

  const gib = { flags: SHARED, length: GIB, at: BASE, use: BASE };

  test.each([
    ['privately', { ...gib, flags: PRIVATE }],
    ['read-only', { ...gib, flags: { ...SHARED, write: false } }],
    ['2 MiB short of a gigabyte', { ...gib, length: GIB - MIB2 }],
    // Page 511 of the file is the last of the first's table, and the first of this one.
    ['2 MiB further on', { ...gib, length: 2 * GIB, at: BASE + MIB2, use: BASE + GIB }],
  ])('who maps it %s has a table of its own', (_how, { flags, length, at, use }) => {
    const story = new Story(2);
    story.run([
      ...allShare(story, 1),
      {
        on: 1,
        name: 'maps',
        *run(user) {
          yield* call(user.mmap({ addr: at, length, flags, file: story.file }));
          yield* call(user.access(use, false));
        },
        after: () => {
          expect(story.sharing(1, use)?.pfn).not.toBe(story.sharing(0)?.pfn);
          expect([story.sharing(0)?.count, story.sharing(1, use)?.count]).toEqual([0, 0]);
        },
      },
      { on: 1, name: 'unmaps', run: (user) => user.munmap(at, length) },
      unmap(0),
      evict(story, 0),
    ]);
    expect(story.waits).toBe(0);
    expect(story.findings).toEqual([]);
  });

  test('who maps it whole does not use the table of one who has a part of it', () => {
    const story = new Story(2);
    story.run([
      map(story, 0, GIB - MIB2),
      touch(0, 0),
      map(story, 1),
      {
        ...touch(1, 0),
        after: () => expect(story.sharing(1)?.pfn).not.toBe(story.sharing(0)?.pfn),
      },
      unmap(0, GIB - MIB2),
      unmap(1),
      evict(story, 1),
    ]);
    expect(story.waits).toBe(0);
    expect(story.findings).toEqual([]);
  });

  test('two threads that hook the same table in at once count as one user', () => {
    let raced = 0;
    for (let delayNs = 0; delayNs < 400; delayNs += 10) {
      const story = new Story(2);
      const { k } = story;
      story.run([
        ...allShare(story, 1),
        touch(0, 1),
        map(story, 1),
        {
          on: 1,
          name: 'two threads',
          *run(user) {
            const go = k.machine.cell('go', false);
            const second = yield* call(
              user.thread(2, function* (other) {
                yield* call(other.spin(go));
                yield* call(other.access(BASE + MIB2, true));
              }),
            );
            yield* call(user.nanosleep(1e5));
            yield* call(user.set(go));
            yield* call(user.compute(delayNs));
            yield* call(user.access(BASE, true));
            yield* call(user.join(second));
          },
          after: () => expect(story.sharing(0)?.count).toBe(1),
        },
        { ...unmap(0), after: () => expect(story.sharing(1)?.count).toBe(0) },
        unmap(1),
        evict(story, 1),
      ]);
      expect(story.findings).toEqual([]);
      if (story.of('two threads').faults === 2) raced++;
    }
    // Both threads have faulted: none was so late that it found the table hooked in.
    expect(raced).toBeGreaterThan(10);
  });

  test('without CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING nobody shares', () => {
    const story = new Story(2, { kconfig: { HUGETLB_PMD_PAGE_TABLE_SHARING: false } });
    story.run([
      ...allShare(story, 2),
      {
        ...touch(1, 1),
        after: () => expect(story.sharing(1)?.pfn).not.toBe(story.sharing(0)?.pfn),
      },
      unmap(0),
      unmap(1),
      evict(story, 1),
    ]);
    expect(story.findings).toEqual([]);
  });

  test('a child shares what its parent has mapped as soon as it touches it', () => {
    const story = new Story(1);
    const seen: unknown[] = [];
    story.run([
      ...allShare(story, 1),
      {
        on: 0,
        name: 'forks',
        *run(user) {
          const child = yield* call(
            user.fork(function* (inChild) {
              seen.push(pmdTable(user.k, inChild.mm, BASE)?.pfn);
              yield* call(inChild.access(BASE, true));
              seen.push(pmdTable(user.k, inChild.mm, BASE)?.pfn, story.sharing(0)?.count);
            }, 1),
          );
          yield* call(user.join(child));
          yield* call(user.nanosleep(1e6));
        },
        after: () => expect(story.sharing(0)?.count).toBe(0),
      },
      unmap(0),
      evict(story, 0),
    ]);
    expect(seen).toEqual([undefined, expect.any(Number), 1]);
    // The child's exit is the last unsharing.
    expect(story.syncs('forks')).toBe(1);
    expect(story.findings).toEqual([]);
  });
});

describe('private mappings', () => {
  test('have pages of their own, and copy the page of a file when they write', () => {
    const story = new Story(2);
    const pages: (number | undefined)[] = [];
    const look = (addr: number) => (): void => {
      const page = story.k.pages.pages;
      const mapped = [...page.values()].filter(({ mappings }) =>
        mappings.value.some(({ mm, addr: at }) => mm === story.mm(1) && at === addr),
      );
      pages.push(mapped[0]?.pfn);
    };
    story.run([
      ...allShare(story, 1),
      map(story, 1, GIB, PRIVATE),
      // The file has page 0, and not page 1.
      { ...touch(1, 0, false), name: 'reads 0', after: look(BASE) },
      { ...touch(1, 0), name: 'writes 0', after: look(BASE) },
      { ...touch(1, 1, false), name: 'reads 1', after: look(BASE + MIB2) },
      { ...touch(1, 1), name: 'writes 1', after: look(BASE + MIB2) },
      unmap(0),
      unmap(1),
      evict(story, 1),
    ]);
    const [read0, wrote0, read1, wrote1] = pages;
    expect(read0).toBeUndefined();
    expect(wrote0).toBeDefined();
    expect(wrote1).toBe(read1);
    // A copy of page 0, with the old translation flushed; page 1 is its own already.
    expect(story.of('writes 0').flushes).toEqual({ '3:1': 1 });
    expect(story.of('writes 1').flushes).toEqual({});
    expect(story.findings).toEqual([]);
  });

  test('are copied by fork when one side writes, and the other keeps the page', () => {
    const story = new Story(1);
    const frames: number[] = [];
    story.run([
      map(story, 0, GIB, PRIVATE),
      touch(0, 0),
      {
        on: 0,
        name: 'forks',
        run: (user) =>
          systemCall(user.k, { name: 'clone', args: {} }, function* () {
            const { k, mm } = user;
            const child = yield* call(dupMm(k, mm, 'child'));
            if (child === null) return -1;
            const page = [...k.pages.pages.values()].find(({ order }) => order > 0);
            frames.push(page?.refcount.value ?? 0, page?.mappings.value.length ?? 0);
            yield* call(user.access(BASE, true));
            frames.push(page?.refcount.value ?? 0, page?.mappings.value.length ?? 0);
            yield* call(mmput(k, child));
            return 0;
          }),
      },
      unmap(0),
    ]);
    // Two entries; then the parent has a copy, and the child the page.
    expect(frames).toEqual([2, 2, 1, 1]);
    expect(story.findings).toEqual([]);
  });
});

describe('what cannot be', () => {
  const usage = (body: () => unknown): UsageError => {
    try {
      body();
    } catch (error) {
      if (error instanceof UsageError) return error;
      throw error;
    }
    throw new Error('nothing was thrown');
  };

  test('hugetlb memory without a file', () => {
    const { k } = testKernel();
    const results: number[] = [];
    runProgram(k, function* (user) {
      results.push(yield* call(user.mmap({ addr: BASE, length: MIB2, flags: PRIVATE })));
    });
    expect(results).toEqual([Errno.EINVAL]);
  });

  test('a part of a huge page', () => {
    const story = new Story(1);
    const results: number[] = [];
    story.run([
      map(story, 0),
      touch(0, 0),
      {
        on: 0,
        name: 'unmaps',
        *run(user) {
          results.push(yield* call(user.munmap(BASE, 4096)));
          results.push(yield* call(user.madvise(BASE + 4096, 4096, Madvise.DONTNEED)));
          results.push(yield* call(user.mprotect(BASE, 4096, { read: true, write: false })));
          return 0;
        },
      },
      unmap(0),
    ]);
    expect(results).toEqual([Errno.EINVAL, Errno.EINVAL, Errno.EINVAL]);
  });

  test('more huge pages than there is memory', () => {
    // 2048 frames: three huge pages beside the tables.
    const story = new Story(1, { frames: 4 * HPAGE_PMD_NR });
    const error = usage(() =>
      story.run([map(story, 0), ...[0, 1, 2, 3].map((page) => touch(0, page))]),
    );
    expect(error.code).toBe('ERR_MEMORY');
  });
});

/** Collapse of 512 small pages into a huge one. */
import { call, PAGE_SIZE, ptePfn, smpMb } from '@shootdown/machine';
import { completion, freePages, type Kthread, type Page, putPage } from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import {
  leafAt,
  mapHuge,
  mapping,
  mapTouched,
  MIB2,
  pageAt,
  RO,
  Scene,
  takeAllBut,
} from './callers.testlib.ts';
import { gupFast } from './gup.ts';
import { Madvise } from './madvise.ts';
import { type CollapseResult, Errno } from './mm.ts';
import { misfits } from './reclaim.testlib.ts';
import type { Program, User } from './user.ts';
import { ANON_RW } from './vma.ts';
import { BASE } from './workloads/workload.ts';

/** And what it has stored is in memory. */
function* collapse(user: User, length: number = MIB2): Kthread<number> {
  const result = yield* call(user.madvise(BASE, length, Madvise.COLLAPSE));
  yield* smpMb();
  return result;
}

test('everything is flushed, lazy CPUs too; then, once, all other CPUs are waited for', () => {
  const scene = new Scene({ cpus: 5 });
  const { k } = scene;
  const before: (number | undefined)[] = [];
  // CPU 3 is idle, CPU 4 runs another process: neither is in mm_cpumask.
  scene.runBeside({ spinning: [1] }, function* (user) {
    yield* call(mapTouched(user, BASE, 512));
    const stop = k.machine.cell('stop it', false);
    const stranger = yield* call(user.fork((other) => other.spin(stop), 4));
    const wake = completion(k.machine, 'wake it');
    const sleeper = yield* call(user.thread(2, (other) => other.waitFor(wake, 1)));
    yield* call(user.compute(100_000));
    // fork has made the pages shared; the parent takes copies.
    yield* call(user.touch(BASE, 512));
    const probe = k.probe;
    k.probe = (event) => {
      if (event.kind === 'sync') before.push(k.stats.flushes.get('1:-1'), k.stats.calRow[2]);
      probe?.(event);
    };
    const [fulls, lazy] = [k.stats.flushes.get('1:-1') ?? 0, k.stats.calRow[2] ?? 0];
    const seen = yield* call(scene.during(collapse(user)));
    k.probe = probe;
    expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1 });
    // The flush to CPUs 1 and 2, and the sync to 1, 2, 3 and 4.
    expect(seen.interrupts).toEqual([0, 2, 2, 1, 1]);
    expect(seen.events.filter((event) => event !== 'free-page')).toEqual([
      'unhook-table',
      'sync ipi',
    ]);
    expect(seen.events.slice(0, 2)).toEqual(['unhook-table', 'sync ipi']);
    // When walkers were waited for, the flush was over, on the lazy CPU too.
    expect(before).toEqual([fulls + 1, lazy + 1]);
    yield* call(user.set(stop));
    yield* call(user.signal(wake));
    yield* call(user.join(stranger));
    yield* call(user.join(sleeper));
  });
  expect(scene.wrong).toEqual([]);
});

test('the pages become one, and the table is kept for the day it is split', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 300));
    // Page 300 is a zero page, the others are none.
    yield* call(user.mmap({ addr: BASE + 300 * PAGE_SIZE, length: MIB2 - 300 * PAGE_SIZE }));
    yield* call(user.read(BASE + 300 * PAGE_SIZE, 1));
    const before = freePages(k);
    expect(yield* call(collapse(user))).toBe(0);
    expect(before - freePages(k)).toBe(512 - 300);
    expect(mapping(k, user.mm, BASE)).toBe('huge-rw');
    const { order, refcount, anonExclusive, mappings } = pageAt(k, user.mm, BASE);
    expect([order, refcount.value, anonExclusive]).toEqual([9, 1, true]);
    expect(mappings.value).toEqual([{ mm: user.mm, addr: BASE }]);
    expect(k.stats.vmstat.thp_collapse_alloc).toBe(1);
    // The table: nothing is allocated when it is split.
    const left = freePages(k);
    yield* call(user.mprotect(BASE, PAGE_SIZE, RO));
    expect(freePages(k)).toBe(left);
    expect(misfits(k, user.mm, BASE, 512)).toEqual([]);
    yield* call(user.mprotect(BASE, PAGE_SIZE, { read: true, write: true }));
    expect(yield* call(collapse(user))).toBe(0);
  });
  expect(scene.wrong).toEqual([]);
});

test('read-only memory collapses into a read-only huge page', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 512));
    yield* call(user.mprotect(BASE, MIB2, RO));
    expect(yield* call(collapse(user))).toBe(0);
    expect(mapping(scene.k, user.mm, BASE)).toBe('huge-ro');
  });
  expect(scene.wrong).toEqual([]);
});

/** One result, how to come to it, and what madvise() says. */
interface Refusal {
  readonly result: CollapseResult;
  readonly errno: number;
  readonly what: string;
  readonly before: Program;
}

const REFUSALS: readonly Refusal[] = [
  {
    result: 'pmd-mapped',
    errno: 0,
    what: 'it is huge already',
    before: (user) => mapHuge(user, BASE),
  },
  {
    result: 'pte-non-present',
    errno: Errno.EINVAL,
    what: 'a page is in swap',
    *before(user) {
      yield* call(mapTouched(user, BASE, 512));
      yield* call(user.madvise(BASE + 40 * PAGE_SIZE, PAGE_SIZE, Madvise.PAGEOUT));
    },
  },
  {
    result: 'pmd-null',
    errno: Errno.EINVAL,
    what: 'nothing was touched',
    before: (user) => user.mmap({ addr: BASE, length: MIB2 }),
  },
  {
    result: 'vma-check',
    errno: Errno.EINVAL,
    what: 'the VMA is smaller',
    before: (user) => mapTouched(user, BASE, 511),
  },
  {
    result: 'alloc-huge-page-fail',
    errno: Errno.ENOMEM,
    what: 'there is no huge page',
    *before(user) {
      yield* call(mapTouched(user, BASE, 512));
      yield* call(takeAllBut(user.k, 511));
    },
  },
];

test.each(REFUSALS)('$result if $what: nothing is flushed', ({ result, errno, before }) => {
  const scene = new Scene({ frames: 2048 });
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(before(user));
    const seen = yield* call(
      scene.during(
        (function* (): Kthread {
          expect(yield* call(k.fn.collapseHugePage(k, user.mm, BASE))).toBe(result);
          expect(yield* call(collapse(user))).toBe(result === 'vma-check' ? Errno.EINVAL : errno);
        })(),
      ),
    );
    expect(seen).toEqual({ flushes: {}, interrupts: [0, 0, 0, 0], events: [] });
    expect(k.stats.vmstat.thp_collapse_alloc).toBe(0);
  });
  expect(k.warnings.size).toBe(0);
});

test('outside of every VMA it is -ENOMEM, whatever else was collapsed', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 512));
    expect(yield* call(collapse(user, 3 * MIB2))).toBe(Errno.ENOMEM);
    expect(mapping(k, user.mm, BASE)).toBe('huge-rw');
    expect(yield* call(user.madvise(BASE + MIB2, MIB2, Madvise.COLLAPSE))).toBe(Errno.ENOMEM);
    expect(yield* call(user.madvise(BASE + 1, MIB2, Madvise.COLLAPSE))).toBe(Errno.EINVAL);
  });
  expect(scene.wrong).toEqual([]);
});

const getOne = function* (user: User, addr: number): Kthread<Page> {
  const pages: Page[] = [];
  const range = { start: addr, end: addr + PAGE_SIZE, write: false, pin: false, pages };
  yield* call(gupFast(user.k, range));
  const [page] = pages;
  if (page === undefined) throw new Error('one page was got');
  return page;
};

test('a page that somebody holds is seen by the scan, before anything is done', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 512));
    const page = yield* call(getOne(user, BASE + 100 * PAGE_SIZE));
    const seen = yield* call(
      scene.during(
        (function* (): Kthread {
          expect(yield* call(k.fn.collapseHugePage(k, user.mm, BASE))).toBe('page-count');
          expect(yield* call(collapse(user))).toBe(Errno.EAGAIN);
        })(),
      ),
    );
    expect(seen).toEqual({ flushes: {}, interrupts: [0, 0, 0, 0], events: [] });
    yield* call(putPage(k, page));
    expect(yield* call(collapse(user))).toBe(0);
  });
  expect(scene.wrong).toEqual([]);
});

test('who gets a page after the scan is noticed when all walkers are out: the table goes back', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    const { mm } = user;
    yield* call(mapTouched(user, BASE, 512));
    const page = pageAt(k, mm, BASE + 7 * PAGE_SIZE);
    const before = [0, 7, 511].map((n) => leafAt(k, mm, BASE + n * PAGE_SIZE));
    const free = freePages(k);
    const probe = k.probe;
    k.probe = (event) => {
      // As by a walker that has read both entries just before.
      if (event.kind === 'unhook-table') page.refcount.value++;
      probe?.(event);
    };
    const seen = yield* call(
      scene.during(
        (function* (): Kthread {
          expect(yield* call(k.fn.collapseHugePage(k, mm, BASE))).toBe('page-count');
        })(),
      ),
    );
    k.probe = probe;
    expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1 });
    // The huge page that was for nothing.
    expect(seen.events).toEqual(['unhook-table', 'sync ipi', 'free-page']);
    expect([0, 7, 511].map((n) => leafAt(k, mm, BASE + n * PAGE_SIZE))).toEqual(before);
    expect(freePages(k)).toBe(free);
    yield* call(putPage(k, page));
    yield* call(user.touch(BASE, 512));
    expect(yield* call(collapse(user))).toBe(0);
  });
  expect(scene.wrong).toEqual([]);
});

test('pages that a child shares are copied out of: the child keeps them', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 512));
    const go = completion(k.machine, 'go');
    const old = ptePfn(leafAt(k, user.mm, BASE + PAGE_SIZE));
    const child = yield* call(
      user.fork(function* (other) {
        yield* call(other.waitFor(go, 1));
        expect(ptePfn(leafAt(k, other.mm, BASE + PAGE_SIZE))).toBe(old);
        expect(pageAt(k, other.mm, BASE).refcount.value).toBe(1);
        yield* call(other.touch(BASE, 512));
      }, 1),
    );
    expect(yield* call(collapse(user))).toBe(0);
    expect(mapping(k, user.mm, BASE)).toBe('huge-rw');
    yield* call(user.signal(go));
    yield* call(user.join(child));
  });
  expect(scene.wrong).toEqual([]);
});

test('threads that read and write meanwhile never use a page or table that is gone', () => {
  for (const kernel of ['6.12.117', '7.0'] as const) {
    const scene = new Scene({ kernel });
    scene.run(function* (user) {
      const until = scene.k.machine.cell('until', false);
      yield* call(user.mmap({ addr: BASE, length: MIB2, flags: { ...ANON_RW, hugepage: true } }));
      yield* call(user.madvise(BASE, MIB2, Madvise.NOHUGEPAGE));
      yield* call(user.touch(BASE, 512));
      const busy = [];
      for (const cpu of [1, 2])
        busy.push(
          yield* call(
            user.thread(cpu, function* (other) {
              while (!until.value) yield* call(other.access(BASE + cpu * PAGE_SIZE, cpu === 1));
            }),
          ),
        );
      for (let round = 0; round < 3; round++) {
        expect(yield* call(collapse(user))).toBe(0);
        yield* call(user.madvise(BASE + round * PAGE_SIZE, PAGE_SIZE, Madvise.DONTNEED));
      }
      yield* call(user.set(until));
      for (const one of busy) yield* call(user.join(one));
    });
    expect(scene.wrong).toEqual([]);
  }
});

test('of two who collapse the same at once one does it, and both succeed', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 512));
    const results: number[] = [];
    const both = function* (one: User): Kthread {
      results.push(yield* call(collapse(one)));
    };
    const other = yield* call(user.thread(1, both));
    yield* call(both(user));
    yield* call(user.join(other));
    expect(results).toEqual([0, 0]);
    expect(mapping(k, user.mm, BASE)).toBe('huge-rw');
  });
  expect(scene.events.filter((event) => event === 'sync ipi')).toHaveLength(1);
  expect(scene.wrong).toEqual([]);
});

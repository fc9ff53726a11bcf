/** mprotect: which entries change, which of the changes are flushed, and what it refuses. */
import { call, PAGE_SIZE, physAddr, readWord, walk } from '@shootdown/machine';
import {
  completion,
  type Kthread,
  migrationPte,
  swapPte,
  tlbGatherMmu,
} from '@shootdown/mmu-gather';
import { expect, test } from 'vitest';
import {
  GIB,
  mapHuge,
  mapping,
  mapTouched,
  MIB2,
  NONE,
  pageAt,
  RO,
  RW,
  Scene,
  type Told,
  vmasOf,
} from './callers.testlib.ts';
import { Errno } from './mm.ts';
import type { Program, User } from './user.ts';
import { BASE } from './workloads/workload.ts';

/** What one step does in a process whose other thread spins on CPU 1, and one sleeps on CPU 2. */
function told(before: Program, step: (user: User) => Kthread<unknown>, after?: Program): Told {
  const scene = new Scene();
  let seen: Told | null = null;
  scene.runBeside({ spinning: [1], lazy: [2] }, function* (user) {
    yield* call(before(user));
    seen = yield* call(scene.during(step(user)));
    if (after !== undefined) yield* call(after(user));
  });
  expect(scene.wrong).toEqual([]);
  if (seen === null) throw new Error('the program did not run');
  return seen;
}

const ONE_PAGE = { '4:1': 1, '3:1': 1, '1:1': 1 };

test('from writable to read-only and back: both are flushed, written to in between or not', () => {
  const protect = (to: typeof RO | typeof RW) => (user: User) => user.mprotect(BASE, PAGE_SIZE, to);
  const stricter = told((user) => mapTouched(user, BASE, 1), protect(RO));
  expect(stricter.flushes).toEqual(ONE_PAGE);
  // No table has gone: the lazy CPU is left alone.
  expect(stricter.interrupts).toEqual([0, 1, 0, 0]);
  const looser = told(
    function* (user) {
      yield* call(mapTouched(user, BASE, 1));
      yield* call(protect(RO)(user));
    },
    protect(RW),
    function* (user) {
      // Who has the page alone is spared the fault.
      expect(mapping(user.k, user.mm, BASE)).toBe('rw');
      const { pgfault } = user.k.stats.vmstat;
      yield* call(user.touch(BASE, 1));
      expect(user.k.stats.vmstat.pgfault).toBe(pgfault);
    },
  );
  expect(looser.flushes).toEqual(ONE_PAGE);
});

test('a change of everything into what it is already does nothing', () => {
  const seen = told(
    (user) => mapTouched(user, BASE, 2),
    (user) => user.mprotect(BASE, 2 * PAGE_SIZE, RW),
  );
  expect(seen).toEqual({ flushes: {}, interrupts: [0, 0, 0, 0], events: [] });
});

test('a page that is shared after fork is not made writable, and that is no change to flush', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    const go = completion(k.machine, 'go');
    yield* call(mapTouched(user, BASE, 2));
    const child = yield* call(user.fork((other) => other.waitFor(go, 1), 2));
    const protect = function* (): Kthread {
      yield* call(user.mprotect(BASE, 2 * PAGE_SIZE, RO));
      yield* call(user.mprotect(BASE, 2 * PAGE_SIZE, RW));
    };
    expect((yield* call(scene.during(protect()))).flushes).toEqual({});
    expect(mapping(k, user.mm, BASE)).toBe('ro');
    const { pfn } = pageAt(k, user.mm, BASE);
    expect((yield* call(scene.during(user.touch(BASE, 1)))).flushes).toEqual(ONE_PAGE);
    expect(pageAt(k, user.mm, BASE).pfn).not.toBe(pfn);
    yield* call(user.signal(go));
    yield* call(user.join(child));
  });
  expect(scene.wrong).toEqual([]);
});

test('pages that are not there, and the zero page, are no reason to flush', () => {
  const seen = told(
    function* (user) {
      yield* call(user.mmap({ addr: BASE, length: 8 * PAGE_SIZE }));
      yield* call(user.read(BASE, 2));
    },
    function* (user) {
      yield* call(user.mprotect(BASE, 8 * PAGE_SIZE, RO));
      yield* call(user.mprotect(BASE, 8 * PAGE_SIZE, RW));
    },
    (user) => {
      expect(mapping(user.k, user.mm, BASE)).toBe('zero');
      return user.touch(BASE, 8);
    },
  );
  expect(seen.flushes).toEqual({});
});

test('PROT_NONE is flushed; leaving it is not, because nothing of it is in any TLB', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.runBeside({}, function* (user) {
    yield* call(mapTouched(user, BASE, 1));
    const none = yield* call(scene.during(user.mprotect(BASE, PAGE_SIZE, NONE)));
    expect(none.flushes).toEqual(ONE_PAGE);
    expect(mapping(k, user.mm, BASE)).toBe('prot-none');
    const back = yield* call(scene.during(user.mprotect(BASE, PAGE_SIZE, RW)));
    expect(back.flushes).toEqual({});
    expect(mapping(k, user.mm, BASE)).toBe('rw');
    yield* call(user.touch(BASE, 1));
  });
  expect(scene.wrong).toEqual([]);
});

test.each([
  { pages: 33, shown: 33 },
  { pages: 34, shown: -1 },
])('$pages pages are flushed as $shown', ({ pages, shown }) => {
  const seen = told(
    (user) => mapTouched(user, BASE, pages),
    (user) => user.mprotect(BASE, pages * PAGE_SIZE, RO),
  );
  expect(seen.flushes).toEqual({ [`4:${shown}`]: 1, [`3:${shown}`]: 1, [`1:${shown}`]: 1 });
});

test('the flush is from the first entry that changed to the last, over tables and VMAs', () => {
  const seen = told(
    function* (user) {
      yield* call(user.mmap({ addr: BASE, length: 2 * MIB2 }));
      yield* call(user.touch(BASE + MIB2 - 2 * PAGE_SIZE, 1));
      yield* call(user.touch(BASE + MIB2 + 3 * PAGE_SIZE, 1));
    },
    (user) => user.mprotect(BASE, 2 * MIB2, RO),
  );
  // Two pages before the border, and up to the fourth behind it.
  expect(seen.flushes).toEqual({ '4:6': 1, '3:6': 1, '1:6': 1 });
});

test('a huge page is protected as a whole: 512 pages for who sends, one for who flushes', () => {
  const seen = told(
    (user) => mapHuge(user, BASE),
    (user) => user.mprotect(BASE, MIB2, RO),
    function* (user) {
      expect(mapping(user.k, user.mm, BASE)).toBe('huge-ro');
      yield* call(user.mprotect(BASE, MIB2, RW));
      expect(mapping(user.k, user.mm, BASE)).toBe('huge-rw');
    },
  );
  expect(seen.flushes).toEqual({ '4:512': 1, '3:1': 1, '1:1': 1 });
  expect(seen.interrupts).toEqual([0, 1, 0, 0]);
});

test('for one page a huge page is split first, and that reaches lazy CPUs too', () => {
  const seen = told(
    (user) => mapHuge(user, BASE),
    (user) => user.mprotect(BASE + 17 * PAGE_SIZE, PAGE_SIZE, RO),
    function* (user) {
      const { k, mm } = user;
      const kinds = [16, 17, 18].map((page) => mapping(k, mm, BASE + page * PAGE_SIZE));
      expect(kinds).toEqual(['rw', 'ro', 'rw']);
      yield* call(user.touch(BASE, 1));
    },
  );
  // The split, of 512 pages by strides of 4 KiB; and the page.
  expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1, '4:1': 1, '3:1': 1, '1:1': 1 });
  expect(seen.interrupts).toEqual([0, 2, 1, 0]);
});

test('a range with a hole: what is before the hole changes, and the answer is -ENOMEM', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    yield* call(mapTouched(user, BASE + 3 * PAGE_SIZE, 2));
    const at = (page: number): string => mapping(k, user.mm, BASE + page * PAGE_SIZE);
    const protect = (page: number, pages: number): Kthread<number> =>
      user.mprotect(BASE + page * PAGE_SIZE, pages * PAGE_SIZE, RO);
    expect(yield* call(protect(1, 4))).toBe(Errno.ENOMEM);
    expect([0, 1, 3, 4].map(at)).toEqual(['rw', 'ro', 'rw', 'rw']);
    // Beginning in the hole, ending in nothing, or where nobody is at all.
    expect(yield* call(protect(2, 2))).toBe(Errno.ENOMEM);
    expect(at(3)).toBe('rw');
    expect(yield* call(protect(4, 2))).toBe(Errno.ENOMEM);
    expect(at(4)).toBe('ro');
    expect(yield* call(protect(100, 1))).toBe(Errno.ENOMEM);
    expect(yield* call(user.mprotect(-PAGE_SIZE, PAGE_SIZE, RO))).toBe(Errno.ENOMEM);
    expect(yield* call(user.mprotect(BASE, -PAGE_SIZE, RO))).toBe(Errno.ENOMEM);
  });
  expect(scene.wrong).toEqual([]);
});

test('an address that is not aligned is -EINVAL, no length at all is fine', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    yield* call(mapTouched(user, BASE, 2));
    expect(yield* call(user.mprotect(BASE + 8, PAGE_SIZE, RO))).toBe(Errno.EINVAL);
    expect(yield* call(user.mprotect(BASE, 0, RO))).toBe(0);
    expect(mapping(scene.k, user.mm, BASE)).toBe('rw');
    // A part of a page is the page.
    expect(yield* call(user.mprotect(BASE, 1, RO))).toBe(0);
    expect(vmasOf(user.mm, BASE)).toEqual([
      [0, 1],
      [1, 2],
    ]);
  });
  expect(scene.wrong).toEqual([]);
});

test('VMAs are cut where protections differ, and joined where they do not', () => {
  const scene = new Scene();
  scene.run(function* (user) {
    const protect = (page: number, pages: number, to: typeof RO | typeof RW): Kthread<number> =>
      user.mprotect(BASE + page * PAGE_SIZE, pages * PAGE_SIZE, to);
    yield* call(mapTouched(user, BASE, 8));
    yield* call(protect(2, 3, RO));
    expect(vmasOf(user.mm, BASE)).toEqual([
      [0, 2],
      [2, 5],
      [5, 8],
    ]);
    expect(user.mm.vmas.map(({ flags }) => flags.write)).toEqual([true, false, true]);
    yield* call(protect(3, 1, RW));
    expect(vmasOf(user.mm, BASE)).toHaveLength(5);
    yield* call(protect(1, 6, RW));
    expect(vmasOf(user.mm, BASE)).toEqual([[0, 8]]);
    yield* call(protect(0, 2, RO));
    yield* call(protect(2, 6, RO));
    expect(vmasOf(user.mm, BASE)).toEqual([[0, 8]]);
  });
  expect(scene.wrong).toEqual([]);
});

test('entries that say where a page is, or where it goes, keep saying so', () => {
  const scene = new Scene();
  const { k } = scene;
  scene.run(function* (user) {
    yield* call(user.mmap({ addr: BASE, length: 4 * PAGE_SIZE }));
    yield* call(user.touch(BASE + 3 * PAGE_SIZE, 1));
    const { mm } = user;
    const table = (walk(k.machine.physical, mm.pgd, k.machine.levels, BASE).at(-1)?.at ?? 0) / 8;
    const write = (page: number, pte: number): void =>
      k.machine.physical.write(physAddr((table + page) * 8), pte);
    const both = function* (): Kthread<readonly number[]> {
      return [yield* readWord(physAddr(table * 8)), yield* readWord(physAddr((table + 1) * 8))];
    };
    const moving = migrationPte(77, true);
    write(0, moving);
    write(1, swapPte(5));
    const tlb = yield* call(tlbGatherMmu(k, mm));
    const [vma] = mm.vmas;
    if (vma === undefined) throw new Error('there is a VMA');
    const range = { start: BASE, end: BASE + 2 * PAGE_SIZE };
    yield* call(k.fn.changeProtection(k, tlb, vma, { ...range, ...RW }));
    expect(yield* call(both())).toEqual([moving, swapPte(5)]);
    yield* call(k.fn.changeProtection(k, tlb, vma, { ...range, ...RO }));
    // It will not arrive writable.
    expect(yield* call(both())).toEqual([migrationPte(77, false), swapPte(5)]);
    yield* call(k.fn.tlbFinishMmu(k, tlb));
    write(0, 0);
    write(1, 0);
  });
  expect(scene.wrong).toEqual([]);
});

test('mprotect over more than one PMD table', () => {
  const seen = told(
    function* (user) {
      yield* call(user.mmap({ addr: BASE, length: 2 * GIB }));
      yield* call(user.touch(BASE, 1));
      yield* call(user.touch(BASE + 2 * GIB - PAGE_SIZE, 1));
    },
    (user) => user.mprotect(BASE, 2 * GIB, RO),
    function* (user) {
      yield* call(user.read(BASE, 1));
      expect(mapping(user.k, user.mm, BASE)).toBe('ro');
      expect(mapping(user.k, user.mm, BASE + 2 * GIB - PAGE_SIZE)).toBe('ro');
    },
  );
  expect(seen.flushes).toEqual({ '4:-1': 1, '3:-1': 1, '1:-1': 1 });
});

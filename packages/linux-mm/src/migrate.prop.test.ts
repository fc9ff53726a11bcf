/** Laws of reclaim and migration together, over random threads and random interleavings. */
import { call, PAGE_SIZE, ptePfn } from '@shootdown/machine';
import {
  type Kthread,
  type Page,
  PMD_SIZE,
  putPage,
  RELEASES,
  startCpus,
} from '@shootdown/mmu-gather';
import { pct, randomScheduler, type Scheduler } from '@shootdown/sim';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { gupFast } from './gup.ts';
import { testKernel } from './kernel.testlib.ts';
import { Madvise } from './madvise.ts';
import { misfits, ptesAt, runWatched } from './reclaim.testlib.ts';
import { newProcess, type User } from './user.ts';
import { BASE, emptyMm } from './workloads/workload.ts';

const PAGES = 3;

/** One thing that a thread does, on pages [page, page + pages). */
interface Action {
  readonly kind: 'touch' | 'read' | 'pageout' | 'move' | 'zap' | 'fork' | 'hold' | 'zapTable';
  readonly page: number;
  readonly pages: number;
  /** The node, where the child runs, or whether it is for writing. */
  readonly which: number;
}

interface Story {
  readonly threads: readonly (readonly Action[])[];
  readonly scheduler: 'random' | 'pct';
  readonly seed: number;
  readonly kernel: (typeof RELEASES)[number];
  /** Whether the main thread stays until the others have ended. */
  readonly joins: boolean;
}

const actionOf = (kinds: readonly Action['kind'][]): fc.Arbitrary<Action> =>
  fc
    .record({
      kind: fc.constantFrom(...kinds),
      page: fc.nat(PAGES - 1),
      pages: fc.integer({ min: 1, max: PAGES }),
      which: fc.nat(1),
    })
    .map((action) => ({ ...action, pages: Math.min(action.pages, PAGES - action.page) }));

const storyOf = (kinds: readonly Action['kind'][]): fc.Arbitrary<Story> =>
  fc.record({
    threads: fc.array(fc.array(actionOf(kinds), { minLength: 1, maxLength: 4 }), {
      minLength: 2,
      maxLength: 3,
    }),
    scheduler: fc.constantFrom('random', 'pct'),
    seed: fc.nat(1_000_000),
    kernel: fc.constantFrom(...RELEASES),
    joins: fc.boolean(),
  });

/** A page that was got and is kept until the end. */
interface Held {
  readonly page: Page;
  readonly addr: number;
}

function* act(user: User, action: Action, held: Held[]): Kthread {
  const { k } = user;
  const { kind, page, pages, which } = action;
  const start = BASE + page * PAGE_SIZE;
  const length = pages * PAGE_SIZE;
  if (kind === 'touch') yield* call(user.touch(start, pages));
  else if (kind === 'read') yield* call(user.read(start, pages));
  else if (kind === 'pageout') yield* call(user.madvise(start, length, Madvise.PAGEOUT));
  else if (kind === 'zap') yield* call(user.madvise(start, length, Madvise.DONTNEED));
  else if (kind === 'zapTable') yield* call(user.madvise(BASE, PMD_SIZE, Madvise.DONTNEED));
  else if (kind === 'move') yield* call(user.mbind(start, length, which));
  else if (kind === 'hold') {
    const got: Page[] = [];
    const range = { start, end: start + length, write: which === 1, pin: false, pages: got };
    yield* call(gupFast(k, range));
    held.push(...got.map((one, n) => ({ page: one, addr: start + n * PAGE_SIZE })));
  } else yield* call(fork(user, action));
}

/** A child that reads, pages out and moves what it shares with its parent, and ends by itself. */
function* fork(user: User, { page, pages, which }: Action): Kthread {
  const start = BASE + page * PAGE_SIZE;
  yield* call(
    user.fork(function* (child) {
      yield* call(child.read(start, pages));
      yield* call(child.madvise(start, pages * PAGE_SIZE, Madvise.PAGEOUT));
      yield* call(child.mbind(start, pages * PAGE_SIZE, which));
    }, which),
  );
}

/** Runs a story to its end; gives everything that must not be. */
function tell({ threads, scheduler, seed, kernel, joins }: Story): readonly string[] {
  const { k } = testKernel({
    cpus: 3,
    nodes: 2,
    frames: 1024,
    kernel,
    machine: { tlb: 'mayCached' },
  });
  const wrong: string[] = [];
  const held: Held[] = [];
  newProcess(k, { comm: 'test', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(user.mmap({ addr: BASE, length: PMD_SIZE }));
    yield* call(user.touch(BASE, PAGES));
    const [mine = [], ...others] = threads;
    const helpers = [];
    for (const [n, actions] of others.entries())
      helpers.push(
        yield* call(
          user.thread(n + 1, function* (helper) {
            for (const action of actions) yield* call(act(helper, action, held));
          }),
        ),
      );
    for (const action of mine) yield* call(act(user, action, held));
    if (joins) for (const helper of helpers) yield* call(user.join(helper));
    if (!joins) return;
    // Who was held is where it was, unless it was zapped or copied.
    for (const { page, addr } of held) {
      const [pte = 0] = ptesAt(k, user.mm, addr, 1);
      if (ptePfn(pte) !== page.pfn) wrong.push(`page ${page.pfn} was held and has gone`);
      yield* call(putPage(k, page));
    }
    wrong.push(...(threads.some(hasFork) ? [] : misfits(k, user.mm, BASE, PAGES)));
    yield* call(user.touch(BASE, PAGES));
  });
  startCpus(k);
  return [...runWatched(k, schedulerOf(scheduler, seed)), ...wrong];
}

const hasFork = (actions: readonly Action[]): boolean =>
  actions.some(({ kind }) => kind === 'fork');

const schedulerOf = (kind: Story['scheduler'], seed: number): Scheduler =>
  kind === 'random' ? randomScheduler(seed) : pct({ seed, depth: 4, steps: 3000 });

test('whatever threads touch, page out, move, zap, fork and end: no page is lost or used after it was freed', () => {
  fc.assert(
    fc.property(storyOf(['touch', 'read', 'pageout', 'move', 'zap', 'fork']), (story) => {
      expect(tell(story)).toEqual([]);
    }),
    { numRuns: 300 },
  );
});

test('a page that GUP-fast has got stays where it was mapped', () => {
  fc.assert(
    fc.property(storyOf(['touch', 'read', 'pageout', 'move', 'hold']), (story) => {
      expect(tell({ ...story, joins: true })).toEqual([]);
    }),
    { numRuns: 300 },
  );
});

test('a page table that goes in the middle of it is noticed', () => {
  fc.assert(
    fc.property(storyOf(['pageout', 'move', 'zapTable']), (story) => {
      expect(tell({ ...story, kernel: '7.0' })).toEqual([]);
    }),
    { numRuns: 300 },
  );
});

/** Random processes that map, use, change and unmap one hugetlb file, in turn and all at once. */
import { call } from '@shootdown/machine';
import type { Kthread, Release } from '@shootdown/mmu-gather';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { evict, GIB, map, MIB2, SHARED, type Step, Story } from './hugetlb.testlib.ts';
import { Madvise } from './madvise.ts';
import type { User } from './user.ts';
import { vmaLookup } from './vma.ts';
import { BASE } from './workloads/workload.ts';

const PROCESSES = 3;
const TABLES = 2;
const LENGTH = TABLES * GIB;

type Act =
  | { readonly kind: 'map' }
  | { readonly kind: 'unmap' }
  | { readonly kind: 'touch'; readonly page: number }
  | { readonly kind: 'drop'; readonly page: number }
  | { readonly kind: 'unmap-table'; readonly table: number }
  | {
      readonly kind: 'protect';
      readonly page: number;
      readonly pages: number;
      readonly write: boolean;
    };

/** The first and last pages of both tables, and one inside. */
const page = fc.constantFrom(0, 1, 511, 512, 700, 1023);

const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('map' as const) }) },
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('touch' as const), page }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('drop' as const), page }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unmap' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('unmap-table' as const),
      table: fc.constantFrom(0, 1),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('protect' as const),
      page,
      pages: fc.constantFrom(1, 512, 2048),
      write: fc.boolean(),
    }),
  },
);

/** Does what makes sense now: what is not mapped is not used. */
function* perform(user: User, story: Story, what: Act): Kthread {
  const { mm } = user;
  if (what.kind === 'map') {
    const { file } = story;
    if (mm.vmas.length === 0)
      yield* call(user.mmap({ addr: BASE, length: LENGTH, flags: SHARED, file }));
  } else if (what.kind === 'unmap') yield* call(user.munmap(BASE, LENGTH));
  else if (what.kind === 'unmap-table') yield* call(user.munmap(BASE + what.table * GIB, GIB));
  else {
    const addr = BASE + what.page * MIB2;
    const vma = vmaLookup(mm, addr);
    if (vma === null) return;
    if (what.kind === 'touch') yield* call(user.access(addr, vma.flags.write));
    else if (what.kind === 'drop') yield* call(user.madvise(addr, MIB2, Madvise.DONTNEED));
    else {
      const length = Math.min(what.pages * MIB2, vma.end - addr);
      yield* call(user.mprotect(addr, length, { read: true, write: what.write }));
    }
  }
}

const acts = fc.array(fc.record({ on: fc.nat(PROCESSES - 1), what: act }), {
  minLength: 10,
  maxLength: 40,
});

/** Which processes use a table, by its frame and place. */
function usersOf(story: Story): Map<string, number[]> {
  const users = new Map<string, number[]>();
  for (let p = 0; p < PROCESSES; p++)
    for (let table = 0; table < TABLES; table++) {
      const pfn = story.sharing(p, BASE + table * GIB)?.pfn;
      if (pfn === undefined) continue;
      const key = `${pfn} ${table}`;
      users.set(key, [...(users.get(key) ?? []), p]);
    }
  return users;
}

/** What every table counts is who uses it beyond one. */
function expectCounted(story: Story): void {
  for (const [key, users] of usersOf(story)) {
    const [p = 0] = users;
    const count = story.sharing(p, BASE + Number(key.split(' ')[1]) * GIB)?.count;
    expect(`${key}: ${count}`).toBe(`${key}: ${users.length - 1}`);
  }
}

/** How many waits for walkers are due, when the users of tables have changed like this. */
interface Due {
  /** For a change of one mapping: with the gather one, however many tables it leaves to one owner. */
  readonly least: number;
  /** For a change of several: one for each table. */
  readonly most: number;
}

function dueWaits(
  before: ReadonlyMap<string, number[]>,
  after: ReadonlyMap<string, number[]>,
  inGather: boolean,
): Due {
  const users = (key: string): number => after.get(key)?.length ?? 0;
  const left = [...before].filter(([key, { length }]) => length > 1 && users(key) < length);
  if (!inGather) return { least: left.length, most: left.length };
  const most = left.filter(([key]) => users(key) === 1).length;
  return { least: Math.min(most, 1), most };
}

const begin = (story: Story): readonly Step[] =>
  Array.from({ length: PROCESSES }, (_, on) => map(story, on, LENGTH));

const end = (story: Story): readonly Step[] => [
  ...Array.from({ length: PROCESSES }, (_, on) => ({
    on,
    name: `p${on} leaves`,
    run: (user: User) => user.munmap(BASE, LENGTH),
  })),
  evict(story, 0),
];

test.each<Release>(['7.0', '6.18'])(
  '%s: in whatever order, tables count their users, and nobody waits in vain or too little',
  (kernel) => {
    let waits = 0;
    fc.assert(
      fc.property(acts, (script) => {
        const story = new Story(PROCESSES, { kernel });
        let before = usersOf(story);
        const steps = script.map(({ on, what }, at): Step => {
          let mappings = 0;
          return {
            on,
            name: `${at}`,
            *run(user) {
              mappings = user.mm.vmas.length;
              yield* call(perform(user, story, what));
            },
            after() {
              const users = usersOf(story);
              expectCounted(story);
              const { least, most } = dueWaits(before, users, kernel === '7.0');
              const had = story.syncs(`${at}`);
              expect(had).toBeGreaterThanOrEqual(least);
              // mprotect may split a mapping first, and let a table go for that.
              const one = mappings <= 1 && what.kind !== 'protect';
              expect(had).toBeLessThanOrEqual(one ? least : most);
              waits += had;
              before = users;
            },
          };
        });
        story.run([...begin(story), ...steps, ...end(story)]);
        expect(story.findings).toEqual([]);
        expect(story.file.mappings.size).toBe(0);
      }),
      { numRuns: 60 },
    );
    // It did come to that.
    expect(waits).toBeGreaterThan(20);
  },
);

test.each<Release>(['7.0', '6.18'])(
  '%s: all at once, no frame is lost or freed twice',
  (kernel) => {
    const script = fc.array(fc.record({ what: act, delayNs: fc.nat(3000) }), {
      minLength: 4,
      maxLength: 16,
    });
    let waits = 0;
    fc.assert(
      fc.property(fc.tuple(script, script, script), (scripts) => {
        const story = new Story(PROCESSES, { kernel });
        const together = scripts.flatMap((mine, on) =>
          mine.map(({ what, delayNs }): Step => ({
            on,
            name: '',
            *run(user) {
              yield* call(user.compute(delayNs));
              yield* call(perform(user, story, what));
            },
          })),
        );
        const look = { on: 0, name: 'look', run: (user: User) => user.compute(1) };
        story.run([{ ...look, after: () => expectCounted(story) }, ...end(story)], {
          together: [...begin(story), ...together],
        });
        expect(story.findings).toEqual([]);
        waits += story.waits;
      }),
      { numRuns: 60 },
    );
    // Tables were shared and let go, not only in the end.
    expect(waits).toBeGreaterThan(60);
  },
);

/**
 * Both forms of translation cache: the one that knows all that hardware may hold does so by the
 * letter, and whatever the finite one does is among it.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Cpu } from './cpu.ts';
import { Footprint, wordId } from './footprint.ts';
import type { MachineOptions } from './machine.ts';
import { build, picks, type Plan, plans } from './programs.testlib.ts';
import { take } from './schedule.testlib.ts';
import type { Access } from './tlb.ts';
import { TlbOracle } from './tlbOracle.testlib.ts';
import {
  type Transition,
  transition,
  transitionCpu,
  TransitionKind,
  transitionKind,
} from './transition.ts';
import { ADDRESSES, DATA_FRAMES, FRAMES, type World } from './world.testlib.ts';

const worlds = plans(['tables', 'invalidations', 'broadcasts']).map((plan) => ({
  ...plan,
  moves: [],
}));
const withTlb = (
  plan: Plan,
  tlb: MachineOptions['tlb'],
  extra: Partial<MachineOptions> = {},
): World => build({ ...plan, machine: { ...plan.machine, ...extra, tlb } }, 'inline', true);

const LOOKED_AT = [...DATA_FRAMES, ...Object.values(FRAMES).flat()];
const ACCESSES: readonly Access[] = ADDRESSES.flatMap((va) =>
  [false, true].map((write) => ({ va, write, user: true })),
);

/** Where `access` goes by each way: an address, or a fault. */
function waysOf({ tlb }: Cpu, access: Access): readonly (number | 'fault')[] {
  return Array.from({ length: tlb.ways(access) }, (_, way) => {
    let end: number | 'fault' = 'fault';
    tlb.touch(access, way, new Footprint(), (at) => {
      end = at;
    });
    return end;
  });
}

const sorted = (ways: Iterable<number | 'fault'>): readonly string[] =>
  [...new Set(ways)].map(String).toSorted();

test('what may be cached is what walks could have found and nothing has invalidated', () => {
  let several = 0;
  fc.assert(
    fc.property(worlds, picks(30), (plan, numbers) => {
      const world = withTlb(plan, 'mayCached');
      const oracle = new TlbOracle(world);
      for (const number of numbers) {
        const enabled = world.machine.enabled([]);
        const next = enabled[number % enabled.length];
        if (next === undefined) return;
        const happened = oracle.watch(next);
        if (!take(world, next)) return;
        happened();
        for (const cpu of world.machine.cpus) {
          for (const access of ACCESSES) {
            const ways = sorted(waysOf(cpu, access));
            expect(ways).toEqual(sorted(oracle.ways(cpu, access)));
            if (ways.length > 1) several++;
          }
          for (const frame of LOOKED_AT) {
            const { walks, translates } = oracle.users(cpu, frame);
            expect([cpu.tlb.walksThrough(frame), cpu.tlb.translatesTo(frame)]).toEqual([
              walks,
              translates,
            ]);
          }
        }
      }
    }),
    { numRuns: 250 },
  );
  expect(several).toBeGreaterThan(1000);
});

/** Whether a way of `access` sets a bit in the entry that it goes through. */
const marks = ({ tlb }: Cpu, access: Access, way: number): boolean => {
  const footprint = new Footprint();
  tlb.touch(access, way, footprint, () => undefined);
  return footprint.writes.some((id) => id >= wordId(0));
};

/**
 * Has `may` follow `next`, which `finite` is about to take: where that goes one way, the other has
 * to have a way to the same place.
 */
function follow(finite: World, may: World, next: Transition): void {
  const id = transitionCpu(next);
  const [cpu, other] = [finite.machine.cpu(id), may.machine.cpu(id)];
  if (transitionKind(next) !== TransitionKind.step || cpu.op?.kind.name !== 'access') {
    finite.machine.execute(next);
    may.machine.execute(next);
    return;
  }
  const access = cpu.op.operand as Access;
  const [there] = waysOf(cpu, access);
  const marked = marks(cpu, access, 0);
  const ways = waysOf(other, access);
  finite.machine.execute(next);
  const end = finite.machine.cpu(id).op?.kind.name === 'pageFault' ? 'fault' : there;
  const fitting = [...ways.keys()].filter((way) => ways[way] === end);
  expect(fitting).not.toEqual([]);
  const way = fitting.find((each) => marks(other, access, each) === marked) ?? fitting[0] ?? 0;
  may.machine.execute(transition(TransitionKind.step, id, way));
}

/** The page frames that each CPU may walk through or translate to. */
const usersIn = ({ machine }: World): string[] =>
  machine.cpus.flatMap(({ id, tlb }) =>
    LOOKED_AT.flatMap((frame) => [
      ...(tlb.walksThrough(frame) ? [`${id} walks through ${frame}`] : []),
      ...(tlb.translatesTo(frame) ? [`${id} translates to ${frame}`] : []),
    ]),
  );

test('wherever the finite form goes, the other may go on the same schedule', () => {
  let translated = 0;
  const sizes = { leaf: 2, upper: [1, 1, 1, 1] } as const;
  fc.assert(
    fc.property(worlds, picks(40), fc.constantFrom(sizes, {}), (plan, numbers, tlbSizes) => {
      const finite = withTlb(plan, 'finite', { tlbSizes });
      const may = withTlb(plan, 'mayCached');
      for (const number of numbers) {
        const enabled = finite.machine.enabled([]);
        const next = enabled[number % enabled.length];
        if (next === undefined) return;
        follow(finite, may, next);
        const used = usersIn(finite);
        expect(usersIn(may)).toEqual(expect.arrayContaining(used));
        translated += used.length;
      }
    }),
    { numRuns: 400 },
  );
  expect(translated).toBeGreaterThan(1000);
});

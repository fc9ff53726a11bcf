/**
 * The commutation law in the smallest worlds in which one part of some footprint is needed: at
 * every state that they can come to. footprint.prop.test.ts tries it in random worlds.
 */
import { expect, test } from 'vitest';
import { AXIOMS, type Axioms } from './axioms.ts';
import { findings, type Finding, lies, Tally } from './commutation.testlib.ts';
import type { MachineOptions } from './machine.ts';
import { build, type Plan } from './programs.testlib.ts';
import { schedulesToAll, take } from './schedule.testlib.ts';
import { type Shape, SHAPES, TRANSLATION } from './shapes.testlib.ts';

/** What there is to say of every state of `plan`. */
function everywhere(plan: Plan): readonly Finding[] {
  const make = (): ReturnType<typeof build> => build(plan);
  return schedulesToAll(make).flatMap((schedule) =>
    findings(() => {
      const world = make();
      for (const next of schedule) take(world, next);
      return world;
    }),
  );
}

test.each(SHAPES)('what does not conflict can be swapped: $about', ({ plan, pairs }) => {
  const tally = new Tally();
  const all = everywhere(plan);
  tally.count(all);
  expect(lies(all)).toEqual([]);
  expect(tally.missing(pairs)).toEqual([]);
});

/** Machines of another make, and the worlds in which that matters. */
const MAKES: readonly (readonly [string, Partial<MachineOptions>, readonly Shape[]])[] = [
  ['without store buffers', { model: 'sc' }, SHAPES],
  ['with finite translation caches', { tlb: 'finite' }, TRANSLATION],
  ['with every axiom the other way round', { axioms: otherAxioms() }, SHAPES],
];

function otherAxioms(): Partial<Axioms> {
  const others = Object.entries(AXIOMS).map(([name, { usually }]) => [name, !usually]);
  return Object.fromEntries(others) as Partial<Axioms>;
}

test.each(MAKES)('what does not conflict can be swapped %s', (_about, make, shapes) => {
  for (const { plan } of shapes)
    expect(lies(everywhere({ ...plan, machine: { ...plan.machine, ...make } }))).toEqual([]);
});

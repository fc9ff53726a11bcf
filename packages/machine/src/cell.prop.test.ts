/**
 * A cell has the same id in every interleaving, also one that code makes while it runs: footprints
 * of one schedule can be compared with those of another.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Machine } from './machine.ts';
import type { Coroutine } from './op.ts';
import { nop, setBit, writeOnce } from './ops/memory.ts';
import { Footprint } from './footprint.ts';
import { picks } from './programs.testlib.ts';
import { type Transition, transitionCpu } from './transition.ts';

/** What a CPU makes, one thing after the other; `false` is a step without one. */
const programs = fc.array(
  fc.array(fc.constantFrom('cell', 'mask', 'nothing'), { maxLength: 5, size: 'max' }),
  { minLength: 2, maxLength: 3, size: 'max' },
);

/** Runs it by `numbers` to the end; what each CPU touched, in its order, and all ids. */
function run(all: readonly (readonly string[])[], numbers: readonly number[]) {
  const machine = new Machine({ cpus: all.length, model: 'sc' });
  const ids: number[] = [];
  function* program(cpu: number, makes: readonly string[]): Coroutine {
    for (const [index, what] of makes.entries()) {
      yield* nop();
      const name = `${what} ${index} of ${cpu}`;
      if (what === 'cell') {
        const cell = machine.cell(name, 0);
        ids.push(cell.id);
        yield* writeOnce(cell, 1);
      }
      if (what !== 'mask') continue;
      const mask = machine.maskCell(name);
      for (const { id } of machine.cpus) ids.push(mask.id + id * mask.stride);
      yield* setBit(mask, cpu);
    }
  }
  for (const [cpu, makes] of all.entries()) machine.run(cpu, program(cpu, makes));
  const touched = all.map((): string[] => []);
  const enabled: Transition[] = [];
  for (let step = 0; machine.enabled(enabled).length > 0; step++) {
    const next = enabled[(numbers[step] ?? 0) % enabled.length];
    if (next === undefined) break;
    const footprint = new Footprint();
    machine.touch(next, footprint);
    touched[transitionCpu(next)]?.push(JSON.stringify(footprint));
    machine.execute(next);
  }
  return { touched, ids };
}

test('what code makes has the same ids in every interleaving, and each its own', () => {
  fc.assert(
    fc.property(programs, picks(30), picks(30), (all, one, other) => {
      const { touched, ids } = run(all, one);
      expect(run(all, other).touched).toEqual(touched);
      expect(new Set(ids).size).toBe(ids.length);
    }),
    { numRuns: 500 },
  );
});

test('cells that were there before any code have ids in the order in which they were made', () => {
  const make = (): readonly number[] => {
    const machine = new Machine({ cpus: 3 });
    const cells = [machine.cell('a', 0), machine.maskCell('b'), machine.cell('c', 0)];
    return cells.map(({ id }) => id);
  };
  const [a = 0, b = 0, c = 0] = make();
  expect(make()).toEqual([a, b, c]);
  expect([b - a, c - b]).toEqual([1, 3]);
});

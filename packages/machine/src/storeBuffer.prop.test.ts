/**
 * The store buffer against the abstract machine of x86-TSO (Owens, Sarkar and Sewell, TPHOLs 2009),
 * written down here once more in a few lines: the same programs by the same schedule have to see
 * the same values.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Machine } from './machine.ts';
import { physAddr } from './ids.ts';
import type { Coroutine, Op } from './op.ts';
import * as memory from './ops/memory.ts';
import { transition, type Transition, transitionCpu, TransitionKind } from './transition.ts';
import { picks } from './programs.testlib.ts';
import { runToEnd } from './schedule.testlib.ts';

const PLACES = ['x', 'y', 'word 0x10', 'word 0x18'] as const;
type Place = (typeof PLACES)[number];

interface Step {
  readonly does: 'load' | 'store' | 'xchg' | 'fence';
  readonly place: Place;
}

const step: fc.Arbitrary<Step> = fc.record({
  does: fc.constantFrom('load', 'load', 'store', 'store', 'store', 'xchg', 'fence'),
  place: fc.constantFrom(...PLACES),
});
const programs = fc.array(fc.array(step, { maxLength: 8, size: 'max' }), {
  minLength: 2,
  maxLength: 3,
  size: 'max',
});

/** What the `index`-th step of CPU `cpu` writes, if it writes. */
const valueOf = (cpu: number, index: number): number => 100 * (cpu + 1) + index;

interface Run {
  readonly machine: Machine;
  readonly seen: readonly number[][];
  readonly memory: () => readonly number[];
}

function build(all: readonly (readonly Step[])[], model: 'tso' | 'sc'): Run {
  const machine = new Machine({ cpus: all.length, frames: 1, model, checked: true });
  const [x, y] = [machine.cell('x', 0), machine.cell('y', 0)];
  const words = [physAddr(0x10), physAddr(0x18)] as const;
  const op = ({ does, place }: Step, value: number): Op<number | void> => {
    if (does === 'fence') return memory.smpMb();
    const index = PLACES.indexOf(place);
    const [cell, at] = [[x, y][index], words[index - 2] ?? words[0]];
    if (cell === undefined)
      return { load: memory.readWord, store: memory.writeWord, xchg: memory.xchgWord }[does](
        at,
        value,
      );
    return { load: memory.readOnce, store: memory.writeOnce, xchg: memory.xchg }[does](cell, value);
  };
  const seen = all.map((): number[] => []);
  function* run(cpu: number, program: readonly Step[]): Coroutine {
    for (const [index, each] of program.entries()) {
      const result = yield* op(each, valueOf(cpu, index));
      if (typeof result === 'number') seen[cpu]?.push(result);
    }
  }
  for (const [cpu, program] of all.entries()) machine.run(cpu, run(cpu, program));
  const now = () => [x.value, y.value, ...words.map((at) => machine.physical.read(at))];
  return { machine, seen, memory: now };
}

/** The abstract machine: memory, and per CPU a queue of stores. */
function abstractMachine(all: readonly (readonly Step[])[], schedule: readonly Transition[]) {
  const held = new Map<Place, number>();
  const queues = all.map((): { place: Place; value: number }[] => []);
  const next = all.map(() => 0);
  const seen = all.map((): number[] => []);
  for (const taken of schedule) {
    const cpu = transitionCpu(taken);
    const queue = queues[cpu] ?? [];
    if (taken === transition(TransitionKind.drain, cpu)) {
      const oldest = queue.shift();
      if (oldest !== undefined) held.set(oldest.place, oldest.value);
      continue;
    }
    const index = next[cpu] ?? 0;
    next[cpu] = index + 1;
    const { does, place } = all[cpu]?.[index] ?? { does: 'fence', place: 'x' };
    const value = valueOf(cpu, index);
    if (does === 'load' || does === 'xchg')
      seen[cpu]?.push(
        queue.findLast((store) => store.place === place)?.value ?? held.get(place) ?? 0,
      );
    if (does === 'xchg') held.set(place, value);
    if (does === 'store') queue.push({ place, value });
  }
  return { seen, memory: PLACES.map((place) => held.get(place) ?? 0) };
}

test('programs see what the abstract machine of x86-TSO shows them', () => {
  let forwarded = 0;
  fc.assert(
    fc.property(programs, picks(60), (all, numbers) => {
      const { machine, seen, memory: now } = build(all, 'tso');
      const schedule = runToEnd(machine, numbers);
      expect({ seen, memory: now() }).toEqual(abstractMachine(all, schedule));
      forwarded += seen.flat().filter((value) => value !== 0).length;
    }),
    { numRuns: 1000 },
  );
  expect(forwarded).toBeGreaterThan(100);
});

test('stores of one CPU reach memory in the order of its program', () => {
  fc.assert(
    fc.property(programs, picks(60), (all, numbers) => {
      const { machine, memory: now } = build(all, 'tso');
      const arrived = all.map((): number[] => []);
      let before = now();
      runToEnd(machine, numbers, {
        each: () => {
          const after = now();
          for (const [index, value] of after.entries())
            if (value !== before[index]) arrived[Math.floor(value / 100) - 1]?.push(value);
          before = after;
        },
      });
      for (const values of arrived) expect(values).toEqual(values.toSorted((a, b) => a - b));
    }),
    { numRuns: 500 },
  );
});

test('a CPU with stores on their way executes no locked instruction and no fence', () => {
  let waited = 0;
  fc.assert(
    fc.property(programs, picks(60), (all, numbers) => {
      const { machine } = build(all, 'tso');
      runToEnd(machine, numbers, {
        each: () => {
          for (const cpu of machine.cpus) {
            const orders = cpu.op?.kind.name === 'locked' || cpu.op?.kind.name === 'fence';
            if (!orders || cpu.buffer.empty) continue;
            expect(machine.ways(cpu)).toBe(0);
            waited++;
          }
        },
      });
    }),
    { numRuns: 300 },
  );
  expect(waited).toBeGreaterThan(100);
});

test('under sequential consistency no store is ever on its way', () => {
  fc.assert(
    fc.property(programs, picks(60), (all, numbers) => {
      const { machine, seen, memory: now } = build(all, 'sc');
      const schedule = runToEnd(machine, numbers, {
        each: () => {
          for (const { buffer } of machine.cpus) expect(buffer.empty).toBe(true);
        },
      });
      // With every store drained at once, the abstract machine is sequentially consistent.
      const drained = schedule.flatMap((next) => [
        next,
        transition(TransitionKind.drain, transitionCpu(next)),
      ]);
      expect({ seen, memory: now() }).toEqual(abstractMachine(all, drained));
    }),
    { numRuns: 300 },
  );
});

import {
  type Cell,
  type Coroutine,
  Machine,
  readOnce,
  smpMb,
  type Transition,
  transitionCpu,
  type UsageError,
  waitUntil,
  writeOnce,
} from '@shootdown/machine';
import { expect, test } from 'vitest';
import { replaySchedule, schedule, type Scheduler } from '../scheduler.ts';
import { pct } from './pct.ts';
import { randomScheduler } from './random.ts';
import { roundRobin } from './roundRobin.ts';

/** Store buffering: each CPU stores to one cell and loads the other. */
function storeBuffering(scheduler: Scheduler, fenced: boolean): readonly [string, unknown] {
  const machine = new Machine({ cpus: 2 });
  const x = machine.cell('x', 0);
  const y = machine.cell('y', 0);
  const seen = [-1, -1];
  function* cpu(id: number, mine: Cell<number>, other: Cell<number>): Coroutine {
    yield* writeOnce(mine, 1);
    if (fenced) yield* smpMb();
    seen[id] = yield* readOnce(other);
  }
  machine.run(0, cpu(0, x, y));
  machine.run(1, cpu(1, y, x));
  const { schedule: taken } = schedule(machine, scheduler);
  return [seen.join(), taken];
}

const SEEDS = [...Array(400).keys()];

test('random schedules find all four outcomes of store buffering', () => {
  const outcomes = new Set(SEEDS.map((seed) => storeBuffering(randomScheduler(seed), false)[0]));
  expect([...outcomes].toSorted()).toEqual(['0,0', '0,1', '1,0', '1,1']);
});

test.each([
  ['random', (seed: number) => randomScheduler(seed)],
  ['PCT', (seed: number) => pct({ seed, depth: 3, steps: 10 })],
])('%s schedules never find both loads old across full fences', (_name, scheduler) => {
  const outcomes = new Set(SEEDS.map((seed) => storeBuffering(scheduler(seed), true)[0]));
  expect([...outcomes].toSorted()).toEqual(['0,1', '1,0', '1,1']);
});

test.each([
  ['random', (seed: number) => randomScheduler(seed)],
  ['PCT', (seed: number) => pct({ seed })],
  ['round robin', () => roundRobin()],
])('%s: the same seed gives the same schedule', (_name, scheduler) => {
  for (const seed of SEEDS.slice(0, 20))
    expect(storeBuffering(scheduler(seed), false)).toEqual(storeBuffering(scheduler(seed), false));
});

test('different seeds give different schedules', () => {
  for (const scheduler of [randomScheduler, (seed: number) => pct({ seed, steps: 10 })]) {
    const schedules = SEEDS.map((seed) => String(storeBuffering(scheduler(seed), false)[1]));
    expect(new Set(schedules).size).toBeGreaterThan(5);
  }
});

/** CPU `late` has to run to its end before CPU 0 begins, between many others: an order of depth 1. */
function ordered(scheduler: Scheduler, cpus: number, late: number): boolean {
  const machine = new Machine({ cpus });
  const done = machine.cell('done', false);
  let early = false;
  function* first(): Coroutine {
    early = yield* readOnce(done);
  }
  function* other(id: number): Coroutine {
    for (let i = 0; i < 10; i++) yield* smpMb();
    if (id === late) yield* writeOnce(done, true);
    yield* smpMb();
  }
  machine.run(0, first());
  for (let id = 1; id < cpus; id++) machine.run(id, other(id));
  schedule(machine, scheduler);
  return early;
}

// Burckhardt et al., ASPLOS 2010: a bug of depth d is found with probability at least 1/(n k^(d-1)).
// Here d is 1: the last of 4 CPUs must come before CPU 0. A CPU's code and its store buffer are
// two threads of PCT, so n is 8; what is needed is that both come before CPU 0's code: 1 in 3.
test('PCT finds an order of depth 1 as often as its bound says, a random walk almost never', () => {
  const found = (scheduler: (seed: number) => Scheduler): number =>
    SEEDS.filter((seed) => ordered(scheduler(seed), 4, 3)).length / SEEDS.length;
  expect(found((seed) => pct({ seed, depth: 1, steps: 50 }))).toBeGreaterThan(1 / 8);
  expect(found((seed) => randomScheduler(seed))).toBeLessThan(1 / 8);
});

test('round robin gives every CPU its turn', () => {
  const machine = new Machine({ cpus: 3 });
  function* steps(): Coroutine {
    for (let i = 0; i < 4; i++) yield* smpMb();
  }
  for (const { id } of machine.cpus) machine.run(id, steps());
  const { schedule: taken } = schedule(machine, roundRobin());
  expect(taken.map(transitionCpu)).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
});

test('a run that is cut says that it did not end', () => {
  const machine = new Machine({ cpus: 1 });
  function* forever(): Coroutine {
    for (;;) yield* smpMb();
  }
  machine.run(0, forever());
  expect(schedule(machine, roundRobin(), { maxSteps: 10 })).toMatchObject({ ended: false });
});

function waiting(): { readonly machine: Machine; readonly seen: () => number } {
  const machine = new Machine({ cpus: 2 });
  const flag = machine.cell('flag', 0);
  let seen = 0;
  function* reader(): Coroutine {
    seen = yield* waitUntil(flag, (value) => value > 0);
  }
  function* writer(): Coroutine {
    yield* writeOnce(flag, 1);
    yield* writeOnce(flag, 2);
  }
  machine.run(0, reader());
  machine.run(1, writer());
  return { machine, seen: () => seen };
}

test('a recorded schedule, executed again, is the same run', () => {
  const ends = SEEDS.slice(0, 50).map((seed) => {
    const { machine, seen } = waiting();
    const { schedule: taken } = schedule(machine, randomScheduler(seed));
    const again = waiting();
    replaySchedule(again.machine, taken);
    expect(again.seen()).toBe(seen());
    return seen();
  });
  expect(new Set(ends)).toEqual(new Set([1, 2]));
});

test('a schedule that does not fit is refused at the step where it fails', () => {
  const { machine } = waiting();
  const { schedule: taken } = schedule(machine, roundRobin());
  const wrong = [taken[0], taken[0], taken[0]] as readonly Transition[];
  expect(() => replaySchedule(waiting().machine, wrong)).toThrowError(
    expect.objectContaining({
      code: 'ERR_NONDETERMINISM',
      message: expect.stringContaining('step 2 ') as string,
    }) as UsageError,
  );
});

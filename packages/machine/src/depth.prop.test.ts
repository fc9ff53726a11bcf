/**
 * It makes no difference how deep code is called, and in which way; and a task that was switched
 * out goes on where it was.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Machine } from './machine.ts';
import type { Coroutine } from './op.ts';
import { switchTo } from './ops/control.ts';
import { localIrqSave } from './ops/interrupts.ts';
import { nop } from './ops/memory.ts';
import { build, picks, plans } from './programs.testlib.ts';
import { follow, runToEnd } from './schedule.testlib.ts';
import { call, newTask, type Task } from './stack.ts';

/** What code has seen, without the places that a failure names. */
const seen = (history: readonly string[][]): readonly string[][] =>
  history.map((lines) => lines.map((line) => line.split('\n')[0] ?? ''));

test('a program does the same inline, by call() and by nested yield*', () => {
  let steps = 0;
  fc.assert(
    fc.property(plans(), picks(60), (plan, numbers) => {
      const inline = build(plan, 'inline');
      const schedule = follow(inline, numbers);
      steps += schedule.length;
      for (const depth of ['called', 'nested'] as const) {
        const other = build(plan, depth);
        expect(follow(other, numbers)).toEqual(schedule);
        expect(seen(other.history)).toEqual(seen(inline.history));
      }
    }),
    { numRuns: 500 },
  );
  expect(steps).toBeGreaterThan(3000);
});

/**
 * A value that has been through as many calls as `shape` says: true for call(), false for yield*.
 */
function* through(shape: readonly boolean[], value: number): Coroutine<number> {
  const [first, ...rest] = shape;
  if (first === undefined) {
    yield* nop();
    return value;
  }
  const result = first ? yield* call(through(rest, value)) : yield* through(rest, value);
  return result + 1;
}

test('what a coroutine returns reaches its caller through any mixture of calls', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 20 }), fc.nat(), (shape, value) => {
      const machine = new Machine({ cpus: 1 });
      let result = -1;
      function* body(): Coroutine {
        result = yield* call(through(shape, value));
      }
      machine.run(0, body());
      runToEnd(machine);
      expect(result).toBe(value + shape.length);
    }),
  );
});

/** One CPU with tasks that switch to each other as `order` says, and note who they come from. */
function roundabout(order: readonly number[]): readonly string[] {
  const machine = new Machine({ cpus: 1, checked: true });
  const log: string[] = [];
  const tasks: Task[] = [];
  const remaining = [...order];
  function* deep(self: string, levels: number): Coroutine {
    if (levels > 0) return yield* call(deep(self, levels - 1));
    for (let to = remaining.shift(); to !== undefined; to = remaining.shift()) {
      const next = tasks[to];
      if (next === undefined) continue;
      const previous: Task = yield* switchTo(next);
      log.push(`${self} from ${previous.name}`);
    }
  }
  for (const [index, name] of ['b', 'c'].entries())
    tasks.push(newTask(name, null, deep(name, index + 1)));
  tasks.push(machine.run(0, starts(deep('a', 3)), 'a'));
  runToEnd(machine);
  return log;
}

function* starts(body: Coroutine): Coroutine {
  yield* nop();
  yield* call(body);
}

test('switchTo swaps whole stacks, and gives the task that the CPU comes from', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(2), { maxLength: 12, size: 'max' }), (order) => {
      const names = ['b', 'c', 'a'];
      const expected: string[] = [];
      const started = new Set(['a']);
      let running = 'a';
      for (const to of order) {
        const next = names[to] ?? '';
        // A task that runs for the first time begins at its beginning, not in a switch.
        if (started.has(next)) expected.push(`${next} from ${running}`);
        started.add(next);
        running = next;
      }
      expect(roundabout(order)).toEqual(expected);
    }),
  );
});

test('the interrupt flag is the CPU’s and does not change with the task', () => {
  const machine = new Machine({ cpus: 1 });
  const flags: boolean[] = [];
  function* other(back: () => Task): Coroutine {
    flags.push(yield* localIrqSave());
    yield* switchTo(back());
  }
  function* first(): Coroutine {
    yield* localIrqSave();
    yield* switchTo(second);
    flags.push(yield* localIrqSave());
  }
  const second = newTask(
    'second',
    null,
    other(() => main),
  );
  const main = machine.run(0, first(), 'main');
  runToEnd(machine);
  expect(flags).toEqual([false, false]);
});

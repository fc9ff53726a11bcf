/**
 * Calls of one CPU to others, whatever the schedule: every call runs once, in order, on every
 * target; who waits goes on only after that; calls that come while one is pending share its
 * interrupt.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CpuMask } from './cpuMask.ts';
import { type CallFunction, CallQueues } from './csd.ts';
import { Machine } from './machine.ts';
import type { Coroutine } from './op.ts';
import { localIrqDisable, localIrqEnable } from './ops/interrupts.ts';
import { nop } from './ops/memory.ts';
import { picks } from './programs.testlib.ts';
import { runToEnd } from './schedule.testlib.ts';
import { call } from './stack.ts';
import { transitionCpu } from './transition.ts';

const VECTOR = 0xfb;

/** One call of a program; `to` is a set of CPUs as bits. */
interface Call {
  readonly to: number;
  readonly sync: boolean;
}

const calls = (cpus: number): fc.Arbitrary<readonly (readonly Call[])[]> =>
  fc.array(
    fc.array(fc.record({ to: fc.nat(2 ** cpus - 1), sync: fc.boolean() }), { maxLength: 3 }),
    { minLength: cpus, maxLength: cpus, size: 'max' },
  );

/** What happened, in the order in which it did. */
interface Happened {
  readonly what: 'queued' | 'ran' | 'entered' | 'left' | 'goes on';
  /** Which call: CPU and number. */
  readonly id: string;
  readonly on: number;
  readonly sync: boolean;
  readonly alone: boolean;
}

interface Office {
  readonly machine: Machine;
  readonly queues: CallQueues;
  readonly log: Happened[];
  readonly targets: (from: number, call: Call) => readonly number[];
}

/** A machine whose CPUs make these calls; the first `masked` of them begin with interrupts off. */
function office(all: readonly (readonly Call[])[], masked = 0): Office {
  const cpus = all.length;
  const machine = new Machine({ cpus, checked: true });
  const log: Happened[] = [];
  const note = (what: Happened['what'], id = '', sync = false, alone = false): void => {
    log.push({ what, id, on: machine.current?.id ?? -1, sync, alone });
  };
  const queues = new CallQueues(machine, VECTOR, {
    queued: ({ to, info, sync }, alone) =>
      log.push({ what: 'queued', id: String(info), on: to, sync, alone }),
    interruptEntered: () => note('entered'),
    interruptLeft: () => note('left'),
  });
  const run: CallFunction<{ id: string; sync: boolean }> = {
    name: 'note',
    run: function* ({ id, sync }) {
      yield* nop();
      note('ran', id, sync);
    },
  };
  const targets = (from: number, { to }: Call): readonly number[] =>
    machine.cpus.map(({ id }) => id).filter((id) => id !== from && ((to >> id) & 1) === 1);
  function* program(from: number): Coroutine {
    if (from < masked) yield* localIrqDisable();
    for (const [index, { to, sync }] of (all[from] ?? []).entries()) {
      const id = `${from}.${index}`;
      const mask = new CpuMask(cpus, [from, ...targets(from, { to, sync })]);
      const info = { id, sync, toString: () => id };
      if (sync) yield* call(queues.callAndWait(mask, run, info));
      else yield* call(queues.post(mask, run, info, false));
      note('goes on', id, sync);
    }
    if (from < masked) yield* localIrqEnable();
  }
  for (const { id } of machine.cpus) machine.run(id, program(id));
  return { machine, queues, log, targets };
}

const ids = (log: readonly Happened[], what: Happened['what'], on: number): readonly string[] =>
  log.filter((line) => line.what === what && line.on === on).map(({ id }) => id);

test('every call runs once on each of its targets, and those of one CPU in their order', () => {
  fc.assert(
    fc.property(calls(3), picks(150), (all, numbers) => {
      const { machine, log, targets } = office(all);
      runToEnd(machine, numbers);
      for (const { id: on, op } of machine.cpus) {
        expect(op).toBe(null);
        for (const [from, program] of all.entries()) {
          const mine = program.flatMap((each, index) =>
            targets(from, each).includes(on) ? [`${from}.${index}`] : [],
          );
          expect(ids(log, 'ran', on).filter((id) => id.startsWith(`${from}.`))).toEqual(mine);
        }
      }
    }),
    { numRuns: 1000 },
  );
});

test('who calls and waits goes on only when the function has run everywhere', () => {
  fc.assert(
    fc.property(calls(3), picks(150), (all, numbers) => {
      const { machine, log, targets } = office(all);
      runToEnd(machine, numbers);
      const missing = log.flatMap(({ what, id, sync }, at) => {
        const [from = 0, index = 0] = id.split('.').map(Number);
        const made = all[from]?.[index];
        if (what !== 'goes on' || !sync || made === undefined) return [];
        const before = log.slice(0, at);
        return targets(from, made).filter((target) => !ids(before, 'ran', target).includes(id));
      });
      expect(missing).toEqual([]);
    }),
    { numRuns: 500 },
  );
});

test('calls to a CPU with interrupts off share one interrupt, and awaited ones run first', () => {
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { minLength: 1, maxLength: 5, size: 'max' }),
      picks(100),
      (syncs, numbers) => {
        const { machine, log } = office([[], ...syncs.map((sync) => [{ to: 1, sync }])], 1);
        const [target] = machine.cpus;
        if (target !== undefined) machine.step(target);
        runToEnd(machine, numbers, { allowed: (next) => transitionCpu(next) !== 0 });
        const queued = log.filter(({ what }) => what === 'queued');
        expect(queued.length).toBe(syncs.length);
        expect(queued.map(({ alone }) => alone)).toEqual(queued.map((_, index) => index === 0));
        expect(target?.pending).toEqual([VECTOR]);
        runToEnd(machine);
        expect(log.filter(({ what }) => what === 'entered').length).toBe(1);
        const inOrder = [true, false].flatMap((wanted) =>
          queued.filter(({ sync }) => sync === wanted).map(({ id }) => id),
        );
        expect(ids(log, 'ran', 0)).toEqual(inOrder);
      },
    ),
    { numRuns: 300 },
  );
});

test('a target is interrupted at most once for every call that found its queue empty', () => {
  let merged = 0;
  fc.assert(
    fc.property(calls(3), picks(150), (all, numbers) => {
      const { machine, log } = office(all);
      runToEnd(machine, numbers);
      for (const { id: on } of machine.cpus) {
        const queued = log.filter((line) => line.what === 'queued' && line.on === on);
        const alone = queued.filter((line) => line.alone).length;
        const entered = ids(log, 'entered', on).length;
        expect(entered).toBeLessThanOrEqual(alone);
        expect(entered > 0).toBe(queued.length > 0);
        merged += queued.length - entered;
      }
    }),
    { numRuns: 500 },
  );
  expect(merged).toBeGreaterThan(20);
});

test('a CSD is allocated when two CPUs talk for the first time, and for no other pair', () => {
  fc.assert(
    fc.property(calls(4), picks(100), (all, numbers) => {
      const { machine, queues, targets } = office(all);
      runToEnd(machine, numbers);
      const pairs = all.flatMap((program, from) =>
        program.flatMap((each) => targets(from, each).map((to) => `${from}>${to}`)),
      );
      expect(queues.allocated).toBe(new Set(pairs).size);
    }),
    { numRuns: 300 },
  );
});

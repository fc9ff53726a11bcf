/** What a call done at once rests on, and how it grows. */
import {
  call,
  type CallFunction,
  CallQueues,
  type CallTrace,
  compute,
  type Coroutine,
  CpuMask,
  invlpg,
  Machine,
  nop,
  Op,
  type OpKind,
  sendIpi,
  type TraceRecord,
  virtAddr,
} from '@shootdown/machine';
import { expect, test } from 'vitest';
import { Clock, type ClockRun, runByClock } from './clock.ts';
import { oneNop } from './clock.testlib.ts';
import type { Cost } from './costs.ts';
import { type CallPlan, FUNCTIONS, runCalls, type Told } from './maskCall.testlib.ts';

/** CPU 0 calls the other three twice; they have walked a page table before and do so again. */
const PLAN: CallPlan = {
  cpus: 4,
  model: 'tso',
  perSocket: 2,
  hooks: ['left'],
  cpuDoes: [
    [2000, 30_000].map((after) => ({ after, targets: [1, 2, 3], calls: 0, stores: false })),
    'looks',
    'looks',
    'looks',
  ],
  untilNs: 1_000_000,
  moves: [],
};

const both = (run: CallFunction<number>): readonly [Told, Told] => [
  runCalls(PLAN, true, [run]),
  runCalls(PLAN, false, [run]),
];

/** A flush that says of itself what it likes. */
const flush = (leaf: NonNullable<CallFunction<number>['leaf']>): CallFunction<number> => ({
  name: 'flush',
  *run() {
    yield* invlpg(virtAddr(0));
  },
  leaf,
});
const honest = FUNCTIONS[1]?.leaf;

test('a function that is what its leaf says can be called at once', () => {
  expect(honest).toBeDefined();
  const [atOnce, stepwise] = both(flush(honest ?? { ops: [] }));
  expect(atOnce.told).toEqual(stepwise.told);
  expect(atOnce).toMatchObject({ done: 2, refused: 0 });
});

test.each<[string, CallFunction<number>['leaf']]>([
  ['an Op that it does not have', { ...honest, ops: ['invlpg', 'nop'] }],
  ['no Op at all', { ...honest, ops: [] }],
  ['an Op of another kind', { ...honest, ops: ['nop'] }],
  ['no effect on the TLB', { ops: ['invlpg'] }],
  [
    'an effect that it does not have',
    {
      ops: ['invlpg'],
      effect: (machine, cpu, info) => {
        honest?.effect?.(machine, cpu, info);
        machine.emit({ kind: 'effect' });
      },
    },
  ],
])('a function whose leaf says %s is found out by comparing', (_lie, leaf) => {
  const [atOnce, stepwise] = both(flush(leaf ?? { ops: [] }));
  expect(atOnce.done).toBe(2);
  expect(atOnce.told).not.toEqual(stepwise.told);
});

test.each(['compute', 'access', 'store', 'locked', 'wait', 'mayFail', 'sendIpi'])(
  'a leaf with the Op %s, which no sum can tell, is stepped through',
  (op) => {
    expect(runCalls(PLAN, true, [flush({ ops: [op] })])).toMatchObject({ done: 0, refused: 2 });
  },
);

test.each<[string, Omit<Cost, 'source'>]>([
  ['csdTake', { ns: 5, line: false }],
  ['csdWait', { ns: 5, line: 'hidden' }],
  ['iret', { ns: 5, line: true }],
  ['ipiFlight', { ns: 0 }],
])('costs with another %s make no difference between at once and step by step', (name, cost) => {
  const costs = { [name]: { ...cost, source: 'a test' } };
  const [atOnce, stepwise] = [true, false].map((batch) =>
    runCalls(PLAN, batch, FUNCTIONS.slice(1), { costs }),
  );
  expect(atOnce?.told).toEqual(stepwise?.told);
});

test('a call to nobody takes no time, and nothing is taken before it', () => {
  const times: number[] = [];
  const machine = new Machine({
    cpus: 2,
    environment: [{ name: 'preempted', cpu: 0, kind: 'host', times: 1 }],
  });
  const calls = new CallQueues(machine, 252);
  machine.run(
    0,
    (function* (): Coroutine {
      yield* compute(1000);
      yield* call(calls.callAndWait(new CpuMask(2, [0]), flush({ ops: ['invlpg'] }), 0));
      times.push(machine.time);
      yield* nop();
      times.push(machine.time);
    })(),
  );
  // The host takes the CPU at 1000, the first boundary after the call that was none.
  runByClock(machine, { plan: [{ atNs: 1000, move: 0 }] });
  expect(times).toEqual([1000, 1000 + 700 + 300 + 1]);
});

/** What comes of what `build` builds, with calls done at once and without. */
function twice(
  build: (machine: Machine, calls: CallQueues) => void,
  cpus = 3,
): readonly (readonly (string | number)[])[] {
  return [true, false].map((batch) => {
    const machine = new Machine({
      cpus,
      environment: [{ name: 'device', cpu: 0, kind: 'irq', times: 1, vector: 0x30 }],
    });
    build(machine, new CallQueues(machine, 252));
    const clock = new Clock(machine, {
      batch,
      costs: { bell: { ns: 5, source: 'a test' } },
      plan: [{ atNs: 5006, move: 0 }],
    });
    let end: string;
    try {
      end = JSON.stringify(clock.run());
    } catch (error) {
      end = String(error);
    }
    return [end, ...clock.lines.map(({ freeAt }) => freeAt)];
  });
}

test('a CPU whose Op looks at what a target does sees it', () => {
  const [atOnce, stepwise] = twice((machine, calls) => {
    machine.onInterrupt(0x30, oneNop);
    const kind: OpKind = {
      name: 'bell',
      ready: () => !machine.cpu(1).irqsOn,
      touch: () => undefined,
      execute: () => undefined,
    };
    machine.run(
      2,
      (function* (): Coroutine {
        yield* new Op<void>(kind, null, -1, null);
      })(),
    );
    machine.run(
      0,
      (function* (): Coroutine {
        yield* compute(20_000);
        yield* call(calls.callAndWait(new CpuMask(3, [1]), flush({ ops: ['invlpg'] }), 0));
      })(),
    );
  });
  expect(atOnce).toEqual(stepwise);
  expect(atOnce?.[0]).toContain('"ended":true');
});

test('a caller that is interrupted while it waits is', () => {
  const [atOnce, stepwise] = twice((machine, calls) => {
    machine.onInterrupt(0x30, oneNop);
    machine.run(
      1,
      (function* (): Coroutine {
        yield* compute(20_000);
        yield* sendIpi(new CpuMask(3, [0]), 0x30); // at 20,060, arrives at 20,360
      })(),
    );
    machine.run(
      0,
      (function* (): Coroutine {
        yield* compute(20_100 - 201); // the planned interrupt takes 120 + 1 + 80
        yield* call(calls.callAndWait(new CpuMask(3, [2]), flush({ ops: ['invlpg'] }), 0));
      })(),
    );
  });
  expect(atOnce).toEqual(stepwise);
  expect(atOnce?.[0]).toContain('"interrupts":3');
});

test.each([[false], [true]])(
  'a handler that calls whom its CPU is calling hangs at once as step by step (met before: %s)',
  (metBefore) => {
    const [atOnce, stepwise] = twice((machine, calls) => {
      const one = new CpuMask(2, [1]);
      const run = flush({ ops: ['invlpg'] });
      // At 5006 the CSD is locked and not yet queued.
      machine.onInterrupt(0x30, function* () {
        yield* nop();
        yield* call(calls.callAndWait(one, run, 0));
      });
      machine.run(
        0,
        (function* (): Coroutine {
          yield* nop();
          if (metBefore) yield* call(calls.callAndWait(one, run, 0));
          yield* compute(5000 - machine.time);
          yield* call(calls.post(one, run, 0, true));
        })(),
      );
    }, 2);
    expect(atOnce).toEqual(stepwise);
    expect(atOnce?.[0]).toMatch(/Op csdLock: waits with interrupts off/);
  },
);

test('a program that begins with a call can be done at once if it begins under the clock', () => {
  const machine = new Machine({ cpus: 3 });
  const calls = new CallQueues(machine, 252);
  const clock = new Clock(machine);
  machine.run(0, calls.callAndWait(new CpuMask(3, [1, 2]), flush({ ops: ['invlpg'] }), 0));
  expect(countAnswers(clock)).toMatchObject({ done: 1, ops: 17, timeNs: 673 + 2 * 70 });
});

test('tracepoints may be methods of a class', () => {
  const records: TraceRecord[] = [];
  const machine = new Machine({ cpus: 3, sink: (record) => records.push(record) });
  class Tracepoints implements CallTrace {
    entered(): void {
      machine.emit({ kind: 'entered' });
    }
  }
  const calls = new CallQueues(machine, 252, new Tracepoints());
  machine.run(
    0,
    whole(calls, 3, () => undefined),
  );
  runByClock(machine);
  expect(records.map(({ cpu }) => cpu)).toEqual([1, 2]);
});

/** Calls everybody, after an Op: only in a run can it be done at once. */
function* whole(calls: CallQueues, cpus: number, note: () => void): Coroutine {
  const all = new CpuMask(cpus, Array(cpus).keys());
  yield* nop();
  yield* call(calls.callAndWait(all, flush({ ops: ['invlpg'] }), 0));
  note();
}

/** What one call to all others comes to, on machines of one socket. */
function calledBy(cpus: number, batch: boolean) {
  let records = 0;
  let callerNs = 0;
  const machine = new Machine({ cpus, sink: () => void records++ });
  const emit = (kind: string) => (): void => machine.emit({ kind });
  const calls = new CallQueues(machine, 252, {
    queued: emit('queued'),
    interruptEntered: emit('entry'),
    entered: emit('function entry'),
    left: emit('function exit'),
    interruptLeft: emit('exit'),
  });
  machine.run(
    0,
    whole(calls, cpus, () => (callerNs = machine.time)),
  );
  const { done, ops, interrupts } = countAnswers(new Clock(machine, { batch }));
  return { done, told: { ops, interrupts, records, callerNs, allocated: calls.allocated } };
}

/** Runs `clock`; says besides how many calls it has done at once. */
function countAnswers(clock: Clock): ClockRun & { readonly done: number } {
  const { machine } = clock;
  const ask = machine.onMaskCall;
  let done = 0;
  if (ask !== null)
    machine.onMaskCall = (from, mask) => {
      const answer = ask(from, mask);
      if (answer) done++;
      return answer;
    };
  return { ...clock.run(), done };
}

test('a call to 511 CPUs is the same at once and step by step', () => {
  const { done, told } = calledBy(512, true);
  expect(done).toBe(1);
  expect(calledBy(512, false)).toEqual({ done: 0, told });
});

test('a call to all CPUs grows as they do, up to 4,096', () => {
  for (const cpus of [512, 1024, 2048, 4096]) {
    const targets = cpus - 1;
    const { done, told } = calledBy(cpus, true);
    expect(done).toBe(1);
    expect(told).toEqual({
      // csdLock, csdFill, csdEnqueue and csdWait here, csdTake, invlpg, csdUnlock and iret there,
      // and before that one nop and one sendIpi.
      ops: 8 * targets + 2,
      interrupts: targets,
      records: 5 * targets,
      // Each: 1 + 4 + 4 drain + 20 for csdLock to csdEnqueue, 40 + 1 for csdWait with its line. Once:
      // 60 sendIpi, 300 flight, 120 entry, 8 + 40 csdTake, 100 invlpg, 1 + 40 csdUnlock, 4 drain.
      // And 1 for the nop.
      callerNs: 70 * targets + 674,
      // Not the square of the CPUs.
      allocated: targets,
    });
  }
});

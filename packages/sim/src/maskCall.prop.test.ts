/**
 * The law of maskCall.ts: a call that is done at once is what stepping through it gives, byte for
 * byte. And how it grows.
 */
import {
  call,
  type CallFunction,
  CallQueues,
  compute,
  type Coroutine,
  CpuMask,
  invlpg,
  invpcidAll,
  Machine,
  nop,
  type Op,
  readOnce,
  serialize,
  virtAddr,
} from '@shootdown/machine';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Clock } from './clock.ts';

/** Ops that a called function may be made of. */
const LEAF_OPS: Readonly<Record<string, () => Op>> = {
  invlpg: () => invlpg(virtAddr(0x1000)),
  invpcid: invpcidAll,
  nop,
  serialize,
};

interface OneCall {
  /** Works first for so many ns. */
  readonly after: number;
  readonly targets: readonly number[];
  readonly ops: readonly string[];
}

interface Workload {
  readonly cpus: number;
  readonly model: 'tso' | 'sc';
  readonly cpusPerSocket: number;
  readonly recorded: boolean;
  /** How long each CPU that does not call computes, again and again; 0 idles. */
  readonly busy: readonly number[];
  /** What each calling CPU does: CPU 0, and sometimes CPU 1. */
  readonly callers: readonly (readonly OneCall[])[];
}

const workloads: fc.Arbitrary<Workload> = fc.integer({ min: 2, max: 64 }).chain((cpus) => {
  const some = fc.subarray([...Array(cpus).keys()]);
  const all = fc.constant([...Array(cpus).keys()]);
  const oneCall = fc.record({
    after: fc.nat(3000),
    targets: fc.oneof({ weight: 2, arbitrary: all }, { weight: 3, arbitrary: some }),
    ops: fc.array(fc.constantFrom(...Object.keys(LEAF_OPS)), { maxLength: 3 }),
  });
  const calls = fc.array(oneCall, { minLength: 1, maxLength: 4 });
  return fc.record({
    cpus: fc.constant(cpus),
    model: fc.constantFrom('tso' as const, 'sc' as const),
    cpusPerSocket: fc.constantFrom(8192, 32, 4),
    recorded: fc.boolean(),
    busy: fc.array(fc.constantFrom(0, 0, 500, 20_000, 900_000), {
      minLength: cpus,
      maxLength: cpus,
    }),
    callers: fc.oneof(
      { weight: 3, arbitrary: fc.tuple(calls) },
      { weight: 1, arbitrary: fc.tuple(calls, calls) },
    ),
  });
});

/** A function whose straight line is `ops`; `told` is what it says of itself, if that is a lie. */
const leafFunction = (ops: readonly string[], told = ops): CallFunction<null> => ({
  name: ops.join('+'),
  *run(): Coroutine {
    for (const name of ops) yield* (LEAF_OPS[name] ?? nop)();
  },
  leaf: { ops: told },
});

/** Everything that can be seen of a run. */
function outcome(
  { cpus, model, cpusPerSocket, recorded, busy, callers }: Workload,
  batch: boolean,
  told?: readonly string[],
): { readonly seen: string; readonly atOnce: number; readonly asked: number } {
  const records: string[] = [];
  const machine = new Machine({
    cpus,
    model,
    ...(recorded ? { sink: (record) => void records.push(JSON.stringify(record)) } : {}),
  });
  const emit = (kind: string): void => machine.emit({ kind });
  const calls = new CallQueues(
    machine,
    252,
    recorded
      ? {
          queued: ({ to }) => emit(`queued ${to}`),
          sent: (targets) => emit(`sent ${String(targets)}`),
          interruptEntered: () => emit('interrupt entered'),
          entered: ({ from, run }) => emit(`${run?.name} of ${from} entered`),
          left: () => emit('left'),
          interruptLeft: () => emit('interrupt left'),
        }
      : {},
  );
  function* caller(list: readonly OneCall[]): Coroutine {
    for (const { after, targets, ops } of list) {
      yield* compute(after);
      const mask = new CpuMask(cpus, targets);
      yield* call(calls.callAndWait(mask, leafFunction(ops, told ?? ops), null));
      emit('returned');
    }
  }
  function* worker(ns: number): Coroutine {
    for (let i = 0; i < 20; i++) {
      yield* compute(ns);
      emit('worked');
    }
  }
  for (const { id } of machine.cpus) {
    const list = callers[id];
    const ns = busy[id] ?? 0;
    if (list !== undefined) machine.run(id, caller(list));
    else if (ns > 0) machine.run(id, worker(ns));
  }
  const clock = new Clock(machine, { batch, cpusPerSocket });
  let [atOnce, asked] = [0, 0];
  const does = machine.onMaskCall;
  if (does !== null)
    machine.onMaskCall = (from, whole) => {
      asked++;
      const done = does(from, whole);
      if (done) atOnce++;
      return done;
    };
  const run = clock.run();
  const times = clock.lines.map(({ freeAt, drainedAt }) => [freeAt, drainedAt]);
  const queues = machine.cpus.map(({ id }) => calls.queue(id).toucher);
  const locks = machine.cpus.flatMap(({ id: from }) =>
    machine.cpus.filter(({ id }) => id !== from).map(({ id }) => calls.csd(from, id).lock.toucher),
  );
  return { seen: JSON.stringify({ run, records, times, queues, locks }), atOnce, asked };
}

test('up to 64 CPUs a call done at once equals the steps byte for byte, records and clocks', () => {
  let [atOnce, asked] = [0, 0];
  fc.assert(
    fc.property(workloads, (workload) => {
      const batched = outcome(workload, true);
      expect(batched.seen).toBe(outcome(workload, false).seen);
      atOnce += batched.atOnce;
      asked += batched.asked;
    }),
    { numRuns: 400 },
  );
  // Both answers were given, often.
  expect(atOnce).toBeGreaterThan(100);
  expect(asked - atOnce).toBeGreaterThan(100);
});

test('a function that does something else than its leaf says breaks the law, and is noticed', () => {
  const workload: Workload = {
    cpus: 4,
    model: 'tso',
    cpusPerSocket: 8192,
    recorded: false,
    busy: [0, 0, 0, 0],
    callers: [[{ after: 0, targets: [1, 2, 3], ops: ['invlpg'] }]],
  };
  expect(outcome(workload, true).seen).toBe(outcome(workload, false).seen);
  expect(outcome(workload, true, ['nop']).seen).not.toBe(outcome(workload, false).seen);
});

test('an effect of a leaf is what its steps do to the target', () => {
  const seen = [true, false].map((batch) => {
    const machine = new Machine({ cpus: 5 });
    const calls = new CallQueues(machine, 252);
    const flushed: number[] = [];
    const note = (cpu: { readonly id: number } | null): void => void flushed.push(cpu?.id ?? -1);
    const run: CallFunction<null> = {
      name: 'notes',
      *run(): Coroutine {
        yield* nop();
        note(machine.current);
      },
      leaf: { ops: ['nop'], effect: (_machine, cpu) => note(cpu) },
    };
    function* caller(): Coroutine {
      yield* call(calls.callAndWait(new CpuMask(5, [0, 1, 2, 4]), run, null));
    }
    machine.run(0, caller());
    new Clock(machine, { batch }).run();
    return flushed.toSorted();
  });
  expect(seen).toEqual([
    [1, 2, 4],
    [1, 2, 4],
  ]);
});

/** One broadcast to all of `cpus`, twice, and what it came to. */
function broadcast(cpus: number): Readonly<Record<string, number>> {
  let records = 0;
  const machine = new Machine({ cpus, sink: () => void records++ });
  const calls = new CallQueues(machine, 252, { entered: () => machine.emit({ kind: 'entered' }) });
  const ready = machine.cell('ready', 0);
  const all = new CpuMask(cpus, Array(cpus).keys());
  const times: number[] = [];
  function* caller(): Coroutine {
    for (let i = 0; i < 2; i++) {
      yield* call(calls.callAndWait(all, leafFunction(['invlpg']), null));
      yield* readOnce(ready);
      times.push(machine.time);
    }
  }
  machine.run(0, caller());
  const clock = new Clock(machine);
  const { ops, interrupts } = clock.run();
  const secondNs = (times[1] ?? 0) - (times[0] ?? 0);
  return { ops, interrupts, records, allocated: calls.allocated, secondNs };
}

test('a broadcast grows linearly to 4,096 CPUs, and so do the CSDs, one per pair that talked', () => {
  const sizes = [512, 1024, 2048, 4096];
  const each = sizes.map((cpus) => ({ cpus, ...broadcast(cpus) }) as Record<string, number>);
  for (const one of each) {
    const targets = (one['cpus'] ?? 0) - 1;
    // Caller: lock, fill, enqueue, wait. Target: take, invlpg, unlock, iret. Once: send, the load.
    expect(one).toMatchObject({
      ops: 2 * (8 * targets + 2),
      interrupts: 2 * targets,
      records: 2 * targets,
      allocated: targets,
    });
  }
  // Simulated time: the same again for every further CPU.
  const [a = 0, b = 0, c = 0, d = 0] = each.map((one) => one['secondNs'] ?? 0);
  expect(c - b).toBe(2 * (b - a));
  expect(d - c).toBe(4 * (b - a));
});

/**
 * How fast the machine is driven, beside the designs that were not taken: nested `yield*` instead of
 * one stack per CPU, a helper generator per Op instead of an Op that is its own iterator, a sorted
 * array instead of a heap.
 */
import {
  atomicFetchAdd,
  call,
  CallQueues,
  type Cell,
  type Coroutine,
  CpuMask,
  Machine,
  type Op,
  readOnce,
  writeOnce,
} from '@shootdown/machine';
import { runByClock } from '@shootdown/sim';
import FlatQueue from 'flatqueue';
import { type Measured, measure } from './measure.ts';

/** How much work a run of the benchmarks does. */
export interface MachineSize {
  readonly ops: number;
  readonly ipis: number;
  /** Calls to all of 4,096 CPUs. */
  readonly broadcasts: number;
  readonly runs: number;
}

/** Cases that belong together. */
export interface MachineBench {
  readonly title: string;
  readonly cases: readonly Measured[];
}

const DEPTHS = [1, 3, 8];

/** Reads a cell `times` times; how an Op is taken is what is measured. */
type Body = (cell: Cell<number>, times: number) => Coroutine;

function* plainOps(cell: Cell<number>, times: number): Coroutine {
  for (let i = 0; i < times; i++) yield* readOnce(cell);
}

/** Rejected: a generator of its own for every Op. */
function* helperOps(cell: Cell<number>, times: number): Coroutine {
  for (let i = 0; i < times; i++) yield* readByHelper(cell);
}

function* readByHelper(cell: Cell<number>): Generator<Op, number, unknown> {
  return yield* readOnce(cell);
}

/** A store, a load and a locked instruction: what kernel code is made of. */
function* mixedOps(cell: Cell<number>, times: number): Coroutine {
  for (let i = 0; i < times; i += 3) {
    yield* writeOnce(cell, i);
    yield* readOnce(cell);
    yield* atomicFetchAdd(cell, 1);
  }
}

function* entered(depth: number, body: () => Coroutine): Coroutine {
  yield* call(depth === 1 ? body() : entered(depth - 1, body));
}

/** Rejected: generators nested by `yield*`, each step through all of them. */
function* nested(depth: number, body: () => Coroutine): Coroutine {
  yield* depth === 1 ? body() : nested(depth - 1, body);
}

type Nesting = (depth: number, body: () => Coroutine) => Coroutine;

/** Drives `times` Ops of one CPU by the clock, `depth` calls deep. */
function drive(depth: number, nesting: Nesting, body: Body, times: number): number {
  const machine = new Machine({ cpus: 1 });
  const cell = machine.cell('x', 0);
  const leaf = (): Coroutine => body(cell, times);
  machine.run(0, depth === 1 ? leaf() : nesting(depth - 1, leaf));
  return runByClock(machine).ops;
}

async function opBench({ ops, runs }: MachineSize): Promise<MachineBench> {
  const cases: Measured[] = [];
  const add = async (name: string, depth: number, nesting: Nesting, body: Body): Promise<void> => {
    const title = `${name}, depth ${depth}`;
    cases.push(await measure(title, 'Ops', runs, () => drive(depth, nesting, body, ops)));
  };
  for (const depth of DEPTHS) await add('one stack per CPU', depth, entered, plainOps);
  for (const depth of DEPTHS) await add('store, load, locked add', depth, entered, mixedOps);
  for (const depth of DEPTHS) await add('rejected: a generator per Op', depth, entered, helperOps);
  for (const depth of DEPTHS) await add('rejected: nested yield*', depth, nested, plainOps);
  return { title: `driven Ops, loads but where it says so, best of ${runs}`, cases };
}

function* nothing(): Coroutine {}

/** One CPU calls all others again and again; the machine comes back with how many interrupts. */
export function broadcast(
  cpus: number,
  times: number,
  batch: boolean,
  recorded: boolean,
): { readonly machine: Machine; readonly calls: CallQueues; readonly interrupts: number } {
  let records = 0;
  const machine = new Machine({ cpus, ...(recorded ? { sink: () => void records++ } : {}) });
  const emit = (kind: string): void => machine.emit({ kind });
  const calls = new CallQueues(
    machine,
    252,
    recorded
      ? {
          queued: () => emit('csd_queue_cpu'),
          interruptEntered: () => emit('call_function_entry'),
          entered: () => emit('csd_function_entry'),
          left: () => emit('csd_function_exit'),
          interruptLeft: () => emit('call_function_exit'),
        }
      : {},
  );
  const all = new CpuMask(
    cpus,
    machine.cpus.map(({ id }) => id),
  );
  const run = { name: 'nothing', run: nothing, leaf: { ops: [] } };
  function* caller(): Coroutine {
    for (let i = 0; i < times; i++) yield* call(calls.callAndWait(all, run, undefined));
  }
  machine.run(0, caller());
  const { interrupts } = runByClock(machine, { batch });
  if (recorded && records !== 5 * interrupts) throw new Error(`${records} records`);
  return { machine, calls, interrupts };
}

async function ipiBench({ ipis, broadcasts, runs }: MachineSize): Promise<MachineBench> {
  const steps = Math.ceil(ipis / 7);
  const step = async (name: string, batch: boolean, recorded: boolean): Promise<Measured> =>
    measure(name, 'IPIs', runs, () => broadcast(8, steps, batch, recorded).interrupts);
  const wide = await measure(
    '4,096 CPUs, at once, no records',
    'IPIs',
    runs,
    () => broadcast(4096, broadcasts, true, false).interrupts,
  );
  const recorded = await measure(
    '4,096 CPUs, at once, 5 records each',
    'IPIs',
    runs,
    () => broadcast(4096, Math.ceil(broadcasts / 100), true, true).interrupts,
  );
  return {
    title: `call-function IPIs, best of ${runs}`,
    cases: [
      wide,
      recorded,
      await step('8 CPUs, at once, no records', true, false),
      await step('8 CPUs, step by step, no records', false, false),
      await step('8 CPUs, step by step, 5 records each', false, true),
    ],
  };
}

/** What a queue of events has to offer. */
interface Queue {
  push(cpu: number, at: number): void;
  pop(): number;
}

/** Holds `live` events; pops one and pushes a later one, `times` times. */
function turnOver(queue: Queue, live: number, times: number): number {
  let seed = 1;
  const jitter = (): number => (seed = (seed * 1103515245 + 12345) % 2147483648) % 1000;
  for (let cpu = 0; cpu < live; cpu++) queue.push(cpu, jitter());
  for (let i = 0; i < times; i++) queue.push(queue.pop(), i + jitter());
  return times;
}

function heap(): Queue {
  const queue = new FlatQueue();
  return { push: (cpu, at) => queue.push(cpu, at), pop: () => queue.pop() ?? 0 };
}

/** Rejected: an array kept sorted, the earliest last. */
function sortedArray(): Queue {
  const events: { readonly cpu: number; readonly at: number }[] = [];
  return {
    push(cpu, at) {
      let index = events.length;
      while (index > 0 && (events[index - 1]?.at ?? 0) < at) index--;
      events.splice(index, 0, { cpu, at });
    },
    pop: () => events.pop()?.cpu ?? 0,
  };
}

async function queueBench({ ops, runs }: MachineSize): Promise<MachineBench> {
  const few = Math.ceil(ops / 10);
  return {
    title: `event queue, pop and push, best of ${runs}`,
    cases: [
      await measure('flatqueue, 64 live', 'events', runs, () => turnOver(heap(), 64, ops)),
      await measure('flatqueue, 4,096 live', 'events', runs, () => turnOver(heap(), 4096, ops)),
      await measure('rejected: sorted array, 64 live', 'events', runs, () =>
        turnOver(sortedArray(), 64, few),
      ),
      await measure('rejected: sorted array, 4,096 live', 'events', runs, () =>
        turnOver(sortedArray(), 4096, Math.ceil(few / 10)),
      ),
    ],
  };
}

/** All benchmarks of the machine and the clock. */
export async function machineBenches(size: MachineSize): Promise<readonly MachineBench[]> {
  return [await opBench(size), await ipiBench(size), await queueBench(size)];
}

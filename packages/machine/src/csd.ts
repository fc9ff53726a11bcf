/**
 * What happens when a CPU has another one run a function. The caller fills a call_single_data (CSD)
 * of its own for the target, puts it on the target's queue, and interrupts the target only if the
 * queue was empty: calls that come while one is pending share its interrupt. The target takes the
 * whole queue, runs what somebody waits for first, and unlocks each CSD.
 *
 * Follows the shape of kernel/smp.c. The condition function and the local part, which run on top,
 * are a kernel's business; `trace` tells it where its tracepoints are.
 *
 * Not modelled: a CSD's function and argument as memory. Its lock and the queue order them.
 */
import type { Cell } from './cell.ts';
import type { Cpu } from './cpu.ts';
import { CpuMask } from './cpuMask.ts';
import { assert, UsageError } from './errors.ts';
import type { CpuId } from './ids.ts';
import type { Machine } from './machine.ts';
import { type Coroutine, Op, type OpKind, opKind, always, touchesNothing } from './op.ts';
import { WAIT, type Wait } from './ops/control.ts';
import { sendIpi } from './ops/interrupts.ts';
import { LOCKED, STORE } from './ops/memory.ts';
import { call } from './stack.ts';

/** A function that one CPU has others run, with interrupts off. */
export interface CallFunction<Info = unknown> {
  /** The kernel's symbol, for records. */
  readonly name: string;
  readonly run: (info: Info) => Coroutine;
  /**
   * What `run` comes to on a CPU in user mode, if it is always the same straight line without a
   * store: the Ops by kind, and their effect. Lets a driver do a whole mask at once; that it equals
   * `run` is a law (sim).
   */
  readonly leaf?: LeafFunction<Info> | undefined;
}

/** See `CallFunction.leaf`. */
export interface LeafFunction<Info = unknown> {
  /** Names of the Op kinds that `run` executes, in order. */
  readonly ops: readonly string[];
  /** What they do to the target; nothing if undefined. */
  readonly effect?: ((machine: Machine, cpu: Cpu, info: Info) => void) | undefined;
}

/** A call_single_data: one call of one CPU to another at a time. */
export interface Csd {
  readonly from: CpuId;
  readonly to: CpuId;
  /** CSD_FLAG_LOCK: the call is on its way, or runs. */
  readonly lock: Cell<boolean>;
  /** Somebody waits for the end: the target unlocks after the function, not before. */
  sync: boolean;
  run: CallFunction<never> | null;
  info: unknown;
  next: Csd | null;
  /** What its Ops need, made once. */
  readonly untilUnlocked: Wait;
  readonly push: (newest: Csd | null) => Csd;
}

/** Which vectors say that a queue is not empty: to one CPU, and to several at once. */
export interface CallVectors {
  readonly single: number;
  readonly many: number;
}

/** Where a kernel's tracepoints are. Called by code of the CPU in question. */
export interface CallTrace {
  /** A call was queued; `alone`: the queue was empty, so the target will be interrupted for it. */
  queued?(csd: Csd, alone: boolean): void;
  /** The interrupt was sent, for a call of `run`. The rest can be told by a mask call done at once. */
  sent?(targets: CpuMask, vector: number, run: CallFunction<never>): void;
  /** The handler begins and ends. */
  interruptEntered?(vector: number): void;
  interruptLeft?(vector: number): void;
  /** A function begins and ends. */
  entered?(csd: Csd): void;
  left?(csd: Csd): void;
}

/** A call to several CPUs, as a driver may do it at once. */
export interface MaskCall {
  readonly calls: CallQueues;
  readonly targets: CpuMask;
  readonly run: CallFunction<never>;
  readonly info: unknown;
  readonly leaf: LeafFunction;
}

// Kinds of their own because they cost what a cache line that another CPU has just written costs.
const CSD_LOCK: OpKind = opKind({ ...WAIT, name: 'csdLock' });
const CSD_FILL: OpKind = opKind({ ...STORE, name: 'csdFill' });
const CSD_ENQUEUE: OpKind = opKind({ ...LOCKED, name: 'csdEnqueue' });
const CSD_TAKE: OpKind = opKind({ ...LOCKED, name: 'csdTake' });
const CSD_UNLOCK: OpKind = opKind({ ...STORE, name: 'csdUnlock' });
const CSD_WAIT: OpKind = opKind({ ...WAIT, name: 'csdWait' });

const unlocked = (locked: unknown): boolean => locked === false;
const whileLocked = (kind: OpKind, csd: Csd): Op<void> =>
  new Op<void>(kind, null, -1, csd.untilUnlocked);

const MASK_CALL: OpKind = opKind({
  name: 'maskCall',
  ready: always,
  touch: touchesNothing,
  execute: (machine, cpu, { operand }) => machine.onMaskCall?.(cpu, operand as MaskCall) ?? false,
});

/** The call_single_queue of every CPU, and the CSDs. */
export class CallQueues {
  readonly machine: Machine;
  readonly vectors: CallVectors;
  readonly trace: CallTrace;
  private readonly queues: Cell<Csd | null>[];
  private readonly csds = new Map<number, Csd>();

  /** Installs the handlers of `vectors`; a number stands for both. */
  constructor(machine: Machine, vectors: number | CallVectors, trace: CallTrace = {}) {
    this.machine = machine;
    this.vectors = typeof vectors === 'number' ? { single: vectors, many: vectors } : vectors;
    this.trace = trace;
    this.queues = machine.cpus.map(({ id }) => machine.cell(`call_single_queue[${id}]`, null));
    for (const vector of new Set([this.vectors.single, this.vectors.many]))
      machine.onInterrupt(vector, () => this.interrupt(vector));
  }

  /** The vector of a call that interrupts `count` CPUs. */
  vectorFor(count: number): number {
    return count === 1 ? this.vectors.single : this.vectors.many;
  }

  /** The queue of CPU `cpu`: its newest CSD, which leads to the older ones. */
  queue(cpu: CpuId): Cell<Csd | null> {
    const queue = this.queues[cpu];
    assert(queue !== undefined, 'every CPU has a queue');
    return queue;
  }

  /** How many CSDs were ever needed: one per pair of CPUs that have talked. */
  get allocated(): number {
    return this.csds.size;
  }

  /** The CSD of `from` for `to`, allocated on first use: a machine has the square of its CPUs. */
  csd(from: CpuId, to: CpuId): Csd {
    const key = from * this.queues.length + to;
    let csd = this.csds.get(key);
    if (csd === undefined) {
      const lock = this.machine.cell(`csd[${from},${to}].lock`, false);
      csd = newCsd(from, to, lock);
      this.csds.set(key, csd);
    }
    return csd;
  }

  /**
   * Has every CPU of `targets`, the caller's own excepted, of which `condition` holds run
   * `run(info)`; goes on when all were interrupted or have a call pending already. Gives whom it
   * called, so that `awaitCalls` can wait for the end.
   */
  *post<Info>(
    targets: CpuMask,
    run: CallFunction<Info>,
    info: Info,
    sync: boolean,
    condition: ((target: CpuId, info: Info) => Coroutine<boolean>) | null = null,
  ): Coroutine<CpuMask> {
    const from = this.running();
    const called = new CpuMask(this.machine.count);
    const interrupted = new CpuMask(this.machine.count);
    for (const to of targets) {
      if (to === from) continue;
      if (condition !== null && !(yield* call(condition(to, info)))) continue;
      called.set(to);
      const csd = this.csd(from, to);
      yield* whileLocked(CSD_LOCK, csd);
      yield* new Op<void>(CSD_FILL, csd.lock, -1, true);
      csd.sync = sync;
      csd.run = run;
      csd.info = info;
      // The locked instruction puts the fill in memory before the CSD can be found.
      const before = yield* new Op<Csd | null>(CSD_ENQUEUE, this.queue(to), -1, csd.push);
      if (before === null) interrupted.set(to);
      this.trace.queued?.(csd, before === null);
    }
    if (!interrupted.empty) {
      const vector = this.vectorFor(interrupted.weight);
      yield* sendIpi(interrupted, vector);
      this.trace.sent?.(interrupted, vector, run);
    }
    return called;
  }

  /** Waits until every CPU of `targets` has run what this CPU last posted to it synchronously. */
  *awaitCalls(targets: CpuMask): Coroutine {
    const from = this.running();
    for (const to of targets) if (to !== from) yield* whileLocked(CSD_WAIT, this.csd(from, to));
  }

  /** Posts and waits; at once, where the driver can and nobody could tell. */
  *callAndWait<Info>(targets: CpuMask, run: CallFunction<Info>, info: Info): Coroutine {
    const { leaf } = run;
    if (leaf !== undefined && this.machine.onMaskCall !== null) {
      const whole: MaskCall = { calls: this, targets, run, info, leaf: leaf as LeafFunction };
      if (yield* new Op<boolean>(MASK_CALL, null, -1, whole)) return;
    }
    yield* call(this.post(targets, run, info, true));
    yield* call(this.awaitCalls(targets));
  }

  /** Runs what is queued for the running CPU: the interrupt, and what an idle loop does before it. */
  *flush(): Coroutine {
    const queue = this.queue(this.running());
    const newest = yield* new Op<Csd | null>(CSD_TAKE, queue, -1, takeAll);
    // Sorted while all of them are locked: an unlocked one may be on its way again already.
    const awaited = oldestFirst(newest, true);
    const others = oldestFirst(newest, false);
    for (const csd of awaited) {
      yield* call(this.runFunction(csd));
      yield* new Op<void>(CSD_UNLOCK, csd.lock, -1, false);
    }
    for (const csd of others) {
      // Unlocked first: the caller may reuse it while the function runs, so that is kept here.
      const mine = { ...csd };
      yield* new Op<void>(CSD_UNLOCK, csd.lock, -1, false);
      yield* call(this.runFunction(mine));
    }
  }

  /** What a CPU runs that takes `vector`. A kernel may put its own work around it. */
  *interrupt(vector: number): Coroutine {
    this.trace.interruptEntered?.(vector);
    yield* call(this.flush());
    this.trace.interruptLeft?.(vector);
  }

  private *runFunction(csd: Csd): Coroutine {
    this.trace.entered?.(csd);
    assert(csd.run !== null, 'a queued CSD has a function');
    yield* call(csd.run.run(csd.info as never));
    this.trace.left?.(csd);
  }

  private running(): CpuId {
    const { current } = this.machine;
    assert(current !== null, 'a call is made by code that runs');
    return current.id;
  }
}

function newCsd(from: CpuId, to: CpuId, lock: Cell<boolean>): Csd {
  const csd: Csd = {
    from,
    to,
    lock,
    sync: false,
    run: null,
    info: null,
    next: null,
    untilUnlocked: { cells: [lock], until: unlocked },
    push: (newest) => {
      if (newest === csd) throw queuedTwice(csd);
      csd.next = newest;
      return csd;
    },
  };
  return csd;
}

const queuedTwice = ({ from, to }: Csd): UsageError =>
  new UsageError(
    'ERR_COROUTINE',
    `the call of CPU ${from} to CPU ${to} is queued already: a handler may not call whom the code ` +
      'it interrupts is just calling (the kernel has one CSD for both)',
  );

const takeAll = (): null => null;

/** The CSDs of a queue that somebody waits for, or the others. */
function oldestFirst(newest: Csd | null, sync: boolean): readonly Csd[] {
  const csds: Csd[] = [];
  for (let csd = newest; csd !== null; csd = csd.next) if (csd.sync === sync) csds.push(csd);
  return csds.length > 1 ? csds.toReversed() : csds;
}

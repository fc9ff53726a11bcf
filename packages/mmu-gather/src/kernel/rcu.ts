/**
 * Sched-RCU: whoever has interrupts off, is in a handler, or is between rcuReadLock() and its unlock
 * is a reader; a grace period is over when every CPU has been seen not to read since it began. That
 * is the promise of RCU and nothing more: a real one takes longer, which is a cost (docs/costs).
 *
 * Not modelled: rcu_gp_kthread, callback offloading. Callbacks run when their CPU leaves the kernel
 * after the grace period, where the real ones run in a softirq of its tick.
 */
import {
  assert,
  call,
  type Cell,
  type Cpu,
  Hardware,
  type Machine,
  Op,
  type OpKind,
  opKind,
  smpMb,
} from '@shootdown/machine';
import type { Kernel, Kthread } from '../kernel.ts';
import { smpProcessorId } from './percpu.ts';

/** Frees what an RCU callback frees. */
export type RcuCallback = (k: Kernel) => Kthread;

/** Callbacks of one CPU that wait for the same grace period. */
interface Segment {
  /** CPUs that have not been seen quiet yet. */
  readonly awaited: Set<number>;
  readonly callbacks: RcuCallback[];
}

/** The RCU of one kernel. */
export interface GracePeriods {
  /** rcu_read_lock() nesting, by CPU. */
  readonly nesting: readonly Cell<number>[];
  /** By CPU, oldest first. Looked at by their CPU only. */
  readonly segments: readonly Segment[][];
}

/** rcu_init. */
export const newGracePeriods = (machine: Machine): GracePeriods => ({
  nesting: machine.cpus.map(({ id }) => machine.cell(`rcu_read_lock_nesting[${id}]`, 0)),
  segments: machine.cpus.map(() => []),
});

const nestingOf = (k: Kernel, cpu: number): Cell<number> => {
  const cell = k.rcu.nesting[cpu];
  assert(cell !== undefined, 'every CPU has its nesting');
  return cell;
};

// Not through the store buffer: on hardware nothing is stored at all, the CPU just does not report.
const NEST: OpKind = opKind({
  name: 'rcuNest',
  ready: () => true,
  touch: (_machine, _cpu, { cell }, into) => {
    if (cell !== null) into.write(cell.id);
  },
  execute: (machine, _cpu, { cell, operand }) => {
    const nesting = cell as Cell<number>;
    machine.audit?.write(nesting.id);
    nesting.value += operand as number;
  },
});

const nest = (k: Kernel, by: number): Op<void> =>
  new Op<void>(NEST, nestingOf(k, smpProcessorId(k)), -1, by);

/** rcu_read_lock. */
export const rcuReadLock = (k: Kernel): Op<void> => nest(k, 1);

/** rcu_read_unlock. */
export const rcuReadUnlock = (k: Kernel): Op<void> => nest(k, -1);

interface Quiet {
  readonly k: Kernel;
  readonly cpus: Set<number>;
}

/** Whether `cpu` reads nothing now: a moment at which every reader that began before has ended. */
const isQuiet = (k: Kernel, cpu: Cpu): boolean =>
  cpu.irqsOn &&
  cpu.task.contexts.every(({ kind }) => kind === 'host') &&
  nestingOf(k, cpu.id).value === 0;

const touchQuiet: OpKind['touch'] = (machine, _cpu, { operand }, into) => {
  const { k, cpus } = operand as Quiet;
  for (const id of cpus) {
    const cpu = machine.cpu(id);
    into.read(cpu.cell(Hardware.irqFlag));
    into.read(cpu.cell(Hardware.stack));
    into.read(nestingOf(k, id).id);
  }
};

const quietOf = (machine: Machine, { k, cpus }: Quiet): readonly number[] =>
  Array.from(cpus).filter((id) => isQuiet(k, machine.cpu(id)));

/** Until one of them is quiet; gives all that are. */
const AWAIT_QUIET: OpKind = opKind({
  name: 'rcuAwaitQuiet',
  ready: (machine, _cpu, { operand }) => {
    const { k, cpus } = operand as Quiet;
    for (const id of cpus) if (isQuiet(k, machine.cpu(id))) return true;
    return false;
  },
  touch: touchQuiet,
  execute: (machine, _cpu, { operand }) => quietOf(machine, operand as Quiet),
});

/** What a grace period takes beside the readers: the machinery of rcu_gp_kthread. */
const GRACE_PERIOD: OpKind = opKind({
  name: 'rcuGracePeriod',
  ready: () => true,
  touch: () => undefined,
  execute: () => undefined,
});

const SEE_QUIET: OpKind = opKind({
  name: 'rcuSeeQuiet',
  ready: () => true,
  touch: touchQuiet,
  execute: (machine, _cpu, { operand }) => quietOf(machine, operand as Quiet),
});

/**
 * Waits until every reader that has begun has ended. Sleeps: never under a spinlock.
 *
 * @kernel kernel/rcu/tree.c synchronize_rcu
 */
export function* synchronizeRcu(k: Kernel): Kthread {
  yield* call(awaitReaders(k));
  yield* new Op<void>(GRACE_PERIOD, null, -1, null);
}

function* awaitReaders(k: Kernel): Kthread {
  const self = smpProcessorId(k);
  yield* smpMb();
  // Each has been quiet at some moment since, which is all that is promised: who begins to read after
  // its moment is not waited for.
  const cpus = new Set(k.machine.cpus.map(({ id }): number => id));
  cpus.delete(self);
  while (cpus.size > 0) {
    const look: Quiet = { k, cpus };
    const quiet = yield* new Op<readonly number[]>(AWAIT_QUIET, null, -1, look);
    for (const id of quiet) cpus.delete(id);
  }
}

/** call_rcu: runs `callback` after a grace period. */
export function* callRcu(k: Kernel, callback: RcuCallback): Kthread {
  // Whoever begins to read after the grace period has begun sees what was stored before.
  yield* smpMb();
  const mine = k.rcu.segments[smpProcessorId(k)];
  assert(mine !== undefined, 'every CPU has its callbacks');
  const { cpus } = k.machine;
  const newest = mine.at(-1);
  if (newest !== undefined && newest.awaited.size === cpus.length) {
    newest.callbacks.push(callback);
    return;
  }
  mine.push({ awaited: new Set(cpus.map(({ id }): number => id)), callbacks: [callback] });
}

/** rcu_core: looks which CPUs are quiet, and runs the callbacks whose grace period is over. */
export function* rcuCore(k: Kernel): Kthread {
  const mine = k.rcu.segments[smpProcessorId(k)] ?? [];
  while (mine.length > 0) {
    const [oldest] = mine;
    if (oldest === undefined) return;
    const look: Quiet = { k, cpus: oldest.awaited };
    const quiet = yield* new Op<readonly number[]>(SEE_QUIET, null, -1, look);
    // A CPU that is quiet now was so after every segment here had begun.
    for (const { awaited } of mine) for (const id of quiet) awaited.delete(id);
    if (oldest.awaited.size > 0) return;
    mine.shift();
    for (const callback of oldest.callbacks) yield* call(callback(k));
  }
}

/**
 * rcu_barrier, for the callbacks of this CPU. Takes as long as the readers and no longer: nobody waits
 * for the machinery, whose callbacks just come later.
 */
export function* rcuBarrier(k: Kernel): Kthread {
  const mine = k.rcu.segments[smpProcessorId(k)] ?? [];
  if (mine.length === 0) return;
  const queued = [...mine];
  yield* call(awaitReaders(k));
  // Whoever read when they were queued has ended, whether or not it reads again now.
  for (const { awaited } of queued) awaited.clear();
  yield* call(rcuCore(k));
}

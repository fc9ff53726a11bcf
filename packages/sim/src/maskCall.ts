/**
 * A whole-mask call done at once. Thousands of CPUs in user mode that are interrupted for one short
 * function do the same few Ops each, and nobody else is near; then the times can be added up without
 * stepping through every one. The result is what stepping gives, byte for byte: the same records at
 * the same times, the same clocks. Where that is not certain, the answer is no, and the caller steps.
 *
 * The sums below are `CallQueues.post`, `awaitCalls` and `flush` (machine/src/csd.ts) in the terms
 * of the clock; each line names the Op it stands for. A store that waits in a buffer is visible
 * `drain` later, and a locked instruction or a return waits for it.
 */
import {
  type CallTrace,
  type Cell,
  cpuId,
  type Cpu,
  type Csd,
  type InterruptContext,
  type LeafFunction,
  type MaskCall,
  nanoseconds,
} from '@shootdown/machine';
import type { Clock } from './clock.ts';
import { NEVER, type Timeline } from './timeline.ts';

/** Costs of one call's Ops, ns. */
interface CallCosts {
  readonly lock: number;
  readonly fill: number;
  readonly enqueue: number;
  readonly send: number;
  readonly entry: number;
  readonly take: number;
  readonly leaf: number;
  readonly unlock: number;
  readonly wait: number;
  readonly iret: number;
  /** From a store to its visibility; 0 without store buffers. */
  readonly drain: number;
  /** No cache line takes longer. */
  readonly farthest: number;
  readonly longestFlight: number;
}

/** Ops of one target: on the caller's side, and on its own beside the function's. */
const CALLER_OPS = 4;
const TARGET_OPS = 3;

/** One target, as its caller knows it. Kept from call to call. */
interface Called {
  readonly line: Timeline;
  readonly csd: Csd;
  readonly queue: Cell<Csd | null>;
}

/** Whom a call goes to, and what is known before it begins. */
interface Party {
  readonly called: readonly Called[];
  /** The latest time at which one of them was last busy. */
  readonly busyUntil: number;
  /** The earliest time at which one of them does something of its own. */
  readonly nextAt: number;
}

/** What a caller keeps from call to call: allocating it each time is half of the time. */
export interface Partners {
  /** Every target it ever had, by number. */
  readonly known: (Called | undefined)[];
  /** The targets of this call. */
  readonly called: Called[];
}

/** Does `whole` for `from`, whose clock stands before it, if nobody could tell. */
export function maskCall(clock: Clock, from: Cpu, whole: MaskCall): boolean {
  const costs = callCosts(clock, whole);
  const caller = clock.line(from.id);
  const party = willing(clock, from, whole);
  if (party === null || !aloneUntil(clock, caller, party, latestEnd(caller, party, costs)))
    return false;
  const { called } = party;
  const sent = postAll(clock, from, called, whole, costs);
  const watched = isWatched(whole.calls.trace, whole.leaf);
  let waited = sent;
  let last = sent;
  for (const one of called) {
    const { line, csd } = one;
    const visible = answer(clock, one, sent + clock.flight(from.id, line.cpu.id), costs);
    if (watched) tell(clock, one, visible - costs.drain, whole, costs);
    if (line.freeAt > last) last = line.freeAt;
    if (visible > waited) waited = visible;
    waited += costs.wait + clock.transfer(csd.lock.toucher, from.id); // csdWait
    csd.lock.toucher = from.id;
    if (line.cpu.op !== null) clock.plan(line);
  }
  caller.freeAt = waited;
  clock.didAtOnce({
    until: Math.max(last, waited),
    ops: called.length * (CALLER_OPS + TARGET_OPS + whole.leaf.ops.length) + (called.length > 0 ? 1 : 0),
    interrupts: called.length,
  });
  return true;
}

function callCosts(clock: Clock, { leaf }: MaskCall): CallCosts {
  return {
    lock: clock.ns('csdLock'),
    fill: clock.ns('csdFill'),
    enqueue: clock.ns('csdEnqueue'),
    send: clock.ns('sendIpi'),
    entry: clock.ns('irqEntry'),
    take: clock.ns('csdTake'),
    leaf: leaf.ops.reduce((sum, name) => sum + clock.ns(name), 0),
    unlock: clock.ns('csdUnlock'),
    wait: clock.ns('csdWait'),
    iret: clock.ns('iret'),
    drain: clock.machine.model === 'sc' ? 0 : clock.ns('storeDrain'),
    farthest: Math.max(clock.ns('line'), clock.ns('lineFar')),
    longestFlight: Math.max(clock.ns('ipiFlight'), clock.ns('ipiFlightFar')),
  };
}

/** The targets, if every one of them is in user mode with nothing pending; null otherwise. */
function willing(clock: Clock, from: Cpu, { calls, targets }: MaskCall): Party | null {
  const { axioms } = clock.machine;
  if (!axioms.deliveryDrains || !axioms.returnDrains || !axioms.postingDrains) return null;
  if (!from.buffer.empty) return null;
  const { known, called } = clock.partners(calls, from.id);
  let busyUntil = 0;
  let nextAt: number = NEVER;
  let count = 0;
  for (let to = targets.next(0); to !== -1; to = targets.next(to + 1)) {
    if (to === from.id) continue;
    let one = known[to];
    if (one === undefined) {
      const target = cpuId(to);
      one = { line: clock.line(to), queue: calls.queue(target), csd: calls.csd(from.id, target) };
      known[to] = one;
    }
    const { line } = one;
    if (!line.inUserMode || one.queue.value !== null || one.csd.lock.value) return null;
    if (line.freeAt > busyUntil) busyUntil = line.freeAt;
    if (line.nextAt < nextAt) nextAt = line.nextAt;
    called[count++] = one;
  }
  called.length = count;
  return { called, busyUntil, nextAt };
}

/** A time by which all is certainly over. */
function latestEnd(caller: Timeline, { called, busyUntil }: Party, costs: CallCosts): number {
  const { lock, fill, drain, enqueue, send, wait, farthest } = costs;
  const each = lock + fill + drain + enqueue + wait + 3 * farthest;
  const target =
    costs.entry + costs.take + costs.leaf + costs.unlock + drain + costs.iret + 2 * farthest;
  const begin = Math.max(busyUntil, caller.freeAt);
  return begin + called.length * each + send + costs.longestFlight + target;
}

/** Whether nobody but the caller and the targets does anything until `end`. */
function aloneUntil(clock: Clock, caller: Timeline, { called, nextAt }: Party, end: number): boolean {
  // A computation of a target that ends within the call would not be interrupted by it.
  if (end > clock.until || nextAt <= end) return false;
  if (called.length === clock.lines.length - 1) return true;
  const targets = new Set(called.map(({ line }) => line));
  return clock.lines.every((line) => line === caller || targets.has(line) || line.nextAt > end);
}

/** The caller fills, queues and sends; gives when the interrupt was sent. */
function postAll(
  clock: Clock,
  from: Cpu,
  called: readonly Called[],
  { calls, run, info, targets, leaf }: MaskCall,
  costs: CallCosts,
): number {
  const { trace } = calls;
  let now = clock.line(from.id).freeAt;
  const watched = isWatched(calls.trace, leaf);
  for (const { csd, queue } of called) {
    now += costs.lock + clock.transfer(csd.lock.toucher, from.id); // csdLock
    now += costs.fill; // csdFill, of a line that is ours by now
    now += costs.drain + costs.enqueue + clock.transfer(queue.toucher, from.id); // csdEnqueue
    csd.lock.toucher = from.id;
    queue.toucher = from.id;
    if (!watched) continue;
    csd.sync = true;
    csd.run = run;
    csd.info = info;
    at(clock, from, now);
    trace.queued?.(csd, true);
  }
  if (called.length === 0) return now;
  now += costs.send; // sendIpi
  if (trace.sent !== undefined) {
    at(clock, from, now);
    const others = targets.copy();
    others.clear(from.id);
    trace.sent(others);
  }
  return now;
}

const IN_INTERRUPT: InterruptContext = { kind: 'irq', vector: null, base: 0, op: null, irqsOn: true };

/** The target takes the interrupt that arrives at `arrival`; gives when its unlock is visible. */
function answer(clock: Clock, { line, csd, queue }: Called, arrival: number, costs: CallCosts): number {
  const { id, op } = line.cpu;
  const boundary = Math.max(line.freeAt, arrival, line.drainedAt);
  if (op !== null) line.suspend(boundary);
  const taken = boundary + costs.entry + costs.take + clock.transfer(queue.toucher, id); // csdTake
  const ran = taken + costs.leaf;
  const unlocked = ran + costs.unlock + clock.transfer(csd.lock.toucher, id); // csdUnlock
  queue.toucher = id;
  csd.lock.toucher = id;
  line.drainedAt = unlocked + costs.drain;
  line.freeAt = line.drainedAt + costs.iret; // iret
  return line.drainedAt;
}

/** What the target's handler does and what its tracepoints say; `unlocked` is when it unlocks. */
function tell(
  clock: Clock,
  { line, csd }: Called,
  unlocked: number,
  { calls, leaf, info }: MaskCall,
  costs: CallCosts,
): void {
  const { trace } = calls;
  const { cpu } = line;
  const caller = csd.from;
  // The queue came from the caller, and so did the lock, which is unlocked last.
  const ran = unlocked - costs.unlock - clock.transfer(caller, cpu.id);
  const taken = ran - costs.leaf;
  cpu.irqsOn = false;
  cpu.task.contexts.push(IN_INTERRUPT);
  at(clock, cpu, taken - costs.take - clock.transfer(caller, cpu.id));
  trace.interruptEntered?.();
  at(clock, cpu, taken);
  trace.entered?.(csd);
  at(clock, cpu, ran);
  leaf.effect?.(clock.machine, cpu, info);
  trace.left?.(csd);
  at(clock, cpu, unlocked);
  trace.interruptLeft?.();
  cpu.task.contexts.pop();
  cpu.irqsOn = true;
}

/** Whether anybody looks: then every target has to be told what it does. */
const isWatched = (trace: CallTrace, { effect }: LeafFunction): boolean =>
  effect !== undefined || Object.keys(trace).length > 0;

/** Makes `cpu` the one that runs, at `now`, for what a kernel's tracepoints say. */
function at({ machine }: Clock, cpu: Cpu, now: number): void {
  machine.current = cpu;
  machine.time = nanoseconds(now);
}

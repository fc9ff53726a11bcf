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
  type CpuId,
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
export interface CallCosts {
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
  /** Whether stores wait in store buffers. */
  readonly buffers: boolean;
  /** From a store to its visibility; 0 without store buffers. */
  readonly drain: number;
  /** No cache line takes longer. */
  readonly farthest: number;
  readonly longestFlight: number;
}

/** Ops of one target: on the caller's side, and on its own beside the function's. */
const CALLER_OPS = 4;
const TARGET_OPS = 3;

/** Ops of a call whose cells are cache lines: the sums charge for their transfer. */
const TAKES_LINE = ['csdLock', 'csdFill', 'csdEnqueue', 'csdTake', 'csdUnlock', 'csdWait'];

/** Ops that cost what only they know, choose, wait, store, or leave: nothing for a sum. */
const UNSUMMABLE: ReadonlySet<string> = new Set([
  'access',
  'choose',
  'compute',
  'halt',
  'iret',
  'maskCall',
  'mayFail',
  'sendIpi',
  'store',
  'switchTo',
  'vcpuPark',
  'wait',
]);

/** One target, as its caller knows it. Kept from call to call. */
interface Called {
  readonly id: CpuId;
  readonly line: Timeline;
  readonly csd: Csd;
  readonly lock: Cell<boolean>;
  readonly queue: Cell<Csd | null>;
}

/** Whom a call goes to, and what is known before it begins. */
interface Party {
  readonly size: number;
  /** Whether the caller has never called one of them. */
  readonly strangers: boolean;
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
  const { charges } = clock;
  const caller = clock.line(from.id);
  const costs = callCosts(clock, whole.leaf);
  const party = costs === null ? null : willing(clock, caller, whole);
  // Without targets nothing happens, and stepping does that as well.
  if (costs === null || party === null || party.size === 0) return false;
  if (!isAloneUntil(clock, caller, party, whole, latestEnd(caller, party, costs))) return false;
  const called = meet(clock, from, party, whole);
  if (called === null) return false;
  clock.drainAll(caller);
  const sent = postAll(clock, from, called, whole, costs);
  const watched = isWatched(whole.calls.trace, whole.leaf);
  const vector = whole.calls.vectorFor(called.length);
  let waited = sent;
  let last = sent;
  for (const one of called) {
    const { id, line, lock } = one;
    const visible = answer(clock, one, sent + charges.flight(from.id, id), costs);
    if (watched) tell(clock, one, vector, visible - costs.drain, whole, costs);
    if (line.freeAt > last) last = line.freeAt;
    if (visible > waited) waited = visible;
    waited += costs.wait + charges.transfer(lock.toucher, from.id); // csdWait
    lock.toucher = from.id;
    if (!line.idle) clock.plan(line);
  }
  caller.freeAt = waited;
  const each = CALLER_OPS + TARGET_OPS + whole.leaf.ops.length;
  clock.didAtOnce({
    until: Math.max(last, waited),
    // One interrupt is sent to all.
    ops: called.length * each + 1,
    interrupts: called.length,
  });
  return true;
}

/** What the Ops cost, added up once per function; null if a sum would not tell. */
function callCosts(clock: Clock, leaf: LeafFunction): CallCosts | null {
  const known = clock.callCosts.get(leaf);
  if (known !== undefined) return known;
  const costs = addUp(clock, leaf);
  clock.callCosts.set(leaf, costs);
  return costs;
}

function addUp({ charges, machine }: Clock, leaf: LeafFunction): CallCosts | null {
  const takesLine = (name: string): boolean => (charges.cost(name).line ?? false) !== false;
  if (!TAKES_LINE.every((name) => charges.cost(name).line === true)) return null;
  if (leaf.ops.some((name) => UNSUMMABLE.has(name) || takesLine(name))) return null;
  const flights = [charges.ns('ipiFlight'), charges.ns('ipiFlightFar')];
  const wait = charges.ns('csdWait');
  // Records of one time are put in the order of CPUs, so an effect has to be later than its cause.
  if (Math.min(wait, ...flights) === 0) return null;
  return {
    lock: charges.ns('csdLock'),
    fill: charges.ns('csdFill'),
    enqueue: charges.ns('csdEnqueue'),
    send: charges.ns('sendIpi'),
    entry: charges.irqEntry,
    take: charges.ns('csdTake'),
    leaf: leaf.ops.reduce((sum, name) => sum + charges.ns(name), 0),
    unlock: charges.ns('csdUnlock'),
    wait,
    iret: charges.ns('iret'),
    buffers: machine.model === 'tso',
    drain: machine.model === 'tso' ? charges.storeDrain : 0,
    farthest: Math.max(charges.ns('line'), charges.ns('lineFar')),
    longestFlight: Math.max(...flights),
  };
}

/**
 * What is known of the targets, if every one of them is in user mode with nothing pending and the
 * caller expects nothing either; null otherwise.
 */
function willing(clock: Clock, caller: Timeline, { calls, targets }: MaskCall): Party | null {
  const { cpu: from } = caller;
  const { axioms } = clock.machine;
  if (!axioms.deliveryDrains || !axioms.returnDrains || !axioms.postingDrains) return null;
  // What the caller has stored becomes visible before its first locked instruction; nobody may wait
  // for that. Until then nobody looks: everybody is alone with this call.
  if (from.pending.length > 0 || from.buffer.some(({ cell }) => isAwaited(cell))) return null;
  const { known, called } = clock.partners(calls, from.id);
  let busyUntil = 0;
  let nextAt: number = NEVER;
  let strangers = false;
  let size = 0;
  for (let to = targets.next(0); to !== -1; to = targets.next(to + 1)) {
    if (to === from.id) continue;
    const one = known[to];
    // Nothing is allocated yet: who refuses leaves no trace.
    const queue = one === undefined ? calls.queue(cpuId(to)) : one.queue;
    const line = one === undefined ? clock.line(to) : one.line;
    if (!line.inUserMode || queue.value !== null || one?.lock.value === true) return null;
    if (line.freeAt > busyUntil) busyUntil = line.freeAt;
    if (line.nextAt < nextAt) nextAt = line.nextAt;
    if (one === undefined) strangers = true;
    else called[size] = one;
    size++;
  }
  return { size, strangers, busyUntil, nextAt };
}

const isAwaited = (cell: Cell | null): boolean => (cell?.waiters?.size ?? 0) > 0;

/** A time by which all is certainly over. */
function latestEnd(caller: Timeline, { size, busyUntil }: Party, costs: CallCosts): number {
  const { lock, fill, drain, enqueue, send, wait, farthest } = costs;
  const each = lock + fill + drain + enqueue + wait + 3 * farthest;
  const target =
    costs.entry + costs.take + costs.leaf + costs.unlock + drain + costs.iret + 2 * farthest;
  const begin = Math.max(busyUntil, caller.freeAt);
  return begin + size * each + send + costs.longestFlight + target;
}

/** Whether nobody does anything of its own until `end`, the caller and the targets included. */
function isAloneUntil(
  clock: Clock,
  caller: Timeline,
  { size, nextAt }: Party,
  { targets }: MaskCall,
  end: number,
): boolean {
  if (end > clock.until || clock.polls) return false;
  // A computation of a target that ends within the call would not be interrupted by it.
  if (nextAt <= end || caller.plan.some(({ atNs }) => atNs <= end)) return false;
  if (size === clock.lines.length - 1 || clock.nextEventAt > end) return true;
  return clock.lines.every(
    (line) => line === caller || targets.has(line.cpu.id) || line.nextAt > end,
  );
}

/** The targets, with what the caller needs for each; null if it is calling one of them already. */
function meet(
  clock: Clock,
  from: Cpu,
  { size, strangers }: Party,
  { calls, targets }: MaskCall,
): readonly Called[] | null {
  const { known, called } = clock.partners(calls, from.id);
  called.length = size;
  if (!strangers) return called;
  let count = 0;
  for (let to = targets.next(0); to !== -1; to = targets.next(to + 1)) {
    if (to === from.id) continue;
    const target = cpuId(to);
    let one = known[to];
    if (one === undefined) {
      const csd = calls.csd(from.id, target);
      one = { id: target, line: clock.line(to), queue: calls.queue(target), csd, lock: csd.lock };
      known[to] = one;
    }
    if (one.lock.value) return null;
    called[count++] = one;
  }
  return called;
}

/** The caller fills, queues and sends; gives when the interrupt was sent. */
function postAll(
  clock: Clock,
  from: Cpu,
  called: readonly Called[],
  { calls, run, info, targets, leaf }: MaskCall,
  costs: CallCosts,
): number {
  const { charges } = clock;
  const { trace } = calls;
  const caller = clock.line(from.id);
  let now = caller.freeAt;
  const watched = isWatched(trace, leaf);
  for (const { csd, lock, queue } of called) {
    now += costs.lock + charges.transfer(lock.toucher, from.id); // csdLock
    now += costs.fill + costs.drain; // csdFill, of a line that is ours by now
    if (costs.buffers) caller.drainedAt = now;
    now += costs.enqueue + charges.transfer(queue.toucher, from.id); // csdEnqueue
    lock.toucher = from.id;
    queue.toucher = from.id;
    if (!watched) continue;
    csd.sync = true;
    csd.run = run;
    csd.info = info;
    at(clock, from, now);
    trace.queued?.(csd, true);
  }
  now += costs.send; // sendIpi
  if (trace.sent !== undefined) {
    at(clock, from, now);
    const others = targets.copy();
    others.clear(from.id);
    trace.sent(others, calls.vectorFor(called.length), run);
  }
  return now;
}

const IN_INTERRUPT: InterruptContext = {
  kind: 'irq',
  vector: null,
  base: 0,
  op: null,
  irqsOn: true,
};

/** The target takes the interrupt that arrives at `arrival`; gives when its unlock is visible. */
function answer(
  { charges }: Clock,
  { id, line, lock, queue }: Called,
  arrival: number,
  costs: CallCosts,
): number {
  const boundary = Math.max(line.freeAt, arrival);
  if (!line.idle) line.suspend(boundary);
  const taken = boundary + costs.entry + costs.take + charges.transfer(queue.toucher, id); // csdTake
  const ran = taken + costs.leaf;
  const unlocked = ran + costs.unlock + charges.transfer(lock.toucher, id); // csdUnlock
  queue.toucher = id;
  lock.toucher = id;
  const visible = unlocked + costs.drain;
  if (costs.buffers) line.drainedAt = visible;
  line.freeAt = visible + costs.iret; // iret
  return visible;
}

/** What the target's handler does and what its tracepoints say; `unlocked` is when it unlocks. */
function tell(
  clock: Clock,
  { line, csd }: Called,
  vector: number,
  unlocked: number,
  { calls, leaf, info }: MaskCall,
  costs: CallCosts,
): void {
  const { trace } = calls;
  const { cpu } = line;
  // The queue came from the caller, and so did the lock, which is unlocked last.
  const transfer = clock.charges.transfer(csd.from, cpu.id);
  const ran = unlocked - costs.unlock - transfer;
  const taken = ran - costs.leaf;
  cpu.irqsOn = false;
  cpu.task.contexts.push(IN_INTERRUPT);
  at(clock, cpu, taken - costs.take - transfer);
  trace.interruptEntered?.(vector);
  at(clock, cpu, taken);
  trace.entered?.(csd);
  at(clock, cpu, ran);
  leaf.effect?.(clock.machine, cpu, info);
  trace.left?.(csd);
  at(clock, cpu, unlocked);
  trace.interruptLeft?.(vector);
  cpu.task.contexts.pop();
  cpu.irqsOn = true;
}

/** Hooks that are told about each target; `sent` is told once. */
const HOOKS: readonly (keyof CallTrace)[] = [
  'queued',
  'interruptEntered',
  'interruptLeft',
  'entered',
  'left',
];

/** Whether anybody looks: then every target has to be told what it does. */
const isWatched = (trace: CallTrace, { effect }: LeafFunction): boolean =>
  effect !== undefined || HOOKS.some((hook) => trace[hook] !== undefined);

/** Makes `cpu` the one that runs, at `now`, for what a kernel's tracepoints say. */
function at({ machine }: Clock, cpu: Cpu, now: number): void {
  machine.current = cpu;
  machine.time = nanoseconds(now);
}

/**
 * What a CPU does next, seen from what it has done so far. Nothing happens here: the clock asks
 * again whenever something has happened that may matter.
 */
import {
  computesFor,
  type ContextKind,
  type Cpu,
  type Machine,
  NMI_VECTOR,
  type Op,
} from '@shootdown/machine';
import { cellOf, type Charges } from './charges.ts';
import { NEVER, Next, type Timeline } from './timeline.ts';

/** Where a cache line comes from that is there already, or will be. */
const NOWHERE = -2;

/** Decides what `line` does next and when, as things are at `now`, the time of the last event. */
export function decide(line: Timeline, machine: Machine, charges: Charges, now: number): void {
  const { cpu } = line;
  // Whoever has left its Op is on the way into the interrupt: nothing calls it back.
  const left = line.leaveAt < now;
  let endAt: number = NEVER;
  if (!left) {
    endAt = endOfOp(line, machine, charges, now);
    const quiet = cpu.pending.length === 0 && line.plan.length === 0;
    line.leaveAt = quiet ? NEVER : leaving(line, endAt);
  }
  const drainAt = line.drains[0] ?? NEVER;
  line.what = Next.drain;
  line.nextAt = drainAt;
  if (line.leaveAt === NEVER) {
    if (endAt < drainAt) {
      line.what = Next.step;
      line.nextAt = endAt;
    }
  } else {
    const enteredAt = entering(line, machine, charges);
    if (enteredAt < drainAt) {
      line.what = line.leavesFor === null ? Next.deliver : Next.move;
      line.nextAt = enteredAt;
    }
  }
  line.idle = cpu.op === null;
  line.inUserMode = isInUserMode(line);
}

/** When the Op of `line` ends if nothing comes; `NEVER` if it has none, or while that must wait. */
function endOfOp(line: Timeline, machine: Machine, charges: Charges, now: number): number {
  const { cpu } = line;
  const { op } = cpu;
  // What has begun goes on to its end, whatever happens elsewhere and whoever asks again.
  if (op !== null && line.begun === op && line.begunAt === line.freeAt) return line.endAt;
  const mustWait = op !== null && machine.ways(cpu) === 0;
  // What has just happened has ended the wait.
  if (op !== null && line.blocked === op && !mustWait && line.freeAt < now) line.freeAt = now;
  line.blocked = mustWait ? op : null;
  line.begun = null;
  if (op === null || mustWait) return NEVER;
  begin(line, op, charges);
  return line.endAt;
}

/** Begins `op`: what it costs is settled by how things are now. */
function begin(line: Timeline, op: Op, charges: Charges): void {
  const { cpu, freeAt } = line;
  line.begun = op;
  line.begunAt = freeAt;
  line.takes = null;
  const computes = computesFor(op);
  if (computes !== null) {
    line.endAt = freeAt + (line.left.get(op) ?? computes);
    return;
  }
  const cost = charges.of(op.kind);
  line.endAt = freeAt + cost.ns;
  const moves = cost.line ?? false;
  const cell = moves === false ? null : cellOf(op);
  if (cell === null) return;
  line.takes = cell;
  line.fetches = moves === true ? cell.toucher : NOWHERE;
  if (moves === true) line.endAt += charges.transfer(cell.toucher, cpu.id);
}

/**
 * Whether the Op of `line`, which would end now, needs a cache line that another CPU has taken since
 * the Op began: then it has to come from there, and is kept until the Op ends.
 */
export function fetchesAgain(line: Timeline, charges: Charges): boolean {
  const { cpu, fetches, takes } = line;
  if (takes === null || fetches === NOWHERE || fetches === takes.toucher) return false;
  line.fetches = NOWHERE;
  const transfer = charges.transfer(takes.toucher, cpu.id);
  line.endAt += transfer;
  return transfer > 0;
}

/**
 * When `line` leaves its Op, which would end at `endAt`, for an interrupt or for the move that it
 * then notes; `NEVER` if not before the end.
 */
function leaving(line: Timeline, endAt: number): number {
  const { cpu, freeAt } = line;
  line.leavesFor = null;
  if (cpu.frozen) return NEVER;
  let leaveAt: number = NEVER;
  for (const vector of cpu.pending)
    if (canEnter(cpu, vector === NMI_VECTOR ? 'nmi' : 'irq'))
      leaveAt = Math.min(leaveAt, Math.max(freeAt, line.arrival(vector)));
  const move = line.plan.find(({ kind }) => canEnter(cpu, kind));
  if (move !== undefined && Math.max(freeAt, move.atNs) < leaveAt) {
    leaveAt = Math.max(freeAt, move.atNs);
    line.leavesFor = move;
  }
  // At a boundary what is there goes first. Waiting, idling and computing are all boundary.
  const { op } = cpu;
  const interruptible = endAt === NEVER || (op !== null && computesFor(op) !== null);
  return leaveAt <= freeAt || (interruptible && leaveAt < endAt) ? leaveAt : NEVER;
}

/** Whether `cpu`, its store buffer aside, would take something of that kind. */
function canEnter(cpu: Cpu, kind: ContextKind): boolean {
  if (kind === 'irq') return cpu.irqsOn;
  return kind === 'host' || !cpu.nmisMasked;
}

/** When `line`, which leaves its Op, has entered what it leaves for; `NEVER` before its drains. */
function entering(line: Timeline, { axioms }: Machine, charges: Charges): number {
  const { cpu, leaveAt, leavesFor } = line;
  const entry = leavesFor?.kind === 'host' ? charges.vmExit : charges.irqEntry;
  if (!axioms.deliveryDrains) return leaveAt + entry;
  return cpu.buffer.empty ? Math.max(leaveAt, line.drainedAt) + entry : NEVER;
}

/** Whether it computes, spins or idles, with nothing pending that could end that. */
function isInUserMode({ cpu, plan }: Timeline): boolean {
  const { op } = cpu;
  return (
    (op === null || op.kind.userMode === true || computesFor(op) !== null) &&
    cpu.irqsOn &&
    cpu.pending.length === 0 &&
    cpu.buffer.empty &&
    cpu.task.contexts.length === 0 &&
    plan.length === 0
  );
}

/**
 * What can be told about the state of a world, as text: two schedules that ought to come to the
 * same are compared by it, and a difference is readable.
 */
import { Cell } from './cell.ts';
import type { Cpu } from './cpu.ts';
import { CpuMask } from './cpuMask.ts';
import { describeOp } from './explain.ts';
import { describeId, Footprint } from './footprint.ts';
import type { Machine } from './machine.ts';
import type { Op } from './op.ts';
import { MayCachedTlb } from './tlb/mayCached.ts';
import type { Transition } from './transition.ts';
import { ADDRESSES, type World } from './world.testlib.ts';

const PCIDS = [0, 1, 2];

/** A value that an Op gave or that a cell holds, in words that are the same in every run. */
export function show(value: unknown): string {
  if (value instanceof Cell) return `cell ${value.id}`;
  if (value instanceof CpuMask) return `{${value.toString()}}`;
  if (typeof value === 'symbol') return String(value.description);
  if (Array.isArray(value)) return `[${value.map(show).join(' ')}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  if ('lock' in value && 'next' in value && 'info' in value && 'from' in value && 'to' in value)
    return `csd ${show(value.from)}>${show(value.to)} ${show(value.info)} then ${show(value.next)}`;
  return 'name' in value ? String(value.name) : JSON.stringify(value);
}

/** A footprint in words. */
export function showFootprint(cpus: number, footprint: Footprint): string {
  const list = (ids: readonly number[]): string =>
    [...new Set(ids)]
      .toSorted((a, b) => a - b)
      .map((id) => describeId(id, cpus))
      .join(', ');
  return `reads ${list(footprint.reads)}; writes ${list(footprint.writes)}`;
}

/** What `next` would touch now. */
export function footprintOf(machine: Machine, next: Transition): Footprint {
  const footprint = new Footprint();
  machine.touch(next, footprint);
  return footprint;
}

function showOp(op: Op | null): string {
  const operand = op?.operand;
  const given = typeof operand === 'number' || typeof operand === 'boolean' ? operand : '';
  return `${describeOp(op)} ${given}`;
}

/** What the caches of `cpu` hold, by asking; in order, since ways are numbered in that order. */
function showTlb(cpu: Cpu): readonly string[] {
  const { pcid, tlb } = cpu;
  const lines = PCIDS.map((context) => {
    cpu.pcid = context;
    if (tlb instanceof MayCachedTlb)
      return tlb.entries.map(
        ({ level, leaf, va, from, target, flags }) =>
          `${leaf ? 'page' : 'table'} ${target} at ${va} level ${level} from ${from} ${flags}`,
      );
    return ADDRESSES.map((va) => {
      const footprint = new Footprint();
      const ends: number[] = [];
      tlb.touch({ va, write: true, user: true }, 0, footprint, (at) => ends.push(at));
      return `${va}: ${ends.join()} by ${footprint.reads.join()}`;
    });
  });
  cpu.pcid = pcid;
  return lines.map((entries, context) => `tlb ${context}: ${entries.join('; ')}`);
}

function showCpu(cpu: Cpu): readonly string[] {
  const { task } = cpu;
  const contexts = task.contexts.map(
    ({ kind, vector, base, op, irqsOn }) => `${kind} ${vector} ${base} ${irqsOn} ${showOp(op)}`,
  );
  const stores = [...cpu.buffer].map(({ cell, at, value }) => `${cell?.id ?? at}=${show(value)}`);
  const posted = cpu.invalidations.map(
    ({ from, ordinal, what }) => `${from.id}.${ordinal} ${JSON.stringify(what)}`,
  );
  return [
    `irqs ${cpu.irqsOn} nmis masked ${cpu.nmisMasked} pending ${cpu.pending.join()}`,
    `task ${task.name}, ${task.stack.length} deep, at ${showOp(cpu.op)}`,
    `contexts ${contexts.join('; ')}`,
    `buffer ${stores.join(' ')}`,
    `inbox ${posted.join('; ')}`,
    `outstanding ${cpu.outstanding} root ${cpu.root} pcid ${cpu.pcid}`,
    ...showTlb(cpu),
  ].map((line) => `cpu ${cpu.id}: ${line}`);
}

/** Memory, CPUs, tasks and what code has seen; not what can happen next. */
export function fingerprint({ machine, history, tasks }: World): readonly string[] {
  const frames = [...machine.physical.written()].toSorted(([a], [b]) => a - b);
  return [
    ...machine.cells.map(({ id, value }) => `cell ${id} = ${show(value)}`).toSorted(),
    ...frames.map(([number, { used, words }]) => {
      const written = used.map((index) => `${index}=${words[index]}`);
      return `frame ${number}: ${written.toSorted().join(' ')}`;
    }),
    ...machine.cpus.flatMap(showCpu),
    ...tasks.map(
      ({ name, stack, contexts, op }) =>
        `task ${name}: ${stack.length} deep, ${contexts.length} contexts, at ${showOp(op)}`,
    ),
    ...history.map((seen, id) => `seen by ${id}: ${seen.join(', ')}`),
  ];
}

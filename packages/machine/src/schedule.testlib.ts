/**
 * Running worlds: a schedule is the list of transitions that were taken, so that the same can be
 * taken again in another copy of the world.
 */
import { fingerprint } from './fingerprint.testlib.ts';
import type { Machine } from './machine.ts';
import { type Transition, transitionCpu, TransitionKind, transitionKind } from './transition.ts';
import type { World } from './world.testlib.ts';

/**
 * Takes one enabled transition per number of `picks`; ends early when nothing is enabled or code
 * fails. Returns what was taken and did not fail; `each` is told before each how many were enabled.
 */
export function follow(
  world: World,
  picks: Iterable<number>,
  each: (enabled: number) => void = () => undefined,
): readonly Transition[] {
  const enabled: Transition[] = [];
  const taken: Transition[] = [];
  for (const number of picks) {
    world.machine.enabled(enabled);
    const next = enabled[number % enabled.length];
    if (next === undefined) break;
    each(enabled.length);
    if (!take(world, next)) break;
    taken.push(next);
  }
  return taken;
}

/** Takes `next`. False if its code failed, which is then the last thing in its CPU's history. */
export function take({ machine, history }: World, next: Transition): boolean {
  try {
    machine.execute(next);
    return true;
  } catch (error) {
    history[transitionCpu(next)]?.push(`failed: ${String(error)}`);
    return false;
  }
}

/** What `next` is, by its kind; a step by the name of its Op. */
export function nameOf({ machine }: World, next: Transition): string {
  const cpu = machine.cpu(transitionCpu(next));
  switch (transitionKind(next)) {
    case TransitionKind.step:
      return cpu.op?.kind.name ?? 'idle';
    case TransitionKind.drain:
      return 'drain';
    case TransitionKind.deliver:
      return 'deliver';
    case TransitionKind.apply:
      return 'apply';
    case TransitionKind.move:
      return 'move';
  }
}

/** What a run to the end may be told. */
export interface Run {
  /** Transitions that may be taken; all by default. */
  readonly allowed?: (next: Transition) => boolean;
  /** Called after every transition. */
  readonly each?: () => void;
}

/** Takes transitions until none is left: by `numbers`, then whatever comes first. */
export function runToEnd(
  machine: Machine,
  numbers: readonly number[] = [],
  { allowed = () => true, each = () => undefined }: Run = {},
): readonly Transition[] {
  const taken: Transition[] = [];
  for (;;) {
    const enabled = machine.enabled([]).filter(allowed);
    const next = enabled[(numbers[taken.length] ?? 0) % enabled.length];
    if (next === undefined) return taken;
    machine.execute(next);
    taken.push(next);
    each();
  }
}

const MANY = 5000;

/** One schedule to every state that the world of `make` can come to. */
export function schedulesToAll(make: () => World): readonly (readonly Transition[])[] {
  const reached = new Map<string, readonly Transition[]>();
  const open: (readonly Transition[])[] = [[]];
  for (let schedule = open.pop(); schedule !== undefined; schedule = open.pop()) {
    const world = make();
    for (const next of schedule) take(world, next);
    const state = fingerprint(world).join('\n');
    if (reached.has(state)) continue;
    reached.set(state, schedule);
    if (reached.size > MANY) throw new Error(`more than ${MANY} states: make it smaller`);
    for (const next of world.machine.enabled([])) open.push([...schedule, next]);
  }
  return [...reached.values()];
}

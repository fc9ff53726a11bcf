/**
 * The commutation law, from outside: after a schedule, take two enabled transitions whose
 * footprints do not conflict, in either order. Nobody may be able to tell the order, and neither
 * may have changed what the other would touch, or whether it may happen at all. The world is built
 * anew for every order, since generators cannot be copied.
 */
import { fingerprint, footprintOf, showFootprint } from './fingerprint.testlib.ts';
import type { Footprint } from './footprint.ts';
import { nameOf, take } from './schedule.testlib.ts';
import { type Transition, transitionCpu, TransitionKind, transitionKind } from './transition.ts';
import type { World } from './world.testlib.ts';

/** The same world at the same point of the same schedule, as often as one asks. */
export type Again = () => World;

/** What came out at one point. */
export interface Finding {
  /** The names of the two transitions, sorted; of a new or lost one, in that order. */
  readonly names: string;
  readonly conflict: boolean;
  /** What somebody could tell: '' if nothing. */
  readonly difference: string;
}

interface Possible {
  readonly next: Transition;
  readonly name: string;
  readonly footprint: Footprint;
  /** The same for the same footprint. */
  readonly key: string;
}

type Possibilities = ReadonlyMap<Transition, Possible>;

const keyOf = (ids: readonly number[]): string =>
  [...new Set(ids)].toSorted((a, b) => a - b).join();

function possibilities(world: World): Possibilities {
  const { machine } = world;
  return new Map(
    machine.enabled([]).map((next) => {
      const footprint = footprintOf(machine, next);
      const key = `${keyOf(footprint.reads)};${keyOf(footprint.writes)}`;
      return [next, { next, name: nameOf(world, next), footprint, key }];
    }),
  );
}

/** What hardware does by itself, unlike the steps and interrupts of one CPU, which are in order. */
const byItself = ({ next }: Possible): boolean =>
  transitionKind(next) === TransitionKind.drain || transitionKind(next) === TransitionKind.apply;

const sameCpu = (a: Possible, b: Possible): boolean =>
  transitionCpu(a.next) === transitionCpu(b.next);

const sameKind = (a: Possible, b: Possible): boolean =>
  transitionKind(a.next) === transitionKind(b.next);

/** Whether the law speaks of the two. Ways of one step, for example, exclude each other. */
const swappable = (a: Possible, b: Possible): boolean =>
  !sameCpu(a, b) || (!sameKind(a, b) && (byItself(a) || byItself(b)));

/** Whether `first` may make `second` possible without a conflict: the next step of a program. */
const programOrder = (first: Possible, second: Possible): boolean =>
  sameCpu(first, second) && transitionKind(second.next) === TransitionKind.step && !byItself(first);

const conflicts = (a: Possible, b: Possible): boolean => a.footprint.conflicts(b.footprint);

function end(again: Again, first: Transition, second: Transition): readonly string[] {
  const world = again();
  take(world, first);
  if (!possibilities(world).has(second)) return ['the second cannot happen'];
  take(world, second);
  const possible = [...possibilities(world).values()].map(({ name, key }) => `${name} ${key}`);
  return [...fingerprint(world), ...possible];
}

const firstDifference = (one: readonly string[], other: readonly string[]): string => {
  const at = one.findIndex((line, index) => line !== other[index]);
  if (at === -1) return one.length === other.length ? '' : `then ${other[one.length]}`;
  return `${one[at]} // ${other[at]}`;
};

/**
 * On a machine of `count` CPUs: what `first` did to the footprint or the possibility of each
 * transition that was there.
 */
function changed(
  count: number,
  now: Possibilities,
  first: Possible,
  then: Possibilities,
): readonly Finding[] {
  const found: Finding[] = [];
  const note = (names: string, conflict: boolean, difference: string): void => {
    found.push({ names, conflict, difference });
  };
  for (const other of now.values())
    if (swappable(first, other) || (sameCpu(first, other) && !programOrder(first, other))) {
      const later = then.get(other.next);
      if (later === undefined && !(sameCpu(first, other) && sameKind(first, other)))
        note(`${first.name} ends ${other.name}`, conflicts(first, other), 'it is lost');
      else if (swappable(first, other) && later !== undefined && later.key !== other.key)
        note(
          `${first.name} changes ${other.name}`,
          conflicts(first, other),
          `${showFootprint(count, other.footprint)} // ${showFootprint(count, later.footprint)}`,
        );
    }
  for (const later of then.values())
    if (!now.has(later.next) && !programOrder(first, later))
      note(`${first.name} enables ${later.name}`, conflicts(first, later), 'it is new');
  return found;
}

/** Everything there is to say about the point of the schedule that `again` gives. */
export function findings(again: Again): readonly Finding[] {
  const now = possibilities(again());
  const all = [...now.values()];
  const alone = all.flatMap((first) => {
    const world = again();
    take(world, first.next);
    return changed(world.machine.count, now, first, possibilities(world));
  });
  const pairs = all.flatMap((a, index) =>
    all
      .slice(index + 1)
      .filter((b) => swappable(a, b))
      .map((b): Finding => {
        const names = [a.name, b.name].toSorted().join(' and ');
        if (conflicts(a, b)) return { names, conflict: true, difference: '' };
        const [one, other] = [end(again, a.next, b.next), end(again, b.next, a.next)];
        return { names, conflict: false, difference: firstDifference(one, other) };
      }),
  );
  return [...alone, ...pairs];
}

/** What a footprint keeps secret: a difference, and no conflict. */
export const lies = (all: readonly Finding[]): readonly Finding[] =>
  all.filter(({ conflict, difference }) => !conflict && difference !== '');

/** How often each pair was met: `a and b`, or `a and b in conflict`. */
export class Tally {
  private readonly met = new Map<string, number>();

  count(all: readonly Finding[]): void {
    for (const { names, conflict } of all) {
      const key = conflict && names.includes(' and ') ? `${names} in conflict` : names;
      this.met.set(key, (this.met.get(key) ?? 0) + 1);
    }
  }

  /** Those of `keys` that were never met. */
  missing(keys: readonly string[]): readonly string[] {
    return keys.filter((key) => !this.met.has(key));
  }
}

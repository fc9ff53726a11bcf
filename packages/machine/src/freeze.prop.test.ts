/**
 * A host that takes a vCPU away and gives it back changes nothing but time: leave its moves out of
 * a schedule, and everything that code has seen, and the state of the machine, is the same.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fingerprint } from './fingerprint.testlib.ts';
import type { Instruction } from './world.testlib.ts';
import { build, picks, type Plan, plans } from './programs.testlib.ts';
import { follow, take } from './schedule.testlib.ts';
import {
  type Transition,
  transition,
  transitionArg,
  transitionCpu,
  TransitionKind,
  transitionKind,
} from './transition.ts';
import type { World } from './world.testlib.ts';

const PARK: Instruction = { does: 'vcpuPark', a: 0, b: 0 };
const HOSTS: Plan['moves'] = [0, 0, 1].map((cpu) => ({ kind: 'host', cpu }));

/** The host may take CPU 0 twice and CPU 1 once, and keeps each for a while. */
const worlds = fc
  .tuple(plans(), fc.array(fc.constant(PARK), { maxLength: 2 }))
  .map(([plan, host]): Plan => ({ ...plan, host, moves: [...plan.moves, ...HOSTS] }));

/** Whether `next` is the host's doing: it takes a vCPU, or its code runs there. */
function isHosts({ machine }: World, next: Transition): boolean {
  if (transitionKind(next) === TransitionKind.move)
    return machine.environment[transitionArg(next)]?.kind === 'host';
  return transitionKind(next) === TransitionKind.step && machine.cpu(transitionCpu(next)).frozen;
}

test('a run with the host is the run without it, later', () => {
  const count = { frozen: 0, meanwhile: 0 };
  fc.assert(
    fc.property(worlds, picks(50), (plan, numbers) => {
      const without: Transition[] = [];
      const hosted = build(plan);
      for (const next of follow(build(plan), numbers)) {
        const byHost = isHosts(hosted, next);
        if (byHost) count.frozen++;
        else without.push(next);
        if (!byHost && hosted.machine.cpus.some(({ frozen }) => frozen)) count.meanwhile++;
        take(hosted, next);
      }
      // The host gives back what it still has.
      for (const cpu of hosted.machine.cpus)
        while (cpu.frozen) take(hosted, transition(TransitionKind.step, cpu.id));
      const alone = build(plan);
      for (const next of without) expect(take(alone, next)).toBe(true);
      // What the host itself has seen is no part of it.
      for (const lines of hosted.history)
        lines.splice(0, lines.length, ...lines.filter((line) => !line.startsWith('host ')));
      expect(fingerprint(hosted)).toEqual(fingerprint(alone));
    }),
    { numRuns: 800 },
  );
  expect(count.frozen).toBeGreaterThan(300);
  expect(count.meanwhile).toBeGreaterThan(300);
});

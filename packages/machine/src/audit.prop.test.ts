/**
 * Checking mode: every access is compared with the declared footprint. No Op of the machine is
 * caught, whatever the programs; one that keeps something from its footprint is, by name.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readMemory, store, writeMemory } from './access.ts';
import type { Cell } from './cell.ts';
import type { Cpu } from './cpu.ts';
import { ModelBugError } from './errors.ts';
import { Machine, type MachineOptions } from './machine.ts';
import { type Coroutine, Op, type OpKind } from './op.ts';
import { nop, setBit } from './ops/memory.ts';
import { build, picks, plans } from './programs.testlib.ts';
import { nameOf, take } from './schedule.testlib.ts';

/** Every kind of Op that there is, but for `call` and `maskCall`, which only a clock executes. */
const KINDS: readonly string[] = [
  'access',
  'acquire',
  'armTimer',
  'choose',
  'clearBit',
  'compute',
  'csdEnqueue',
  'csdFill',
  'csdLock',
  'csdTake',
  'csdUnlock',
  'csdWait',
  'dsb',
  'fence',
  'frameUsers',
  'halt',
  'invlpg',
  'invlpgb',
  'invpcid',
  'iret',
  'irqFlag',
  'load',
  'locked',
  'mayFail',
  'nop',
  'pageFault',
  'readMask',
  'sendIpi',
  'serialize',
  'setBit',
  'store',
  'switchTo',
  'testAndClearBit',
  'testAndSetBit',
  'testBit',
  'tlbi',
  'tlbsync',
  'userSpin',
  'vcpuPark',
  'vmEntry',
  'wait',
  'writeCr3',
];
/** What happens besides. */
const OTHERS: readonly string[] = ['apply', 'deliver', 'drain', 'move'];

test('no transition touches what its footprint does not name', () => {
  const met = new Set<string>();
  fc.assert(
    fc.property(plans(), picks(80), (plan, numbers) => {
      const world = build(plan, 'inline', true);
      for (const number of numbers) {
        const enabled = world.machine.enabled([]);
        const next = enabled[number % enabled.length];
        if (next === undefined) return;
        met.add(nameOf(world, next));
        if (!take(world, next)) break;
      }
      for (const seen of world.history.flat()) expect(seen).not.toContain('ModelBugError');
    }),
    { numRuns: 2500 },
  );
  expect([...met].toSorted()).toEqual([...KINDS, ...OTHERS].toSorted());
});

/** What an Op that declares only to read `x` does all the same. */
interface Cheat {
  readonly does: (machine: Machine, cpu: Cpu, cells: { x: Cell; y: Cell }) => void;
  readonly caught: string;
  readonly options?: Partial<MachineOptions>;
}

const CHEATS: readonly Cheat[] = [
  { does: (machine, _cpu, { y }) => readMemory(machine, y, -1), caught: 'read y' },
  { does: (machine, _cpu, { y }) => writeMemory(machine, y, -1, 1), caught: 'wrote y' },
  { does: (machine, _cpu, { x }) => writeMemory(machine, x, -1, 1), caught: 'wrote x' },
  { does: (machine) => readMemory(machine, null, 0x18), caught: 'read word 0x18' },
  { does: (machine) => writeMemory(machine, null, 0x18, 1), caught: 'wrote word 0x18' },
  {
    does: (machine, cpu, { y }) => store(machine, cpu, y, -1, 1),
    caught: 'wrote store 0 of CPU 0',
  },
  { does: (_machine, cpu) => cpu.drained, caught: 'read store 0 of CPU 0' },
  { does: (_machine, cpu) => (cpu.irqsOn = false), caught: 'wrote irqFlag of CPU 0' },
  { does: (_machine, cpu) => cpu.nmisMasked, caught: 'read nmiMask of CPU 0' },
  { does: (machine) => machine.cpu(1).irqsOn, caught: 'read irqFlag of CPU 1' },
  { does: (machine) => machine.cpu(1).frozen, caught: 'read running of CPU 1' },
  { does: (machine) => machine.cpu(1).arrive(0x30), caught: 'wrote pending of CPU 1' },
  { does: (machine, cpu) => cpu.broadcast([machine.cpu(1)], ALL), caught: 'wrote inbox of CPU 1' },
  { does: (machine) => machine.cpu(1).tlb.invalidate(ALL), caught: 'wrote tlb of CPU 1' },
  {
    does: (machine) => machine.cpu(1).tlb.invalidate(ALL),
    caught: 'wrote tlb of CPU 1',
    options: { tlb: 'mayCached' },
  },
];
const ALL = { pcid: null, from: null, pages: 0, stride: 0, globals: true, upper: 'all' } as const;

/** A machine whose CPU 0 is about to execute an Op that reads `x`, it says, and then `cheats`. */
function cheating({ does, options = {} }: Cheat, checked: boolean): Machine {
  const machine = new Machine({ cpus: 2, checked, ...options });
  const [x, y] = [machine.cell('x', 0), machine.cell('y', 0)];
  const kind: OpKind = {
    name: 'peek',
    ready: () => true,
    touch: (_machine, _cpu, _op, into) => into.read(x.id),
    execute: (_machine, cpu) => does(machine, cpu, { x, y }),
  };
  function* body(): Coroutine {
    yield* new Op(kind, x, -1, null);
    yield* nop();
  }
  machine.run(0, body());
  return machine;
}

describe('an Op is caught that did what its footprint does not say', () => {
  test.each(CHEATS)('$caught', (cheat) => {
    const machine = cheating(cheat, true);
    const [next] = machine.enabled([]);
    if (next === undefined) throw new Error('the Op is ready');
    const run = (): void => machine.execute(next);
    expect(run).toThrowError(ModelBugError);
    expect(() => cheating(cheat, true).execute(next)).toThrowError(
      `CPU 0: Op peek of x ${cheat.caught}, which its footprint does not name`,
    );
    // Nobody looks without checking mode.
    expect(() => cheating(cheat, false).execute(next)).not.toThrowError();
  });

  test('a bit of a mask is named by its mask', () => {
    const machine = new Machine({ cpus: 3, checked: true });
    const mask = machine.maskCell('cpumask');
    const lies: OpKind = { ...setBit(mask, 2).kind, touch: () => undefined, ready: () => true };
    function* body(): Coroutine {
      yield* new Op(lies, mask, -1, 2);
    }
    machine.run(0, body());
    expect(() => machine.execute(machine.enabled([])[0] ?? (0 as never))).toThrowError(
      'Op setBit of cpumask wrote cpumask[2], which',
    );
  });

  test('code between two Ops may look at nothing', () => {
    const machine = new Machine({ cpus: 2, checked: true });
    function* body(): Coroutine {
      yield* nop();
      if (machine.cpu(1).irqsOn) yield* nop();
    }
    machine.run(0, body());
    expect(() => machine.execute(machine.enabled([])[0] ?? (0 as never))).toThrowError(
      'CPU 0: Op nop read irqFlag of CPU 1, which its footprint does not name',
    );
  });

  test('a record says whether interrupts are on, which is no access', () => {
    const contexts: number[] = [];
    const sink = ({ context }: { context: number }): number => contexts.push(context);
    const machine = new Machine({ cpus: 1, checked: true, sink });
    function* body(): Coroutine {
      yield* nop();
      machine.emit({ kind: 'passed' });
    }
    machine.run(0, body());
    machine.execute(machine.enabled([])[0] ?? (0 as never));
    expect(contexts).toEqual([0]);
  });
});

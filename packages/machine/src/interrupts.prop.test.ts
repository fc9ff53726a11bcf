/**
 * When interrupts and NMIs are taken, and when they are not, whatever the schedule.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NMI_VECTOR } from './cpu.ts';
import { CpuMask } from './cpuMask.ts';
import { enumerate } from './enumerate.testlib.ts';
import { Machine, type MachineOptions } from './machine.ts';
import type { Coroutine } from './op.ts';
import {
  halt,
  iret,
  localIrqDisable,
  localIrqEnable,
  localIrqRestore,
  localIrqSave,
  sendIpi,
} from './ops/interrupts.ts';
import { nop } from './ops/memory.ts';
import { picks } from './programs.testlib.ts';
import { runToEnd } from './schedule.testlib.ts';
import { call } from './stack.ts';

const VECTORS = [0x20, 0x80, 0xf0];
const ONLY_0 = new CpuMask(2, [0]);

/** A machine whose handlers say so in `log`, two Ops each. CPU 0 is the one that is interrupted. */
function machineWith(log: string[], options: Partial<MachineOptions> = {}): Machine {
  const machine = new Machine({ cpus: 2, checked: true, ...options });
  function* handle(what: string): Coroutine {
    log.push(`>${what}`);
    yield* nop();
    log.push(what);
    yield* nop();
    log.push(`<${what}`);
  }
  for (const vector of VECTORS) machine.onInterrupt(vector, () => handle('irq'));
  machine.onInterrupt(NMI_VECTOR, () => handle('nmi'));
  return machine;
}

function* send(vectors: readonly number[]): Coroutine {
  for (const vector of vectors) yield* sendIpi(ONLY_0, vector);
}

const sent = fc.array(fc.constantFrom(...VECTORS, NMI_VECTOR), { maxLength: 8, size: 'max' });

/** Whether each line of `log` was written inside a section from `from` to `to`. */
function* inside(log: readonly string[], from: string, to: string): Generator<[string, boolean]> {
  let depth = 0;
  for (const line of log) {
    if (line === to) depth--;
    yield [line, depth > 0];
    if (line === from) depth++;
  }
}

/** A tree of sections with interrupts off. */
interface Section {
  readonly inner: readonly Section[];
}

const sections = (deepest: number): fc.Arbitrary<readonly Section[]> =>
  deepest === 0
    ? fc.constant([])
    : fc.array(fc.record({ inner: sections(deepest - 1) }), { maxLength: 3, size: 'max' });

function* runSections(log: string[], all: readonly Section[]): Coroutine {
  for (const { inner } of all) {
    yield* nop();
    const flag = yield* localIrqSave();
    log.push('off');
    yield* call(runSections(log, inner));
    log.push('on');
    yield* localIrqRestore(flag);
    yield* nop();
  }
}

test('no interrupt is handled while the flag is saved and off, however deep; NMIs are', () => {
  const count = { nmiInside: 0, irqOutside: 0 };
  fc.assert(
    fc.property(sections(3), sent, picks(80), (all, vectors, numbers) => {
      const log: string[] = [];
      const machine = machineWith(log);
      machine.run(0, runSections(log, all));
      machine.run(1, send(vectors));
      runToEnd(machine, numbers);
      const within = [...inside(log, 'off', 'on')];
      expect(within.filter(([line, off]) => off && line.endsWith('irq'))).toEqual([]);
      count.irqOutside += within.filter(([line]) => line === 'irq').length;
      count.nmiInside += within.filter(([line, off]) => off && line === 'nmi').length;
    }),
    { numRuns: 500 },
  );
  expect(count.irqOutside).toBeGreaterThan(100);
  expect(count.nmiInside).toBeGreaterThan(50);
});

test('no interrupt is handled between localIrqDisable and localIrqEnable', () => {
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { maxLength: 8, size: 'max' }),
      sent,
      picks(80),
      (flags, vectors, numbers) => {
        const log: string[] = [];
        const machine = machineWith(log);
        function* toggle(): Coroutine {
          for (const on of flags) {
            if (on) log.push('on');
            yield* on ? localIrqEnable() : localIrqDisable();
            if (!on) log.push('off');
          }
          log.push('on');
          yield* localIrqEnable();
        }
        machine.run(0, toggle());
        machine.run(1, send(vectors));
        runToEnd(machine, numbers);
        const flagAt = (at: number): string | undefined =>
          log.slice(0, at).findLast((line) => line === 'on' || line === 'off');
        expect(log.filter((line, at) => line.endsWith('irq') && flagAt(at) === 'off')).toEqual([]);
        expect(machine.cpu(0).pending).toEqual([]);
      },
    ),
    { numRuns: 500 },
  );
});

test('an NMI waits for the NMI before it to return, and for nothing else', () => {
  const count = { nmis: 0, insideIrq: 0 };
  fc.assert(
    fc.property(sections(2), sent, picks(80), (all, vectors, numbers) => {
      const log: string[] = [];
      const machine = machineWith(log);
      machine.run(0, runSections(log, all));
      machine.run(1, send(vectors));
      runToEnd(machine, numbers);
      const within = [...inside(log, '>nmi', '<nmi')];
      // Interrupts are off in an NMI, so nothing else is handled there either.
      expect(within.filter(([line, inNmi]) => inNmi && line !== 'nmi')).toEqual([]);
      count.nmis += within.filter(([line]) => line === '>nmi').length;
      for (const [line, inIrq] of inside(log, '>irq', '<irq'))
        if (line === '>nmi' && inIrq) count.insideIrq++;
      expect(machine.cpu(0).nmisMasked).toBe(false);
      expect(machine.cpu(0).pending).toEqual([]);
    }),
    { numRuns: 500 },
  );
  expect(count.nmis).toBeGreaterThan(100);
  expect(count.insideIrq).toBeGreaterThan(20);
});

test('of what is pending the NMI is taken first, then the highest vector, and each once', () => {
  const vector = fc.oneof(fc.nat(3), fc.nat(255));
  const vectors = fc.array(vector, { maxLength: 12, size: 'max' });
  fc.assert(
    fc.property(vectors, (all) => {
      const taken: number[] = [];
      const machine = new Machine({ cpus: 2, checked: true });
      for (let each = 0; each < 256; each++)
        machine.onInterrupt(each, function* () {
          taken.push(each);
          yield* nop();
        });
      function* masked(): Coroutine {
        yield* localIrqDisable();
        yield* localIrqEnable();
      }
      machine.run(0, masked());
      machine.step(machine.cpu(0));
      machine.run(1, send(all));
      while (machine.cpu(1).op !== null) machine.step(machine.cpu(1));
      const nmi = all.includes(NMI_VECTOR) ? [NMI_VECTOR] : [];
      const maskable = [...new Set(all)].filter((each) => each !== NMI_VECTOR);
      // The NMI does not even wait for the interrupt flag.
      expect(machine.deliverable(machine.cpu(0))).toBe(nmi[0] ?? null);
      runToEnd(machine);
      expect(taken).toEqual([...nmi, ...maskable.toSorted((a, b) => b - a)]);
    }),
    { numRuns: 300 },
  );
});

/** All logs of one CPU that runs `body` under interrupts that its environment may send. */
function logs(body: (log: string[]) => Coroutine, nmi: (log: string[]) => Coroutine): string[] {
  const { outcomes } = enumerate(() => {
    const log: string[] = [];
    const environment = [
      { name: 'nmi', cpu: 0, kind: 'nmi', times: 2 } as const,
      { name: 'irq', cpu: 0, kind: 'irq', times: 1, vector: 0x20 } as const,
    ];
    const machine = machineWith(log, { cpus: 1, environment });
    machine.onInterrupt(NMI_VECTOR, () => nmi(log));
    machine.run(0, body(log));
    return { machine, outcome: () => log.join(' ') };
  });
  return [...outcomes.keys()];
}

test('the return from an interrupt inside an NMI lets the next NMI in', () => {
  function* idle(): Coroutine {
    yield* nop();
  }
  function* handle(log: string[], enables: boolean): Coroutine {
    log.push('>nmi');
    if (enables) yield* localIrqEnable();
    yield* nop();
    log.push('<nmi');
  }
  const nested = /^[^<]*>nmi[^<]*>irq irq <irq >nmi/;
  const whileMasked = logs(idle, (log) => handle(log, false));
  expect(whileMasked.length).toBeGreaterThan(3);
  expect(whileMasked.filter((log) => />nmi >/.test(log))).toEqual([]);
  const unmasked = logs(idle, (log) => handle(log, true));
  expect(unmasked.filter((log) => nested.test(log))).not.toEqual([]);
  // Without an interrupt in between there is none.
  expect(unmasked.filter((log) => />nmi >nmi/.test(log))).toEqual([]);
});

test('iret leaves out what the handler had still to do, and gives the flag back', () => {
  const log: string[] = [];
  const machine = machineWith(log);
  machine.onInterrupt(0x80, function* () {
    log.push('in');
    yield* iret();
    log.push('never');
  });
  function* body(): Coroutine {
    yield* nop();
    log.push((yield* localIrqSave()) ? 'on' : 'off');
  }
  machine.run(0, body());
  machine.cpu(0).arrive(0x80);
  machine.deliver(machine.cpu(0));
  expect(machine.cpu(0).irqsOn).toBe(false);
  runToEnd(machine);
  expect(log).toEqual(['in', 'on']);
});

test('halt ends when an interrupt has been taken and has returned', () => {
  fc.assert(
    fc.property(sent, picks(60), (vectors, numbers) => {
      const log: string[] = [];
      const machine = machineWith(log);
      function* body(): Coroutine {
        yield* halt();
        log.push('awake');
      }
      machine.run(0, body());
      machine.run(1, send(vectors));
      runToEnd(machine, numbers);
      const awake = log.indexOf('awake');
      const returned = log.findIndex((line) => line.startsWith('<'));
      expect(awake === -1).toBe(vectors.length === 0);
      expect(returned).toBeLessThanOrEqual(awake);
    }),
    { numRuns: 300 },
  );
});

/** What the environment does at planned times: a host preempts a vCPU, a device interrupts. */
import {
  call,
  compute,
  type EnvironmentMove,
  localIrqDisable,
  localIrqEnable,
  nop,
  sendIpi,
  vcpuPark,
  writeOnce,
} from '@shootdown/machine';
import { expect, test } from 'vitest';
import { HIGH, LOW, NMI, NS, Story } from './clock.testlib.ts';

/** The host takes CPU 0 away for `ns`, exit and entry not counted. */
const preempts = (ns: number): EnvironmentMove => ({
  name: 'host preempts vCPU 0',
  cpu: 0,
  kind: 'host',
  times: 9,
  *body() {
    yield* vcpuPark(ns);
  },
});
const AWAY = NS.vmExit + 2000 + NS.vmEntry;

test('a computation goes on after the host has had the CPU', () => {
  const story = new Story({ environment: [preempts(2000)] }).on(0, function* () {
    yield* compute(5000);
    story.note('computed');
  });
  expect(story.run({ plan: [{ atNs: 300, move: 0 }] })).toMatchObject({ interrupts: 0, ops: 3 });
  expect(story.notes).toEqual([`computed ${5000 + AWAY}`]);
});

test('the host preempts twice, the second time as soon as the CPU runs again', () => {
  const story = new Story({ environment: [preempts(2000)] }).on(0, function* () {
    yield* compute(5000);
    story.note('computed');
  });
  story.run({ plan: [300, 400].map((atNs) => ({ atNs, move: 0 })) });
  expect(story.notes).toEqual([`computed ${5000 + 2 * AWAY}`]);
});

test('the host preempts with interrupts off, between two Ops', () => {
  const story = new Story({ environment: [preempts(2000)] }).on(0, function* () {
    yield* localIrqDisable();
    yield* nop(); // from 2 to 5
    story.note('nop');
    yield* nop();
    story.note('second nop');
  });
  story.run({ plan: [{ atNs: 3, move: 0 }] });
  expect(story.notes).toEqual(['nop 5', `second nop ${5 + AWAY + 3}`]);
});

test('an interrupt and an NMI that arrive meanwhile are taken after the VM entry', () => {
  const story = new Story({ environment: [preempts(2000)] });
  story
    .answer(LOW, 'irq')
    .answer(NMI, 'nmi')
    .on(0, function* () {
      yield* compute(500);
      story.note('computed');
    });
  story.on(1, function* () {
    yield* sendIpi(story.mask(0), LOW); // at 25, arrives at 1025
    yield* sendIpi(story.mask(0), NMI); // at 50, arrives at 1050
  });
  story.run({ plan: [{ atNs: 300, move: 0 }] });
  const back = 300 + AWAY;
  expect(story.notes).toEqual([
    `nmi@0 begins ${back + 100}`,
    `nmi@0 ends ${back + 100}`,
    `irq@0 begins ${back + 100 + 50 + 100}`,
    `irq@0 ends ${back + 250}`,
    `computed ${back + 300 + 200}`,
  ]);
});

test('a wait that ends while the host has the CPU ends when it is back', () => {
  const story = new Story({ environment: [preempts(2000)], model: 'sc' });
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    yield* call(story.awaits(x));
    story.note('waited');
  });
  story.on(1, function* () {
    yield* compute(1000);
    yield* writeOnce(x, 1);
  });
  story.run({ plan: [{ atNs: 300, move: 0 }] });
  expect(story.notes).toEqual([`waited ${300 + AWAY + 200 + 6}`]);
});

test('the host takes a CPU once its stores are visible', () => {
  const story = new Story({ environment: [preempts(2000)] });
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    yield* writeOnce(x, 1); // at 7, visible at 27
    yield* nop();
    story.note('nop');
  });
  story.run({ plan: [{ atNs: 5, move: 0 }] });
  expect(story.notes).toEqual([`nop ${27 + AWAY + 3}`]);
});

test('planned interrupts and NMIs count as interrupts, and one that must wait holds up no other', () => {
  const device: EnvironmentMove = { name: 'device', cpu: 0, kind: 'irq', times: 1, vector: HIGH };
  const watchdog: EnvironmentMove = { name: 'watchdog', cpu: 0, kind: 'nmi', times: 1 };
  const story = new Story({ environment: [device, watchdog, preempts(2000)] });
  story
    .answer(HIGH, 'irq')
    .answer(NMI, 'nmi')
    .on(0, function* () {
      yield* localIrqDisable();
      yield* compute(1000);
      yield* localIrqEnable();
      story.note('enabled');
    });
  const plan = [
    { atNs: 600, move: 2 },
    { atNs: 200, move: 0 },
    { atNs: 400, move: 1 },
  ];
  expect(story.run({ plan }).interrupts).toBe(2);
  const enabled = 2 + 1000 + (100 + 50) + AWAY + 2;
  expect(story.notes).toEqual([
    'nmi@0 begins 500',
    'nmi@0 ends 500',
    `enabled ${enabled}`,
    `irq@0 begins ${enabled + 100}`,
    `irq@0 ends ${enabled + 100}`,
  ]);
});

test('an idle CPU may be preempted, and interrupted after that', () => {
  const story = new Story({ environment: [preempts(2000)] }).answer(LOW, 'irq');
  story.on(1, function* () {
    yield* sendIpi(story.mask(0), LOW);
  });
  expect(story.run({ plan: [{ atNs: 300, move: 0 }] }).timeNs).toBe(300 + AWAY + 100 + 50);
  expect(story.notes).toEqual([
    `irq@0 begins ${300 + AWAY + 100}`,
    `irq@0 ends ${300 + AWAY + 100}`,
  ]);
});

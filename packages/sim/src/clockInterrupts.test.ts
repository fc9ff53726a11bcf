/** When interrupts are taken, what they cost, and what goes on afterwards, derived by hand. */
import {
  call,
  CallQueues,
  compute,
  type Coroutine,
  halt,
  localIrqDisable,
  localIrqEnable,
  nop,
  sendIpi,
  serialize,
  smpMb,
  writeOnce,
} from '@shootdown/machine';
import { expect, test } from 'vitest';
import { HIGH, LOW, NMI, nothing, NS, oneNop, Story } from './clock.testlib.ts';

/** CPU 1 sends `vector` to CPU 0 so that it arrives at `at`. */
function arrives(story: Story, at: number, vector: number = LOW): Story {
  return story.on(1, function* () {
    yield* compute(at - NS.ipiFlight - NS.sendIpi);
    yield* sendIpi(story.mask(0), vector);
  });
}

test('an interrupt of an idle CPU: sending, flight, entry, handler, return', () => {
  const story = new Story().answer(LOW, 'irq', oneNop);
  story.on(1, function* () {
    yield* sendIpi(story.mask(0), LOW);
    story.note('sent');
  });
  // sendIpi 25, ipiFlight 1000, irqEntry 100, nop 3, iret 50.
  expect(story.run()).toEqual({ timeNs: 1178, ops: 3, interrupts: 1, ended: true });
  expect(story.notes).toEqual(['sent 25', 'irq@0 begins 1125', 'irq@0 ends 1128']);
});

test('an interrupt of a CPU in another socket flies longer', () => {
  const story = new Story({ cpus: 3 }).answer(LOW, 'irq');
  story.on(1, function* () {
    yield* sendIpi(story.mask(0, 2), LOW);
  });
  story.run({ cpusPerSocket: 2 });
  expect(story.notes).toEqual([
    `irq@0 begins ${25 + 1000 + 100}`,
    'irq@0 ends 1125',
    `irq@2 begins ${25 + 3000 + 100}`,
    'irq@2 ends 3125',
  ]);
});

test('a computation is interrupted where it is and goes on afterwards', () => {
  const story = arrives(new Story().answer(LOW, 'irq', oneNop), 1200).on(0, function* () {
    yield* compute(5000);
    story.note('computed');
  });
  story.run();
  expect(story.notes).toEqual([
    'irq@0 begins 1300',
    'irq@0 ends 1303',
    `computed ${5000 + 100 + 3 + 50}`,
  ]);
});

test('a computation that ends when the interrupt arrives has ended', () => {
  const story = arrives(new Story().answer(LOW, 'irq'), 1200).on(0, function* () {
    yield* compute(1200);
    story.note('computed');
  });
  story.run();
  expect(story.notes).toEqual(['computed 1200', 'irq@0 begins 1300', 'irq@0 ends 1300']);
});

test('a short Op ends before the interrupt is taken', () => {
  const story = arrives(new Story().answer(LOW, 'irq'), 1200).on(0, function* () {
    yield* compute(1190);
    yield* serialize(); // from 1190 to 1260
    story.note('serialized');
    yield* nop();
    story.note('nop');
  });
  story.run();
  expect(story.notes).toEqual([
    'serialized 1260',
    'irq@0 begins 1360',
    'irq@0 ends 1360',
    `nop ${1360 + 50 + 3}`,
  ]);
});

test('an interrupt waits until interrupts are enabled, an NMI does not', () => {
  const story = new Story({ cpus: 3 }).answer(LOW, 'irq').answer(NMI, 'nmi');
  arrives(story, 1200);
  story.on(2, function* () {
    yield* compute(375);
    yield* sendIpi(story.mask(0), NMI); // at 400, arrives at 1400
  });
  story.on(0, function* () {
    yield* localIrqDisable();
    yield* compute(2000); // from 2; the NMI costs 150 of it
    yield* localIrqEnable();
    story.note('enabled'); // 2 + 2000 + 150 + 2
    yield* nop();
    story.note('nop');
  });
  story.run();
  expect(story.notes).toEqual([
    'nmi@0 begins 1500',
    'nmi@0 ends 1500',
    'enabled 2154',
    'irq@0 begins 2254',
    'irq@0 ends 2254',
    `nop ${2254 + 50 + 3}`,
  ]);
});

test('an NMI interrupts a handler, an interrupt waits until that has returned', () => {
  const story = new Story({ cpus: 3 }).answer(NMI, 'nmi', oneNop).answer(HIGH, 'high');
  story.answer(LOW, 'low', () => computing(1000));
  arrives(story, 1200);
  story.on(2, function* () {
    yield* compute(475);
    yield* sendIpi(story.mask(0), HIGH); // at 500, arrives at 1500
    yield* sendIpi(story.mask(0), NMI); // at 525, arrives at 1525
  });
  story.run();
  // The handler computes from 1300 on; the NMI takes 100 + 3 + 50 of its time.
  expect(story.notes).toEqual([
    'low@0 begins 1300',
    'nmi@0 begins 1625',
    'nmi@0 ends 1628',
    'low@0 ends 2453',
    `high@0 begins ${2453 + 50 + 100}`,
    'high@0 ends 2603',
  ]);
});

function* computing(ns: number): Coroutine {
  yield* compute(ns);
}

test('an NMI that arrives on the way into a handler is taken before its first Op', () => {
  const story = new Story({ cpus: 3 }).answer(LOW, 'irq', oneNop).answer(NMI, 'nmi');
  arrives(story, 1200);
  story.on(2, function* () {
    yield* compute(225);
    yield* sendIpi(story.mask(0), NMI); // at 250, arrives at 1250
  });
  story.run();
  expect(story.notes).toEqual([
    'irq@0 begins 1300',
    'nmi@0 begins 1400',
    'nmi@0 ends 1400',
    `irq@0 ends ${1400 + 50 + 3}`,
  ]);
});

test('a CPU that halts goes on when the interrupt has returned', () => {
  const story = arrives(new Story().answer(LOW, 'irq', oneNop), 1200).on(0, function* () {
    for (;;) {
      yield* halt();
      story.note('woken');
    }
  });
  expect(story.run()).toMatchObject({ ended: true, interrupts: 1 });
  expect(story.notes).toEqual(['irq@0 begins 1300', 'irq@0 ends 1303', `woken ${1303 + 50 + 4}`]);
});

/** CPU 0 waits for x, which CPU 2 sets so that it is visible at `visible`; CPU 1 interrupts it. */
function interruptedWait(arrival: number, visible: number): readonly string[] {
  const story = new Story({ cpus: 3, model: 'sc' }).answer(LOW, 'irq', oneNop);
  const x = story.machine.cell('x', 0);
  arrives(story, arrival);
  story.on(0, function* () {
    yield* call(story.awaits(x));
    story.note('waited');
  });
  story.on(2, function* () {
    yield* compute(visible - NS.store);
    yield* writeOnce(x, 1);
  });
  story.run();
  return story.notes;
}
const LINE_AND_WAIT = NS.line + NS.wait;

test.each([
  ['before it', 3000, 2000, ['waited 2206', 'irq@0 begins 3100', 'irq@0 ends 3103']],
  ['while its line comes', 2100, 2000, ['waited 2206', 'irq@0 begins 2306', 'irq@0 ends 2309']],
  // The CPU has left at 2000: it comes back at 2153 to a wait that is over.
  ['on the way in', 2000, 2050, ['irq@0 begins 2100', 'irq@0 ends 2103', 'waited 2359']],
  ['in the handler', 2000, 2101, ['irq@0 begins 2100', 'irq@0 ends 2103', 'waited 2359']],
  ['after it', 2000, 2500, ['irq@0 begins 2100', 'irq@0 ends 2103', 'waited 2706']],
])('a wait that is interrupted, and ends %s', (_when, arrival, visible, notes) => {
  expect(LINE_AND_WAIT).toBe(206);
  expect(interruptedWait(arrival, visible)).toEqual(notes);
});

test('what a CPU waits for may come from its own handler', () => {
  const story = new Story();
  const x = story.machine.cell('x', 0);
  story.answer(LOW, 'irq', function* () {
    yield* writeOnce(x, 1);
  });
  arrives(story, 1200).on(0, function* () {
    yield* call(story.awaits(x));
    story.note('waited');
  });
  story.run();
  // 1300 + 7; the return waits for the drain, 20, and takes 50. The line is here.
  expect(story.notes).toEqual(['irq@0 begins 1300', 'irq@0 ends 1307', 'waited 1383']);
});

test('a handler that waits itself, on top of a wait', () => {
  const story = new Story({ cpus: 4, model: 'sc' });
  const [x, y] = [story.machine.cell('x', 0), story.machine.cell('y', 0)];
  story.answer(LOW, 'irq', () => story.awaits(y));
  arrives(story, 1200).on(0, function* () {
    yield* call(story.awaits(x));
    story.note('waited');
  });
  for (const [id, cell, at] of [
    [2, x, 1500],
    [3, y, 2000],
  ] as const)
    story.on(id, function* () {
      yield* compute(at - 7);
      yield* writeOnce(cell, 1);
    });
  story.run();
  // x comes while the handler waits for y; afterwards its line has to come.
  expect(story.notes).toEqual(['irq@0 begins 1300', 'irq@0 ends 2206', 'waited 2462']);
});

test('an interrupt that arrives while a fence waits for its stores waits with it', () => {
  const story = new Story().answer(LOW, 'irq');
  const x = story.machine.cell('x', 0);
  arrives(story, 1200).on(0, function* () {
    yield* compute(1190);
    yield* writeOnce(x, 1); // at 1197, visible at 1217
    yield* smpMb();
    story.note('fence');
  });
  story.run();
  expect(story.notes).toEqual(['irq@0 begins 1317', 'irq@0 ends 1317', `fence ${1317 + 50 + 11}`]);
});

test('a CPU that stores without end is interrupted all the same', () => {
  const story = new Story().answer(LOW, 'irq');
  const x = story.machine.cell('x', 0);
  let stores = 0;
  arrives(story, 1200).on(0, function* () {
    // One every 7 ns, visible 20 ns later: the store buffer is never empty by itself.
    for (; stores < 1000; stores++) yield* writeOnce(x, stores);
  });
  story.run();
  // The store of 1204 ends; it is visible at 1224.
  expect(story.notes).toEqual(['irq@0 begins 1324', 'irq@0 ends 1324']);
});

test('without the axiom that delivery drains, an interrupt waits for no store', () => {
  const story = new Story({ axioms: { deliveryDrains: false } }).answer(LOW, 'irq', oneNop);
  const x = story.machine.cell('x', 0);
  arrives(story, 1200).on(0, function* () {
    yield* compute(1190);
    yield* writeOnce(x, 1); // at 1197
    yield* compute(100);
    story.note('computed');
  });
  story.run();
  // The computation has done 3 of its 100.
  expect(story.notes).toEqual(['irq@0 begins 1300', 'irq@0 ends 1303', `computed ${1353 + 97}`]);
});

test('of two vectors the one that arrives first is taken first, though the other was sent first', () => {
  const story = new Story({ cpus: 4 }).answer(LOW, 'low').answer(HIGH, 'high');
  story.on(3, function* () {
    yield* sendIpi(story.mask(0), HIGH); // at 25, arrives at 3025
  });
  story.on(1, function* () {
    yield* compute(100);
    yield* sendIpi(story.mask(0), LOW); // at 125, arrives at 1125
  });
  story.run({ cpusPerSocket: 2 });
  expect(story.notes).toEqual([
    'low@0 begins 1225',
    'low@0 ends 1225',
    'high@0 begins 3125',
    'high@0 ends 3125',
  ]);
});

test('of two vectors that are both there the higher is taken first', () => {
  const story = new Story().answer(LOW, 'low').answer(HIGH, 'high');
  story.on(0, function* () {
    yield* localIrqDisable();
    yield* compute(2000);
    yield* localIrqEnable();
  });
  story.on(1, function* () {
    yield* sendIpi(story.mask(0), LOW);
    yield* sendIpi(story.mask(0), HIGH);
  });
  story.run();
  expect(story.notes).toEqual([
    `high@0 begins ${2 + 2000 + 2 + 100}`,
    'high@0 ends 2104',
    `low@0 begins ${2104 + 50 + 100}`,
    'low@0 ends 2254',
  ]);
});

test('a vector that is sent twice is one interrupt, there with the first that arrives', () => {
  const story = new Story({ cpus: 4 }).answer(LOW, 'irq');
  story.on(3, function* () {
    yield* sendIpi(story.mask(0), LOW); // at 25, arrives at 3025
  });
  story.on(1, function* () {
    yield* compute(100);
    yield* sendIpi(story.mask(0), LOW); // at 125, arrives at 1125
  });
  expect(story.run({ cpusPerSocket: 2 }).interrupts).toBe(1);
  expect(story.notes).toEqual(['irq@0 begins 1225', 'irq@0 ends 1225']);
});

test('a vector that was there before the run is there at its beginning', () => {
  const story = new Story().answer(LOW, 'irq');
  story.machine.cpu(0).arrive(LOW);
  story.on(0, function* () {
    yield* localIrqDisable();
    yield* compute(100);
    yield* localIrqEnable();
  });
  story.on(1, function* () {
    yield* sendIpi(story.mask(0), LOW); // arrives at 1025, as the same interrupt
  });
  story.run();
  // It goes first, before anything has run.
  expect(story.notes).toEqual(['irq@0 begins 100', 'irq@0 ends 100']);
});

test('a CPU interrupts itself, and a handler somebody else', () => {
  const story = new Story().answer(HIGH, 'high');
  story.answer(LOW, 'low', function* () {
    yield* sendIpi(story.mask(1), HIGH);
  });
  story.on(0, function* () {
    yield* sendIpi(story.mask(0), LOW);
    yield* compute(5000);
    story.note('computed');
  });
  story.run();
  expect(story.notes).toEqual([
    'low@0 begins 1125',
    'low@0 ends 1150',
    `high@1 begins ${1150 + 1000 + 100}`,
    'high@1 ends 2250',
    `computed ${25 + 5000 + 100 + 25 + 50}`,
  ]);
});

test('an asynchronous call holds nobody up but the next call to the same CPU', () => {
  const story = new Story();
  const calls = new CallQueues(story.machine, 252, {
    entered: () => story.note('entered'),
  });
  const CALL = { csdLock: 1, csdFill: 4, csdEnqueue: 20, csdTake: 8, csdUnlock: 1 };
  const run = { name: 'f', run: nothing };
  story.on(0, function* () {
    yield* call(calls.post(story.mask(1), run, undefined, false));
    story.note('posted'); // 1 + 4 + 20 drain + 20 + 25
    yield* call(calls.post(story.mask(1), run, undefined, false));
    story.note('posted again');
  });
  story.run();
  const taken = 70 + 1000 + 100 + CALL.csdTake + NS.line;
  const unlocked = taken + CALL.csdUnlock + NS.line;
  const locked = unlocked + NS.storeDrain + CALL.csdLock + NS.line;
  // The queue's line is with the target, the lock's is here.
  const again = locked + CALL.csdFill + NS.storeDrain + CALL.csdEnqueue + NS.line + NS.sendIpi;
  expect(story.notes.slice(0, 3)).toEqual([
    'posted 70',
    // An asynchronous call is unlocked before its function runs.
    `entered ${unlocked}`,
    `posted again ${again}`,
  ]);
});

/** Timers, and user code that spins. */
import { armTimer, call, CallQueues, compute, nop, userSpin, writeOnce } from '@shootdown/machine';
import { expect, test } from 'vitest';
import { LOW, nothing, NS, Story } from './clock.testlib.ts';

test('a timer comes when it was armed for, the earlier of two', () => {
  const story = new Story();
  story.machine.onInterrupt(LOW, function* () {
    story.note('timer');
    yield* nop();
  });
  story.on(0, function* () {
    yield* armTimer(LOW, 9000);
    yield* armTimer(LOW, 3000);
    yield* compute(20_000);
    story.note('computed');
  });
  story.run({ costs: { armTimer: { ns: 10, source: 'a test' } } });
  // Armed for the second time at 20.
  expect(story.notes[0]).toBe(`timer ${20 + 3000 + NS.irqEntry}`);
});

test('user code that spins is interrupted where it is and goes on', () => {
  const story = new Story();
  const stop = story.machine.cell('stop', false);
  const calls = new CallQueues(story.machine, 252);
  const run = { name: 'f', run: nothing };
  story.on(1, function* () {
    yield* userSpin(stop, (set) => set);
    story.note('stopped');
  });
  story.on(0, function* () {
    yield* call(calls.callAndWait(story.mask(1), run, undefined));
    story.note('called');
    yield* writeOnce(stop, true);
  });
  story.run();
  expect(story.notes.map((note) => note.split(' ')[0])).toEqual(['called', 'stopped']);
});

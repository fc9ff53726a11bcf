/** Times of Ops, store buffers, cache lines, waits and walks, derived by hand. */
import {
  atomicFetchAdd,
  call,
  compute,
  type Coroutine,
  everything,
  invlpg,
  invlpgb,
  makePte,
  newTask,
  nop,
  Op,
  type OpKind,
  Pte,
  readOnce,
  sendIpi,
  smpMb,
  switchTo,
  tlbsync,
  userLoad,
  userStore,
  virtAddr,
  waitForAll,
  writeOnce,
  xchg,
} from '@shootdown/machine';
import { expect, test } from 'vitest';
import { LOW, NS, Story } from './clock.testlib.ts';

test('the Ops of one CPU follow each other', () => {
  const story = new Story();
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    yield* nop();
    story.note('nop');
    yield* readOnce(x);
    story.note('load');
    yield* compute(1000);
    story.note('compute');
  });
  expect(story.run()).toEqual({ timeNs: 3 + 5 + 1000, ops: 3, interrupts: 0, ended: true });
  expect(story.notes).toEqual(['nop 3', 'load 8', 'compute 1008']);
});

test('a fence waits until the stores before it are visible', () => {
  const story = new Story();
  const x = story.machine.cell('x', 0);
  const y = story.machine.cell('y', 0);
  story.on(0, function* () {
    yield* writeOnce(x, 1);
    story.note('one store'); // 7, visible at 7 + 20 = 27
    yield* writeOnce(y, 1);
    story.note('two stores'); // 14, visible at 34
    yield* smpMb();
    story.note('fence'); // 34 + 11
    yield* smpMb();
    story.note('fence without stores'); // 45 + 11
  });
  story.run();
  expect(story.notes).toEqual([
    'one store 7',
    'two stores 14',
    'fence 45',
    'fence without stores 56',
  ]);
});

test('however short the way into a handler is, it begins after the stores are visible', () => {
  const story = new Story().answer(LOW, 'irq');
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    yield* compute(1190);
    yield* writeOnce(x, 1); // at 1197, visible at 1217
    yield* nop(); // until 1200
  });
  story.on(1, function* () {
    yield* compute(175);
    yield* sendIpi(story.mask(0), LOW); // at 200, arrives at 1200
  });
  story.run({ costs: { irqEntry: { ns: 5, source: 'a test' } } });
  expect(story.notes).toEqual(['irq@0 begins 1222', 'irq@0 ends 1222']);
});

test('under sequential consistency a store is visible at once, and a fence waits for nothing', () => {
  const story = new Story({ model: 'sc' });
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    yield* writeOnce(x, 1);
    yield* smpMb();
    story.note('fence'); // 7 + 11
  });
  story.run();
  expect(story.notes).toEqual(['fence 18']);
});

test.each([
  ['near', 2, NS.line],
  ['far', 1, NS.lineFar],
])('a locked instruction waits for the cache line of a %s CPU, then has it', (_w, other, line) => {
  const story = new Story({ cpus: 4 });
  const x = story.machine.cell('x', 0);
  story.on(other, function* () {
    yield* atomicFetchAdd(x, 1); // nobody had the line before
    story.note('there');
  });
  story.on(3, function* () {
    yield* compute(1000);
    for (const what of ['here', 'again']) {
      yield* atomicFetchAdd(x, 1);
      story.note(what);
    }
  });
  story.run({ cpusPerSocket: 2 });
  const here = 1000 + line + 13;
  expect(story.notes).toEqual(['there 13', `here ${here}`, `again ${here + 13}`]);
});

test('a cache line that is taken away while an Op runs has to come again, once', () => {
  const story = new Story({ cpus: 3 });
  const x = story.machine.cell('x', 0);
  for (const id of [0, 1, 2])
    story.on(id, function* () {
      yield* atomicFetchAdd(x, 1);
      story.note(`CPU ${id}`);
    });
  story.run();
  // All begin at 0; CPU 0 has it first. The others get it from there: 13 + 200, both at once, since
  // queueing for a line is not modelled.
  expect(story.notes).toEqual(['CPU 0 13', 'CPU 1 213', 'CPU 2 213']);
});

test('what an Op costs is settled when it begins, whatever is sent to its CPU meanwhile', () => {
  const story = new Story({ cpus: 3 }).answer(LOW, 'irq');
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    yield* compute(1000);
    yield* xchg(x, 2); // from 1000, the line comes from CPU 1: until 1213
    story.note('xchg');
  });
  story.on(1, function* () {
    yield* xchg(x, 1);
    yield* compute(1062);
    yield* sendIpi(story.mask(0), LOW); // at 13 + 1062 + 25 = 1100, arrives at 2100
  });
  story.run();
  expect(story.notes).toEqual(['xchg 1213', 'irq@0 begins 2200', 'irq@0 ends 2200']);
});

test('a wait ends when the store is visible and its line has come', () => {
  const story = new Story();
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    yield* compute(100);
    story.note(`x = ${yield* call(story.awaits(x))}`);
    story.note(`x = ${yield* call(story.awaits(x))}`);
  });
  story.on(1, function* () {
    yield* compute(1000);
    yield* writeOnce(x, 5);
    story.note('store');
  });
  story.run();
  // Visible at 1007 + 20, then the line and the wait's own cost; after that the line is here.
  expect(story.notes).toEqual([
    'store 1007',
    `x = 5 ${1027 + NS.line + NS.wait}`,
    `x = 5 ${1027 + NS.line + NS.wait + NS.wait}`,
  ]);
});

test('a wait that is over before it begins costs only itself', () => {
  const story = new Story();
  const x = story.machine.cell('x', 1);
  story.on(0, function* () {
    yield* call(story.awaits(x));
    story.note('waited');
  });
  story.run();
  expect(story.notes).toEqual(['waited 6']);
});

test('a wait whose end is undone before the line has come goes on', () => {
  const story = new Story({ model: 'sc' });
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    story.note(`x = ${yield* call(story.awaits(x))}`);
  });
  story.on(1, function* () {
    yield* writeOnce(x, 1); // visible at 7: the line comes at 7 + 200 + 6 = 213
    yield* compute(86);
    yield* writeOnce(x, 0); // at 100: what the waiter reads at 213
    yield* compute(393);
    yield* writeOnce(x, 2); // at 500
  });
  story.run();
  expect(story.notes).toEqual([`x = 2 ${500 + 200 + 6}`]);
});

test('a wait for several cells looks at all of them at one moment', () => {
  const story = new Story({ cpus: 3, model: 'sc' });
  const cells = ['a', 'b'].map((name) => story.machine.cell(name, 0));
  story.on(0, function* () {
    yield* waitForAll(cells, (value) => value === 1);
    story.note('both');
  });
  for (const [index, cell] of cells.entries())
    story.on(index + 1, function* () {
      yield* compute(300 * (index + 1) - 7);
      yield* writeOnce(cell, 1);
    });
  story.run();
  // b at 600; the line that is charged is that of a.
  expect(story.notes).toEqual([`both ${600 + 200 + 6}`]);
});

const PAGE = Pte.present | Pte.write | Pte.user;

/** A story whose CPUs use one page table that maps one page. */
function paged(): Story {
  const story = new Story({ frames: 16 });
  const { physical, cpus } = story.machine;
  for (const frame of [1, 2, 3, 4]) physical.write(frame * 4096, makePte(frame + 1, PAGE));
  for (const cpu of cpus) cpu.root = 1;
  return story;
}
const VA = virtAddr(0);

test('a walk charges every word it reads, and a TLB hit reads none', () => {
  const story = paged();
  story.on(0, function* () {
    yield* userLoad(VA); // 8, then 4 words of 30
    yield* nop();
    story.note('walked'); // 8 + 120 + 3
    yield* userLoad(VA);
    story.note('hit'); // + 8
    yield* invlpg(VA);
    yield* userLoad(VA);
    yield* nop();
    story.note('walked again'); // + 90 + 8 + 120 + 3
  });
  story.run();
  expect(story.notes).toEqual(['walked 131', 'hit 139', 'walked again 360']);
});

test('a store through a translation is visible a drain after its walk', () => {
  const story = paged();
  story.on(0, function* () {
    yield* userStore(VA, 1);
    yield* smpMb();
    story.note('fence');
  });
  story.run();
  expect(story.notes).toEqual([`fence ${8 + 4 * 30 + 20 + 11}`]);
});

test('a broadcast invalidation is done everywhere when tlbsync has paid for it', () => {
  const story = paged();
  story.on(0, function* () {
    yield* compute(1000);
    yield* invlpgb(everything(true));
    yield* tlbsync();
    story.note('synced'); // 1000 + 40 + 160
  });
  story.on(1, function* () {
    yield* userLoad(VA);
    yield* compute(1000);
    yield* userLoad(VA); // walks again: 8 + 4 * 30
    yield* nop();
    story.note('walked');
  });
  story.run();
  expect(story.notes).toEqual(['synced 1200', `walked ${128 + 1000 + 128 + 3}`]);
});

test('tlbsync waits for a store that went through a translation elsewhere', () => {
  const story = paged();
  story.on(0, function* () {
    yield* compute(90);
    yield* invlpgb(everything(true)); // sent at 130
    yield* tlbsync();
    story.note('synced');
  });
  story.on(1, function* () {
    yield* userStore(VA, 1); // 8 + 120, visible at 148
  });
  story.run();
  expect(story.notes).toEqual([`synced ${148 + NS.tlbsync}`]);
});

test('a computation that was interrupted goes on on another CPU with what is left of it', () => {
  const story = new Story();
  const { machine } = story;
  const free = machine.cell('free', 0);
  const computing = function* (): Coroutine {
    yield* compute(5000);
    story.note(`computed on CPU ${machine.current?.id}`);
  };
  const task = newTask('computing', null, computing());
  const { idle } = machine.cpu(0);
  story.answer(LOW, 'irq', function* () {
    yield* writeOnce(free, 1);
    yield* smpMb();
    yield* switchTo(idle);
  });
  story.on(0, function* () {
    yield* switchTo(task); // at 100, when the computation begins
  });
  story.on(1, function* () {
    yield* sendIpi(story.mask(0), LOW); // at 25, arrives at 1025: 4075 are left
    yield* call(story.awaits(free)); // visible at 1125 + 7 + 20; 200 + 6 later at 1358
    yield* switchTo(task);
  });
  story.run({ costs: { switchTo: { ns: 100, source: 'a test' } } });
  // CPU 1 has it from 1458 on, in the handler, and returns from that.
  expect(story.notes).toEqual([
    'irq@0 begins 1125',
    'irq@1 ends 1458',
    `computed on CPU 1 ${1458 + 50 + 4075}`,
  ]);
});

test('an Op that only its own package knows is asked again after every event', () => {
  const story = new Story({ cpus: 3 });
  let open = false;
  const kind: OpKind = {
    name: 'doorbell',
    ready: () => open,
    touch: () => undefined,
    execute: () => undefined,
  };
  const x = story.machine.cell('x', 0);
  story.on(0, function* () {
    yield* writeOnce(x, 1); // its buffer is not empty when the wait begins
    yield* new Op<void>(kind, null, -1, null);
    story.note('rung');
  });
  story.on(1, function* () {
    yield* compute(300);
    open = true;
    yield* compute(1000);
  });
  story.run({ costs: { doorbell: { ns: 9, source: 'a test' } } });
  expect(story.notes).toEqual(['rung 309']);
});

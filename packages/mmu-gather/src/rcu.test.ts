/** Grace periods: who is waited for, and who is not. */
import {
  call,
  type Cell,
  compute,
  localIrqRestore,
  localIrqSave,
  nop,
  waitUntil,
  writeOnce,
} from '@shootdown/machine';
import fc from 'fast-check';
import { randomScheduler, schedule } from '@shootdown/sim';
import { describe, expect, test } from 'vitest';
import type { Kernel, Kthread } from './kernel.ts';
import { onCpu, runAll, testKernel } from './kernel.testlib.ts';
import {
  callRcu,
  rcuBarrier,
  rcuCore,
  rcuReadLock,
  rcuReadUnlock,
  synchronizeRcu,
} from './kernel/rcu.ts';
import { startCpus } from './kernel/sched.ts';

type Section = 'irqs off' | 'rcu_read_lock';
const SECTIONS: readonly Section[] = ['irqs off', 'rcu_read_lock'];

/** Readers and what waits for them, and in which order things happened. */
class Story {
  readonly k: Kernel = testKernel();
  readonly log: string[] = [];
  private readonly flags = new Map<string, Cell<boolean>>();

  private flag(name: string): Cell<boolean> {
    const flag = this.flags.get(name) ?? this.k.machine.cell(name, false);
    this.flags.set(name, flag);
    return flag;
  }

  /** It has happened: for the log, and for who waits for it. */
  *did(what: string): Kthread {
    this.log.push(what);
    yield* writeOnce(this.flag(what), true);
  }

  *after(what: string): Kthread {
    yield* waitUntil(this.flag(what), (set) => set);
  }

  /** A read-side section of `ns` on the CPU that runs. */
  *section(kind: Section, name: string, ns: number): Kthread {
    const { k } = this;
    const flags = kind === 'irqs off' ? yield* localIrqSave() : null;
    if (flags === null) yield* rcuReadLock(k);
    yield* call(this.did(`${name} begins`));
    yield* compute(ns);
    this.log.push(`${name} ends`);
    if (flags === null) yield* rcuReadUnlock(k);
    else yield* localIrqRestore(flags);
  }

  on(cpu: number, body: () => Kthread): void {
    onCpu(this.k, cpu, body);
  }

  /** Runs it; the machinery of grace periods takes `gracePeriodNs` beside the readers. */
  run(gracePeriodNs = 0): readonly string[] {
    const cost = { ns: gracePeriodNs, source: 'a test' };
    runAll(this.k, { costs: { rcuGracePeriod: cost } });
    return this.log;
  }
}

describe('synchronize_rcu()', () => {
  test.each(SECTIONS)('waits for a section that began before: %s', (kind) => {
    const story = new Story();
    story.on(1, () => story.section(kind, 'A', 1000));
    story.on(0, function* () {
      yield* call(story.after('A begins'));
      story.log.push('asked');
      yield* call(synchronizeRcu(story.k));
      story.log.push('waited');
    });
    expect(story.run()).toEqual(['A begins', 'asked', 'A ends', 'waited']);
  });

  test.each(SECTIONS)('waits for sections of several CPUs: %s', (kind) => {
    const story = new Story();
    for (const [cpu, name, ns] of [
      [1, 'A', 3000],
      [2, 'B', 1000],
      [3, 'C', 2000],
    ] as const)
      story.on(cpu, () => story.section(kind, name, ns));
    story.on(0, function* () {
      for (const name of ['A', 'B', 'C']) yield* call(story.after(`${name} begins`));
      yield* call(synchronizeRcu(story.k));
      story.log.push('waited');
    });
    expect(story.run().slice(3)).toEqual(['B ends', 'C ends', 'A ends', 'waited']);
  });

  test.each(SECTIONS)(
    'does not wait for a section that began after it, there or elsewhere: %s',
    (kind) => {
      const story = new Story();
      story.on(1, function* () {
        yield* call(story.section(kind, 'A', 1000));
        yield* compute(100);
        yield* call(story.section(kind, 'same CPU', 5000));
      });
      story.on(2, function* () {
        yield* call(story.after('asked'));
        yield* compute(300);
        yield* call(story.section(kind, 'other CPU', 5000));
      });
      story.on(0, function* () {
        yield* call(story.after('A begins'));
        yield* call(story.did('asked'));
        yield* call(synchronizeRcu(story.k));
        story.log.push('waited');
      });
      expect(story.run()).toEqual([
        'A begins',
        'asked',
        'other CPU begins',
        'A ends',
        'waited',
        'same CPU begins',
        'other CPU ends',
        'same CPU ends',
      ]);
    },
  );

  test('takes what its machinery takes, also without readers', () => {
    const story = new Story();
    const ended: number[] = [];
    story.on(0, function* () {
      yield* call(synchronizeRcu(story.k));
      ended.push(story.k.machine.time);
    });
    story.run(5_000_000);
    expect(ended[0]).toBeGreaterThan(5_000_000);
    expect(ended[0]).toBeLessThan(5_001_000);
  });
});

describe('call_rcu()', () => {
  test.each(SECTIONS)('runs its callback once, after a section that began before: %s', (kind) => {
    const story = new Story();
    const { k } = story;
    story.on(1, function* () {
      yield* call(story.section(kind, 'A', 1000));
      yield* call(story.did('over'));
    });
    story.on(0, function* () {
      yield* call(story.after('A begins'));
      yield* call(callRcu(k, () => story.did('callback')));
      for (const look of ['at once', 'again']) {
        yield* call(rcuCore(k));
        story.log.push(`looked ${look}`);
      }
      yield* call(story.after('over'));
      // Until the other one idles: it switches tasks with interrupts off.
      yield* compute(1000);
      for (let look = 0; look < 3; look++) yield* call(rcuCore(k));
    });
    expect(story.run()).toEqual([
      'A begins',
      'looked at once',
      'looked again',
      'A ends',
      'over',
      'callback',
    ]);
  });

  test('does not wait for a CPU that was seen quiet since', () => {
    const story = new Story();
    const { k } = story;
    story.on(1, () => story.section('irqs off', 'A', 1000));
    story.on(2, function* () {
      yield* call(story.after('looked'));
      yield* call(story.section('irqs off', 'later', 5000));
    });
    story.on(0, function* () {
      yield* call(story.after('A begins'));
      yield* call(callRcu(k, () => story.did('callback')));
      yield* call(rcuCore(k));
      yield* call(story.did('looked'));
      yield* compute(2000);
      yield* call(rcuCore(k));
    });
    const order = ['A begins', 'looked', 'later begins', 'A ends', 'callback', 'later ends'];
    expect(story.run()).toEqual(order);
  });

  test('callbacks run in the order in which they were queued, also of later grace periods', () => {
    const story = new Story();
    const { k } = story;
    story.on(1, () => story.section('irqs off', 'A', 1000));
    story.on(0, function* () {
      yield* call(callRcu(k, () => story.did('one')));
      yield* call(callRcu(k, () => story.did('two')));
      yield* call(story.after('A begins'));
      // Somebody has been seen quiet: what comes now waits for a grace period of its own.
      yield* call(rcuCore(k));
      yield* call(callRcu(k, () => story.did('three')));
      yield* call(rcuBarrier(k));
    });
    expect(story.run()).toEqual(['A begins', 'A ends', 'one', 'two', 'three']);
  });

  test('a CPU runs its own callbacks and nobody else’s', () => {
    const story = new Story();
    const { k } = story;
    story.on(0, function* () {
      yield* call(callRcu(k, () => story.did('callback of 0')));
      yield* call(story.did('queued'));
      yield* call(story.after('looked'));
      yield* compute(1000);
      yield* call(rcuCore(k));
    });
    story.on(1, function* () {
      yield* call(story.after('queued'));
      yield* call(rcuCore(k));
      yield* call(rcuBarrier(k));
      yield* call(story.did('looked'));
    });
    expect(story.run()).toEqual(['queued', 'looked', 'callback of 0']);
  });
});

describe('rcu_barrier()', () => {
  test('has its callbacks run although a CPU that it waited for reads again by then', () => {
    const story = new Story();
    const { k } = story;
    story.on(1, function* () {
      yield* call(story.section('irqs off', 'A', 1000));
      yield* compute(50);
      yield* call(story.section('irqs off', 'again', 50_000));
    });
    story.on(2, () => story.section('irqs off', 'B', 5000));
    story.on(0, function* () {
      yield* call(story.after('A begins'));
      yield* call(story.after('B begins'));
      yield* call(callRcu(k, () => story.did('callback')));
      yield* call(rcuBarrier(k));
      story.log.push('all run');
    });
    expect(story.run().slice(2)).toEqual([
      'A ends',
      'again begins',
      'B ends',
      'callback',
      'all run',
      'again ends',
    ]);
  });

  test('without callbacks waits for nobody', () => {
    const story = new Story();
    story.on(1, () => story.section('irqs off', 'A', 1000));
    story.on(0, function* () {
      yield* call(story.after('A begins'));
      yield* call(rcuBarrier(story.k));
      story.log.push('all run');
    });
    expect(story.run()).toEqual(['A begins', 'all run', 'A ends']);
  });
});

/** A read-side section in the log of a random run. */
interface Span {
  readonly begun: number;
  ended: number;
}

test('no callback and no synchronize_rcu() ends before a section that had begun', () => {
  const kinds = fc.array(fc.constantFrom(...SECTIONS), { minLength: 1, maxLength: 4 });
  let overlapping = 0;
  fc.assert(
    fc.property(kinds, kinds, fc.integer({ min: 1, max: 1_000_000 }), (one, other, seed) => {
      const k = testKernel({ cpus: 3 });
      const spans: Span[] = [];
      const runs = [0, 0, 0, 0];
      let clock = 0;
      /** What is open now has to have ended when `check` runs. */
      const expectEnded = (): (() => void) => {
        const open = spans.filter(({ ended }) => ended === 0);
        overlapping += open.length;
        return () => expect(open.filter(({ ended }) => ended === 0)).toEqual([]);
      };
      for (const [index, sections] of [one, other].entries())
        onCpu(k, index + 1, function* () {
          for (const kind of sections) {
            const flags = kind === 'irqs off' ? yield* localIrqSave() : null;
            if (flags === null) yield* rcuReadLock(k);
            const span: Span = { begun: ++clock, ended: 0 };
            spans.push(span);
            for (let step = 0; step < 6; step++) yield* nop();
            span.ended = ++clock;
            if (flags === null) yield* rcuReadUnlock(k);
            else yield* localIrqRestore(flags);
            yield* nop();
          }
        });
      onCpu(k, 0, function* () {
        for (const id of runs.keys()) {
          const check = expectEnded();
          yield* call(
            callRcu(k, function* () {
              yield* nop();
              check();
              runs[id] = (runs[id] ?? 0) + 1;
            }),
          );
          yield* call(rcuCore(k));
          if (id % 2 === 0) continue;
          const waited = expectEnded();
          yield* call(synchronizeRcu(k));
          waited();
        }
        yield* call(rcuBarrier(k));
      });
      startCpus(k);
      schedule(k.machine, randomScheduler(seed));
      expect(runs).toEqual([1, 1, 1, 1]);
    }),
    { numRuns: 150 },
  );
  expect(overlapping).toBeGreaterThan(100);
});

/** Tasks and the CPUs they run on: lazy TLB, sleeping and waking, moving, and who keeps an mm. */
import { call, compute, nop, readOnce, writeOnce } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import { type MmKernel, newProcess, type User } from '@shootdown/linux-mm';
import fc from 'fast-check';
import { randomScheduler, schedule as scheduleMachine } from '@shootdown/sim';
import { describe, expect, test } from 'vitest';
import type { Kernel, Kthread } from './kernel.ts';
import {
  BASE,
  bytes,
  emptyMm,
  kernelTask,
  onCpu,
  runAll,
  runProgram,
  testKernel,
} from './kernel.testlib.ts';
import { currentTask, perCpu, smpProcessorId } from './kernel/percpu.ts';
import {
  finishWait,
  moveTo,
  prepareToSleep,
  schedule,
  schedYield,
  startCpus,
  wakeUp,
} from './kernel/sched.ts';
import { complete, completion, type Completion, waitForCompletion } from './kernel/wait.ts';
import type { MmStruct } from './mmStruct.ts';
import type { Release } from './rules.ts';

/** A kernel whose backend tells what it is asked to load: `1 loads mm3`, `1 is lazy`. */
function toldKernel(kernel?: Release): { readonly k: MmKernel; readonly log: string[] } {
  const log: string[] = [];
  const backend = native();
  const k = testKernel({
    kernel,
    backend: {
      ...backend,
      switchMm(of, cpu, next) {
        log.push(`${cpu} loads ${next.name}`);
        return backend.switchMm(of, cpu, next);
      },
      enterLazyTlb(of, cpu) {
        log.push(`${cpu} is lazy`);
        return backend.enterLazyTlb(of, cpu);
      },
    },
  });
  return { k, log };
}

describe('lazy TLB', () => {
  test('an idle CPU borrows what it has loaded, stays in mm_cpumask, and loads it again', () => {
    const { k, log } = toldKernel();
    let members: readonly number[] = [];
    let name = '';
    runProgram(k, function* (user) {
      ({ name } = user.mm);
      const go = completion(k.machine, 'go');
      const helper = yield* call(user.thread(1, (other) => other.waitFor(go, 1)));
      yield* call(user.compute(100_000));
      const { current, idle } = perCpu(k, 1);
      expect(current).toBe(idle);
      expect(idle.activeMm).toBe(user.mm);
      members = user.mm.cpumask.value.members();
      yield* call(user.signal(go));
      yield* call(user.join(helper));
    });
    expect(members).toEqual([0, 1]);
    // Idle; awake; exit, and idle again.
    const first = log.filter((line) => line.startsWith('1')).slice(0, 5);
    expect(first).toEqual([
      `1 loads ${name}`,
      '1 is lazy',
      `1 loads ${name}`,
      '1 is lazy',
      '1 is lazy',
    ]);
  });

  test('a kernel thread borrows it too, and what it borrowed is kept for it', () => {
    const { k, log } = toldKernel();
    const mm = emptyMm(k);
    const borrowed: (string | undefined)[] = [];
    onCpu(k, 0, () => schedYield(k), mm);
    onCpu(k, 0, function* (task) {
      borrowed.push(task.mm?.name, task.activeMm?.name);
      yield* nop();
    });
    runAll(k);
    expect(borrowed).toEqual([undefined, mm.name]);
    // To the kernel thread, back to the user thread, to idle.
    expect(log).toEqual([`0 loads ${mm.name}`, '0 is lazy', `0 loads ${mm.name}`, '0 is lazy']);
  });
});

describe('sleeping and waking', () => {
  test('who waits longest is woken first', () => {
    const k = testKernel();
    const go = completion(k.machine, 'go');
    const order: number[] = [];
    for (const id of [1, 2, 3])
      onCpu(k, 1, function* () {
        yield* call(waitForCompletion(k, go, 1));
        order.push(id);
      });
    onCpu(k, 0, function* () {
      yield* compute(50_000);
      expect(order).toEqual([]);
      yield* call(complete(k, go));
    });
    runAll(k);
    expect(order).toEqual([1, 2, 3]);
  });

  test('sleepers wake when their time has come', () => {
    const k = testKernel();
    const order: string[] = [];
    runProgram(k, function* (user) {
      const sleepers = [];
      for (const ns of [30_000, 10_000, 20_000])
        sleepers.push(
          yield* call(
            user.thread(1, function* (other) {
              const until = k.machine.time + ns;
              yield* call(other.nanosleep(ns));
              order.push(`${ns} ${k.machine.time >= until ? 'slept' : 'woke early'}`);
            }),
          ),
        );
      for (const sleeper of sleepers) yield* call(user.join(sleeper));
    });
    expect(order).toEqual(['10000 slept', '20000 slept', '30000 slept']);
  });

  test('who is woken takes the CPU from user mode', () => {
    const k = testKernel();
    const flag = k.machine.cell('flag', false);
    // If it did not, the first thread would spin for ever.
    const run = runProgram(k, function* (user) {
      const spinner = yield* call(user.thread(1, (other) => other.spin(flag)));
      yield* call(user.compute(20_000));
      const setter = yield* call(user.thread(1, (other) => other.set(flag)));
      yield* call(user.join(setter));
      yield* call(user.join(spinner));
    });
    expect(run.ended).toBe(true);
  });

  test('who is woken waits for the kernel to be done', () => {
    const k = testKernel();
    const order: string[] = [];
    const woken = kernelTask(k, 1, function* () {
      order.push('woken');
      yield* nop();
    });
    onCpu(k, 1, function* () {
      order.push('begins');
      yield* compute(50_000);
      order.push('ends');
    });
    onCpu(k, 0, function* () {
      yield* compute(10_000);
      order.push('wakes');
      yield* call(wakeUp(k, woken));
    });
    runAll(k);
    expect(order).toEqual(['begins', 'wakes', 'ends', 'woken']);
  });

  test('a task that is woken twice is queued once, and one that runs not at all', () => {
    const k = testKernel();
    let runs = 0;
    const task = kernelTask(k, 1, function* () {
      runs++;
      yield* call(wakeUp(k, currentTask(k)));
      expect(perCpu(k, 1).rq.value.queue).toEqual([]);
    });
    onCpu(k, 0, function* () {
      yield* call(wakeUp(k, task));
      yield* call(wakeUp(k, task));
    });
    runAll(k);
    expect(runs).toBe(1);
  });
});

describe('no wake-up is lost', () => {
  type Wait = (k: Kernel, of: Completion, times: number) => Kthread;

  /** Whether all waiters end, under the schedule of `seed`. */
  function allWoken(seed: number, wait: Wait): boolean {
    const k = testKernel({ cpus: 3 });
    const done = completion(k.machine, 'done');
    let ended = 0;
    for (const [cpu, times] of [
      [1, 1],
      [1, 2],
      [2, 2],
    ] as const)
      onCpu(k, cpu, function* () {
        yield* call(wait(k, done, times));
        ended++;
      });
    onCpu(k, 0, () => complete(k, done));
    onCpu(k, 0, () => complete(k, done));
    startCpus(k);
    scheduleMachine(k.machine, randomScheduler(seed));
    return ended === 3;
  }

  test('however complete() and wait_for_completion() meet', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000_000 }), (seed) => {
        expect(allWoken(seed, waitForCompletion)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test('but by who looks first and announces itself then', () => {
    const careless: Wait = function* (k, { done, waiters }, times) {
      const task = currentTask(k);
      yield* writeOnce(waiters, [...waiters.value, task]);
      while ((yield* readOnce(done)) < times) {
        yield* call(prepareToSleep(k));
        yield* call(schedule(k));
      }
      yield* call(finishWait(k));
    };
    const seeds = Array.from({ length: 300 }, (_, seed) => seed + 1);
    expect(seeds.filter((seed) => !allWoken(seed, careless)).length).toBeGreaterThan(0);
  });
});

describe('moving to another CPU', () => {
  test('goes on there, and the next one runs here', () => {
    const { k, log } = toldKernel();
    const mm = emptyMm(k);
    const where: string[] = [];
    const here = (who: string): number => where.push(`${who} on ${smpProcessorId(k)}`);
    onCpu(
      k,
      0,
      function* (task) {
        here('mover');
        yield* call(moveTo(k, 2));
        here('mover');
        expect([task.cpu, perCpu(k, 2).current]).toEqual([2, task]);
        yield* call(moveTo(k, 2));
        here('mover');
      },
      mm,
    );
    onCpu(k, 0, function* () {
      here('other');
      yield* nop();
    });
    runAll(k);
    expect(where.toSorted()).toEqual(['mover on 0', 'mover on 2', 'mover on 2', 'other on 0']);
    expect(log).toContain(`2 loads ${mm.name}`);
    // CPU 0 has left it lazily, so it is in the mask still.
    expect(mm.cpumask.value.members()).toEqual([0, 2]);
  });

  test('a wake-up finds it wherever it is', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000_000 }), (seed) => {
        const k = testKernel({ cpus: 3 });
        const done = completion(k.machine, 'done');
        const visited: number[] = [];
        onCpu(k, 0, function* () {
          for (const [times, cpu] of [1, 2, 0, 1].entries()) {
            yield* call(moveTo(k, cpu));
            yield* call(waitForCompletion(k, done, times));
            visited.push(smpProcessorId(k));
          }
        });
        onCpu(k, 2, function* () {
          for (let times = 0; times < 3; times++) yield* call(complete(k, done));
        });
        startCpus(k);
        scheduleMachine(k.machine, randomScheduler(seed));
        expect(visited).toEqual([1, 2, 0, 1]);
      }),
      { numRuns: 200 },
    );
  });
});

describe('mm_count: a root table stays as long as somebody has it loaded', () => {
  const exists = (k: Kernel, mm: MmStruct): boolean => k.pages.pages.get(mm.pgd) !== undefined;
  const touch = function* (user: User): Kthread {
    yield* call(user.mmap({ addr: BASE, length: bytes(1) }));
    yield* call(user.touch(BASE, 1));
  };
  /** Looks on CPU `cpu` as a kernel thread, or in an address space of its own. */
  function look(k: MmKernel, cpu: number, mm: MmStruct, log: string[], own: boolean): void {
    const body = function* (): Kthread {
      log.push(`${own ? 'user' : 'kernel'} on ${cpu}: ${exists(k, mm) ? mm.count.value : 'freed'}`);
      yield* nop();
    };
    onCpu(k, cpu, body, own ? emptyMm(k) : null);
  }

  test('freed when the CPU that exited loads another one', () => {
    const k = testKernel();
    const mm = emptyMm(k);
    const log: string[] = [];
    newProcess(k, { comm: 'first', cpu: 0, mm }, touch);
    look(k, 0, mm, log, false);
    look(k, 0, mm, log, true);
    runAll(k);
    expect(log).toEqual(['kernel on 0: 1', 'user on 0: freed']);
    expect(k.warnings).toEqual(new Set());
  });

  test('kept while a CPU idles on it', () => {
    const k = testKernel();
    const mm = emptyMm(k);
    newProcess(k, { comm: 'only', cpu: 0, mm }, touch);
    runAll(k);
    expect([exists(k, mm), mm.count.value, mm.users.value]).toEqual([true, 1, 0]);
    expect(perCpu(k, 0).idle.activeMm).toBe(mm);
  });

  test('freed by the last of several CPUs that borrow it', () => {
    const k = testKernel();
    const mm = emptyMm(k);
    const counts: number[] = [];
    newProcess(k, { comm: 'first', cpu: 0, mm }, function* (user) {
      for (const cpu of [1, 2]) yield* call(user.join(yield* call(user.thread(cpu, touchNothing))));
    });
    // After the process, one CPU after the other gets something else to do.
    for (const [index, cpu] of [1, 0, 2].entries()) {
      const task = kernelTask(k, cpu, () => noting(mm, counts), emptyMm(k));
      onCpu(k, 3, function* () {
        yield* compute(200_000 * (index === 0 ? 1 : 0) + 20_000);
        yield* call(wakeUp(k, task));
      });
    }
    runAll(k);
    // Each has loaded its own by then, and given back what it had: 3 borrowed it.
    expect(counts).toEqual([2, 1, 0]);
    expect(exists(k, mm)).toBe(false);
  });

  test('init_mm is for ever: every idle CPU has it from the beginning', () => {
    const k = testKernel({ cpus: 4 });
    expect(k.initMm.count.value).toBe(1 + 4);
    for (const cpu of [0, 1, 2]) {
      newProcess(k, { comm: `p${cpu}`, cpu, mm: emptyMm(k) }, touch);
      newProcess(k, { comm: `q${cpu}`, cpu, mm: emptyMm(k) }, touch);
    }
    runAll(k);
    // Three CPUs have borrowed something else since.
    expect(k.initMm.count.value).toBe(1 + 1);
    expect(exists(k, k.initMm)).toBe(true);
  });
});

function* touchNothing(): Kthread {}

function* noting(mm: MmStruct, counts: number[]): Kthread {
  counts.push(mm.count.value);
  yield* nop();
}

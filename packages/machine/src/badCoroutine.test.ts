/**
 * Kernel code that is no kernel code: what it yields, whom it shares its Ops and tasks with, what
 * it asks the outside world, and what it throws.
 */
import { describe, expect, test } from 'vitest';
import { codeOf, errorOf, expectPlace, failing } from './failing.testlib.ts';
import { guardDeterminism } from './determinism.ts';
import { ModelBugError, UsageError } from './errors.ts';
import { Machine } from './machine.ts';
import type { Coroutine, Op } from './op.ts';
import { oneOf, switchTo, waitUntil } from './ops/control.ts';
import { atomicUpdate, nop, readOnce, smpMb, updateWord } from './ops/memory.ts';
import { physAddr } from './ids.ts';
import { call, newTask } from './stack.ts';

/** What TypeScript would refuse, and JavaScript does not. */
const anOp = <T>(what: unknown): Op<T> => what as Op<T>;

describe('what is no Op', () => {
  const things: readonly (readonly [string, () => unknown])[] = [
    ['the number 5', () => 5],
    ['the undefined undefined', () => undefined],
    ['the object null', () => null],
    ['[object Object]', () => ({ kind: 'load' })],
    ['[object Generator]', () => three()],
    ['the function three', () => three],
    ['[object Promise]', () => Promise.resolve()],
  ];
  function* three(): Coroutine {}

  test.each(things)('a coroutine that yields %s', (name, thing) => {
    const error = failing(function* innermost() {
      yield anOp(thing());
    });
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expect(error.message).toContain(`yielded ${name}, which is not an Op: write yield* op`);
    expectPlace(error, 'after Op nop', ['(at', 'middle']);
  });

  test('an Op by plain yield', () => {
    const error = failing(function* innermost() {
      yield nop();
    });
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expect(error.message).toContain('yielded the Op nop by plain yield: write yield* op');
    expectPlace(error, 'after Op nop', ['(at', 'middle']);
  });

  test.each([
    ['the function notCalled', () => notCalled],
    ['the number 5', () => 5],
    ['the object null', () => null],
    ['[object Array]', () => []],
  ])('a call of %s', (name, thing) => {
    const error = failing(function* innermost() {
      yield* call(thing() as unknown as Coroutine);
    });
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expect(error.message).toContain(`${name} was to run, which is not a coroutine`);
    expectPlace(error, 'after Op nop', ['innermost', 'middle']);
  });
  function* notCalled(): Coroutine {}

  test('a choice among nothing', () => {
    const error = failing(function* innermost() {
      yield* oneOf('way', 0);
    });
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expectPlace(error, 'after Op nop', ['innermost', 'middle']);
  });
});

describe('an Op that is used twice', () => {
  test('by one coroutine', () => {
    const error = failing(function* innermost() {
      const fence = smpMb();
      yield* fence;
      yield* fence;
    });
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expect(error.message).toContain('the Op fence was yielded twice');
    expectPlace(error, 'after Op fence', ['innermost', 'middle']);
  });

  test.each([0, 1, 2])('by two CPUs, the first of which is %i Ops ahead', (ahead) => {
    const machine = new Machine({ cpus: 2 });
    const shared = nop();
    function* outermost(): Coroutine {
      yield* call(innermost());
    }
    function* innermost(): Coroutine {
      yield* nop();
      yield* shared;
      yield* nop();
    }
    machine.run(0, outermost(), 'first');
    machine.run(1, outermost(), 'worker');
    for (let step = 0; step < ahead; step++) machine.step(machine.cpu(0));
    let error: unknown;
    try {
      machine.step(machine.cpu(1));
      machine.step(machine.cpu(0));
    } catch (thrown) {
      error = thrown;
    }
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expect(String(error)).toContain('the Op nop was yielded twice');
    const [cpu, name] = ahead === 0 ? [0, 'first'] : [1, 'worker'];
    expect(String(error)).toMatch(new RegExp(`CPU ${cpu} \\(${name}\\)[^]*innermost[^]*outermost`));
  });
});

describe('a task that is in two places', () => {
  function* twice(task: () => ReturnType<typeof newTask>): Coroutine {
    yield* nop();
    yield* switchTo(task());
  }

  test('two CPUs switch to one task', () => {
    const machine = new Machine({ cpus: 2 });
    function* body(): Coroutine {
      yield* nop();
    }
    const task = newTask('traveller', null, body());
    machine.run(
      0,
      twice(() => task),
    );
    machine.run(
      1,
      twice(() => task),
      'worker',
    );
    for (const id of [0, 0, 1]) machine.step(machine.cpu(id));
    const error = errorOf(machine);
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expect(error.message).toContain('task traveller already runs on CPU 0');
    expect(error.message).toContain('CPU 1 (worker), Op switchTo: ');
    expect(error.message).toMatch(/innermost first:\n {4}twice /);
  });

  test('a CPU switches to what another one runs, also if that has ended', () => {
    const machine = new Machine({ cpus: 2 });
    const first = machine.run(
      0,
      twice(() => newTask('short', null, ends())),
      'first',
    );
    function* ends(): Coroutine {
      yield* nop();
    }
    machine.run(
      1,
      twice(() => first),
      'worker',
    );
    machine.step(machine.cpu(1));
    expect(() => machine.step(machine.cpu(1))).toThrowError('task first already runs on CPU 0');
  });

  test('one body for two CPUs', () => {
    const machine = new Machine({ cpus: 2 });
    function* body(): Coroutine {
      yield* nop();
    }
    const shared = body();
    machine.run(0, shared);
    let error: unknown;
    try {
      machine.run(1, shared, 'worker');
    } catch (thrown) {
      error = thrown;
    }
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expect(String(error)).toMatch(/CPU 1 \(worker\)[^]*twice[^]* {4}body /);
  });

  test('a CPU that runs something is given something else to run', () => {
    const machine = new Machine({ cpus: 1 });
    function* body(): Coroutine {
      yield* nop();
    }
    machine.run(0, body(), 'first');
    expect(() => machine.run(0, body())).toThrowError(
      expect.objectContaining({
        code: 'ERR_MACHINE',
        message: 'CPU 0 already runs first',
      }) as UsageError,
    );
  });

  test('a switch inside an NMI', () => {
    const environment = [{ name: 'nmi', cpu: 1, kind: 'nmi', times: 1, body: inNmi } as const];
    function* inNmi(): Coroutine {
      yield* switchTo(newTask('other', null, body()));
    }
    function* body(): Coroutine {
      yield* waitUntil(machine.cell('never', false), (value) => value);
    }
    const machine = new Machine({ cpus: 2, environment });
    machine.run(1, body(), 'worker');
    const error = errorOf(machine);
    expect(codeOf(error)).toBe('ERR_COROUTINE');
    expect(error.message).toMatch(/CPU 1 \(worker\), Op switchTo: [^]* {4}inNmi [^]* {4}body /);
  });
});

describe('the outside world', () => {
  const asks: readonly (readonly [string, () => unknown])[] = [
    ['Math.random', () => Math.random()],
    ['Date.now', () => Date.now()],
    ['Date', () => new Date()],
    ['Date', () => Date()],
    ['performance.now', () => performance.now()],
    ['crypto.randomUUID', () => crypto.randomUUID()],
    ['crypto.getRandomValues', () => crypto.getRandomValues(new Uint8Array(1))],
  ];

  const guarded: readonly (readonly [object, string])[] = [
    [Math, 'random'],
    [Date, 'now'],
    [globalThis, 'Date'],
    [performance, 'now'],
    [crypto, 'randomUUID'],
    [crypto, 'getRandomValues'],
  ];
  /** The properties that are guarded, as they are now. */
  const world = (): readonly unknown[] =>
    guarded.map(([owner, key]) => Object.getOwnPropertyDescriptor(owner, key));

  test.each(asks)('a coroutine that asks %s', (name, ask) => {
    const error = failing(function* innermost() {
      yield* nop();
      ask();
      yield* nop();
    });
    expect(codeOf(error)).toBe('ERR_NONDETERMINISM');
    expect(error.message).toContain(`a coroutine asked ${name}: `);
    expectPlace(error, 'after Op nop', ['innermost', 'middle']);
  });

  test.each(asks)(
    'the sink of records, the driver and everybody afterwards may ask %s',
    (_name, ask) => {
      const before = world();
      let records = 0;
      const sink = (): void => {
        records++;
        ask();
      };
      const machine = new Machine({ cpus: 1, sink });
      function* body(): Coroutine {
        yield* nop();
        machine.emit({ kind: 'passed' });
      }
      machine.run(0, body());
      guardDeterminism(machine, () => {
        machine.step(machine.cpu(0));
        ask();
      });
      expect(records).toBe(1);
      expect(world()).toEqual(before);
      ask();
    },
  );

  test('the world is as before also when the driver, or a coroutine, has failed', () => {
    const before = world();
    const machine = new Machine({ cpus: 1 });
    expect(() =>
      guardDeterminism(machine, () => {
        throw new Error('no more');
      }),
    ).toThrowError('no more');
    failing(function* innermost() {
      yield* nop();
      Math.random();
    });
    expect(world()).toEqual(before);
    expect(new Date(0).toISOString()).toBe('1970-01-01T00:00:00.000Z');
  });

  test('who drives two machines at once guards both', () => {
    const [one, other] = [new Machine({ cpus: 1 }), new Machine({ cpus: 1 })];
    function* asksTime(): Coroutine {
      yield* nop();
      Date.now();
    }
    for (const machine of [one, other]) machine.run(0, asksTime());
    guardDeterminism(one, () =>
      guardDeterminism(other, () => {
        for (const machine of [one, other])
          expect(() => machine.step(machine.cpu(0))).toThrowError('a coroutine asked Date.now');
      }),
    );
    expect(Date.now()).toBeGreaterThan(0);
  });
});

describe('kernel code that throws', () => {
  const broken = (): never => {
    throw new TypeError('mm is undefined');
  };

  const places: readonly (readonly [string, string, (machine: Machine) => Op])[] = [
    ['between two Ops', 'after Op nop', () => broken()],
    ['in what it waits for', 'Op wait', (machine) => waitUntil(machine.cell('x', 0), broken)],
    ['in an update', 'Op locked of x', (machine) => atomicUpdate(machine.cell('x', 0), broken)],
    ['in an update of a word', 'Op locked of 0x8', () => updateWord(physAddr(8), broken)],
  ];

  test.each(places)('%s', (_where, op, make) => {
    for (const checked of [false, true]) {
      const error = failing(
        function* innermost(machine) {
          yield* make(machine);
        },
        { checked },
      );
      expect(error).toBeInstanceOf(ModelBugError);
      expect(error.message).toContain(': mm is undefined\n');
      expect(error.cause).toBeInstanceOf(TypeError);
      expectPlace(error, op, ['innermost', 'middle']);
    }
  });

  test('nested in other code by plain yield*', () => {
    function* nested(): Coroutine {
      yield* nop();
      broken();
    }
    const error = failing(function* innermost() {
      yield* nested();
    });
    expect(error).toBeInstanceOf(ModelBugError);
    expectPlace(error, 'after Op nop', ['nested', 'innermost', 'middle']);
  });

  test('an interrupt handler is on top of what it interrupts', () => {
    function* handler(): Coroutine {
      yield* nop();
      broken();
    }
    const environment = [{ name: 'irq', cpu: 1, kind: 'irq', times: 1, vector: 0x30 } as const];
    const error = failing(
      function* innermost(machine) {
        machine.onInterrupt(0x30, handler);
        yield* waitUntil(machine.cell('never', false), (value) => value);
      },
      { environment },
    );
    expect(error).toBeInstanceOf(ModelBugError);
    expectPlace(error, 'after Op nop', ['handler', 'innermost', 'middle']);
  });

  test('a handler that fails before it is a coroutine', () => {
    const environment = [{ name: 'irq', cpu: 1, kind: 'irq', times: 1, vector: 0x30 } as const];
    const error = failing(
      function* innermost(machine) {
        machine.onInterrupt(0x30, broken);
        yield* waitUntil(machine.cell('never', false), (value) => value);
      },
      { environment },
    );
    expect(error).toBeInstanceOf(ModelBugError);
    expect(error.message).toContain('CPU 1 (worker)');
    expect(error.message).toMatch(/ {4}innermost [^]* {4}middle [^]* {4}outermost /);
  });

  test('a string that is thrown is explained like an error', () => {
    const error = failing(function* innermost() {
      yield* nop();
      throw 'no memory' as unknown as Error;
    });
    expect(error).toBeInstanceOf(ModelBugError);
    expect(error.message).toContain(': no memory\n');
  });

  test('after a failure nobody’s code runs', () => {
    const machine = new Machine({ cpus: 1 });
    function* body(): Coroutine {
      yield* readOnce(machine.cell('x', 0));
      broken();
    }
    machine.run(0, body());
    expect(() => machine.step(machine.cpu(0))).toThrowError('mm is undefined');
    expect(machine.current).toBe(null);
    expect(machine.enabled([])).toEqual([]);
  });
});

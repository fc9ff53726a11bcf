/**
 * The same schedule must give the same run, so a coroutine may not ask the clock or roll dice: an
 * explorer would look for a schedule that no longer exists. While a driver works, reading the time
 * or a random number from inside a coroutine is an error that names it. Everybody else, a sink that
 * stamps records say, is served as usual; and as drivers are synchronous, nobody outside notices.
 */
import { UsageError } from './errors.ts';
import type { Machine } from './machine.ts';

/** What may be asked for instead. */
const INSTEAD = 'use oneOf() or mayFail() for a choice, machine.time for the time';

/** A function of the outside world that a run may not depend on. */
interface Trapped {
  readonly owner: object;
  readonly key: string;
  readonly name: string;
}

const TRAPPED: readonly Trapped[] = [
  { owner: Math, key: 'random', name: 'Math.random' },
  { owner: Date, key: 'now', name: 'Date.now' },
  { owner: globalThis, key: 'Date', name: 'Date' },
  { owner: performance, key: 'now', name: 'performance.now' },
  { owner: crypto, key: 'getRandomValues', name: 'crypto.getRandomValues' },
  { owner: crypto, key: 'randomUUID', name: 'crypto.randomUUID' },
];

/**
 * Runs `driver`, which drives `machine`; in the meantime coroutines that ask for time or randomness
 * fail with UsageError ERR_NONDETERMINISM.
 */
export function guardDeterminism<T>(machine: Machine, driver: () => T): T {
  const restore = TRAPPED.map((trapped) => trap(machine, trapped));
  try {
    return driver();
  } finally {
    for (const undo of restore.toReversed()) undo();
  }
}

function trap(machine: Machine, { owner, key, name }: Trapped): () => void {
  const before = Object.getOwnPropertyDescriptor(owner, key);
  const real: unknown = Reflect.get(owner, key);
  if (typeof real !== 'function') return () => undefined;
  const refuse = (): void => {
    if (machine.current === null) return;
    throw new UsageError(
      'ERR_NONDETERMINISM',
      `a coroutine asked ${name}: the same schedule must give the same run; ${INSTEAD}`,
    );
  };
  const guarded: unknown = new Proxy(real, {
    apply: (target, self, args): unknown => {
      refuse();
      return Reflect.apply(target, self, args);
    },
    construct: (target, args, newTarget): object => {
      refuse();
      return Reflect.construct(target, args, newTarget) as object;
    },
  });
  // A frozen realm stays as it is: it is then for the comparison of two runs to find out.
  if (!Reflect.defineProperty(owner, key, { value: guarded, configurable: true, writable: true }))
    return () => undefined;
  return () => {
    if (before === undefined) Reflect.deleteProperty(owner, key);
    else Reflect.defineProperty(owner, key, before);
  };
}

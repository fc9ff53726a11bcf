/** Laws of the what-if table, over any mix of calls. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CALL_KINDS, KIND_NAMES } from './callKinds.ts';
import { whatIfRows } from './designs.ts';
import type { Cause, Received } from './ledger.ts';

const cause = fc.record({
  comm: fc.constantFrom('a', 'b', 'kswapd0'),
  origin: fc.constantFrom(
    { kind: 'syscall', name: 'munmap' } as const,
    { kind: 'kthread', name: 'kswapd0' } as const,
    { kind: 'untraced', name: 'not in a traced system call' } as const,
  ),
  kind: fc.constantFrom(...KIND_NAMES),
  calls: fc.integer({ min: 1, max: 1000 }),
});

const input = fc
  .record({
    parts: fc.array(cause, { maxLength: 12 }),
    cpus: fc.integer({ min: 1, max: 512 }),
    lossless: fc.boolean(),
    level: fc.constantFrom('A', 'B', 'C', 'D', null),
  })
  .map(({ parts, cpus, lossless, level }) => {
    const causes: Cause[] = parts.map((part) => ({
      ...part,
      func: part.kind,
      requests: part.calls,
      tasks: 1,
      pids: [1],
      recorder: false,
    }));
    const byKind: Received['byKind'] = Object.fromEntries(
      KIND_NAMES.map((kind) => [
        kind,
        causes.filter((one) => one.kind === kind).reduce((sum, one) => sum + one.calls, 0),
      ]),
    );
    const calls = causes.reduce((sum, one) => sum + one.calls, 0);
    return { level, received: { calls, byKind }, causes, cpus, lossless };
  });

test('no design leaves fewer than none or more than today, and only evidence A says measured', () => {
  fc.assert(
    fc.property(input, (given) => {
      for (const row of whatIfRows(given)) {
        expect(row.calls === null).toBe(row.basis === 'no data in this trace');
        expect(row.calls?.min ?? 0).toBeGreaterThanOrEqual(0);
        expect(row.calls?.max ?? 0).toBeLessThanOrEqual(given.received.calls);
        expect((row.calls?.min ?? 0) <= (row.calls?.max ?? 0)).toBe(true);
        expect(row.basis === 'measured').toBe(
          row.id === 'today' && given.level === 'A' && given.lossless,
        );
        expect(row.basis).not.toBe('model');
      }
    }),
  );
});

test('no design takes away a call that is no TLB work, but the one that defers text patching', () => {
  fc.assert(
    fc.property(input, (given) => {
      const others = KIND_NAMES.filter((kind) => !CALL_KINDS[kind].tlb).reduce(
        (sum, kind) => sum + (given.received.byKind[kind] ?? 0),
        0,
      );
      for (const row of whatIfRows(given)) {
        if (row.id === 'deferred-kernel-ipis') continue;
        expect(row.calls?.min ?? others).toBeGreaterThanOrEqual(others);
      }
    }),
  );
});

test('INVLPGB leaves the flushes of processes on a machine where none runs on 4 CPUs', () => {
  fc.assert(
    fc.property(input, (given) => {
      const row = whatIfRows({ ...given, level: 'A', cpus: 3 }).find(({ id }) => id === 'invlpgb');
      const processes = given.causes
        .filter(({ kind, origin }) => kind === 'user-flush' && origin.kind !== 'kthread')
        .reduce((sum, { calls }) => sum + calls, 0);
      expect(row?.calls?.min).toBeGreaterThanOrEqual(processes);
    }),
  );
});

/** Whatever the writer takes, `openTrace` gives back. */
import {
  Context,
  CONTEXT_UNKNOWN,
  cpuId,
  type CpuId,
  nanoseconds,
  UsageError,
  virtAddr,
} from '@shootdown/machine';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IRQ_VECTORS } from '../events/kinds.ts';
import type { RecordedEvent, RecordedTask } from '../events/shapes.ts';
import { throughText } from './textWriter.testlib.ts';
import type { WritableRecord } from './textWriter.ts';

/** What commands and texts are made of: everything that a line means something by. */
const PIECES: readonly string[] = [
  ...'aZ70  -.:=,()[]<>#+{\té日\u00a0\x1b'.split(''),
  '😀',
  '-1 [0] 1: b',
  ' 1 [0] 1.1: a:b',
  'prev_pid',
  'pid=3',
  'CPU:1 [LOST 3 EVENTS]',
  ' => f',
  'reason:x (3)',
  ' -> 0x0',
  '{"a":1}',
];
const text = fc.string({ unit: fc.constantFrom(...PIECES), maxLength: 12 });
const bytes = (string: string): number => new TextEncoder().encode(string).length;
const comm = text.filter((c) => bytes(c) <= 15 && c === c.trimStart());
const symbol = fc.stringMatching(/^[a-z_0-9.$(=:]{1,20}$/);
const identifier = fc.stringMatching(/^[a-z_]\w{0,12}$/).filter((name) => name !== '__syscall_nr');
const pid = fc.oneof(fc.nat(5), fc.nat(4_194_304));
const integer = fc.oneof(fc.constant(-1), fc.nat(4096), fc.maxSafeInteger());
/** Every double that is a signed integer of 64 bits. */
const word = fc
  .oneof(fc.constantFrom(0n, -1n, -12n, -(1n << 63n)), fc.bigInt(-(1n << 63n), (1n << 63n) - 1n))
  .map(Number)
  .filter((n) => n < 2 ** 63)
  .map(virtAddr);

const task: fc.Arbitrary<RecordedTask | null> = fc.oneof(
  fc.constant(null),
  fc.record({ pid, comm, tgid: fc.option(pid) }),
);
const context = fc
  .nat(0xffff)
  .map((bits) => bits & ~0xc0)
  .chain((bits) => fc.constantFrom(bits, bits & 0xff, Context.irqsOff | Context.hardirq));

const eventOn = (cpus: number): fc.Arbitrary<RecordedEvent> => {
  const cpu = fc.nat(cpus - 1).map(cpuId);
  const targets: fc.Arbitrary<readonly CpuId[]> = fc.array(cpu, { maxLength: 8 });
  return fc.oneof(
    fc.record({
      kind: fc.constant('tlb_flush' as const),
      name: fc.constant('tlb_flush' as const),
      pages: integer,
      reason: fc.oneof(fc.nat(5), fc.nat(63)),
    }),
    fc.record({
      kind: fc.constant('csd_queue_cpu' as const),
      name: fc.constant('csd_queue_cpu' as const),
      target: cpu,
      callsite: symbol,
      func: symbol,
      csd: word,
    }),
    fc
      .record({
        kind: fc.constantFrom('csd_function_entry' as const, 'csd_function_exit' as const),
        func: symbol,
        csd: word,
      })
      .map((event) => ({ ...event, name: event.kind })),
    fc
      .record({ targets, callsite: symbol, callback: fc.oneof(fc.constant('0x0'), symbol) })
      .map((event) => ({
        ...event,
        kind: 'ipi_send' as const,
        name:
          event.targets.length === 1 ? ('ipi_send_cpu' as const) : ('ipi_send_cpumask' as const),
      })),
    fc
      .record({
        kind: fc.constantFrom('ipi_raise' as const, 'ipi_entry' as const, 'ipi_exit' as const),
        targets,
        reason: text,
      })
      .map((event) => ({
        ...event,
        name: event.kind,
        targets: event.kind === 'ipi_raise' ? event.targets : [],
      })),
    fc
      .record({
        irq: fc.constantFrom(...IRQ_VECTORS),
        edge: fc.constantFrom('entry' as const, 'exit' as const),
        vector: fc.nat(255),
      })
      .map(({ irq, edge, vector }) => ({
        kind: `vector_${edge}` as const,
        name: `${irq}_${edge}`,
        irq,
        vector,
      })),
    fc.record({
      kind: fc.constant('sched_switch' as const),
      name: fc.constant('sched_switch' as const),
      prevPid: pid,
      prevComm: comm,
      nextPid: pid,
      nextComm: comm,
    }),
    fc
      .record({
        syscall: identifier,
        pairs: fc.array(fc.tuple(identifier, word), { maxLength: 6 }),
      })
      .map(({ syscall, pairs }) => ({
        kind: 'sys_enter' as const,
        name: `sys_enter_${syscall}`,
        syscall,
        args: pairs.map(([name]) => name),
        values: pairs.map(([, value]) => value),
      })),
    fc.record({ syscall: identifier, ret: word }).map((event) => ({
      ...event,
      kind: 'sys_exit' as const,
      name: `sys_exit_${event.syscall}`,
    })),
    fc.record({
      kind: fc.constant('page_fault' as const),
      name: fc.constantFrom('page_fault_user' as const, 'page_fault_kernel' as const),
      address: fc.option(word),
      errorCode: fc.nat(0x1f),
    }),
    fc
      .record({
        name: fc.oneof(
          identifier.map((name) => `my_${name}`),
          fc.constantFrom('print', 'kernel_stack', 'function', 'a.b-c', ')=>'),
        ),
        payload: text.filter((payload) => !payload.startsWith(' ')),
      })
      .map(({ name, payload }) => ({
        kind: 'other' as const,
        name,
        payload: { text: () => payload },
      })),
  );
};

interface Run {
  readonly cpus: number;
  readonly records: readonly WritableRecord[];
}

const run: fc.Arbitrary<Run> = fc
  .record({
    cpus: fc.constantFrom(1, 8, 32, 64, 65, 200, 8192),
    flags: fc.boolean(),
    start: fc.oneof(fc.nat(2_000_000_000), fc.nat(2 ** 53 - 2 ** 40)),
  })
  .chain(({ cpus, flags, start }) =>
    fc
      .array(
        fc.record({
          step: fc.oneof(fc.constant(0), fc.nat(999), fc.nat(2 ** 33)),
          cpu: fc.nat(cpus - 1).map(cpuId),
          task,
          context: flags ? context : fc.constant(CONTEXT_UNKNOWN),
          event: eventOn(cpus),
        }),
        { minLength: 1, maxLength: 20 },
      )
      .map((steps) => {
        let time = start;
        return {
          cpus,
          records: steps.map(({ step, ...record }) => ({
            ...record,
            time: nanoseconds((time += step)),
          })),
        };
      }),
  );

test('records of every kind, of any machine, at any time', async () => {
  const seen: Record<string, number> = {};
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(run, async ({ cpus, records }) => {
      let result: Awaited<ReturnType<typeof throughText>>;
      try {
        result = await throughText(records, cpus);
      } catch (error) {
        // Only a command that reads like a field is generated and may not be written.
        if (!(error instanceof UsageError) || !/reads like/.test(error.message)) throw error;
        refused++;
        return;
      }
      const { expected, read, trace } = result;
      expect(read).toEqual(expected);
      expect(trace.header).toMatchObject({ kind: 'ftrace', cpus, kernel: null });
      expect(trace.header.clock).toEqual({ name: null, unit: 'ns', resolution: 1 });
      expect(trace.status()).toMatchObject({ lost: { counted: 0 }, problemCount: 0, notes: [] });
      for (const { event } of records) seen[event.kind] = (seen[event.kind] ?? 0) + 1;
    }),
    { numRuns: 1000 },
  );
  expect(refused).toBeLessThan(100);
  expect(Object.keys(seen)).toHaveLength(15);
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(100);
});

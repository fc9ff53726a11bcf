/**
 * The JSON Schema (2020-12) of ReplayView: what `shootdown schema` prints. A test holds it against
 * real answers, unknown properties refused.
 */
import { count, flag, list, text, textOrNull, type Schema } from '../schemaParts.ts';

const countOrNull: Schema = { type: ['integer', 'null'], minimum: 0 };
const texts: Schema = { type: 'array', items: text };
const counts: Schema = { type: 'object', additionalProperties: count };
const countsOrNull: Schema = { type: ['object', 'null'], additionalProperties: count };

/** An object with exactly these properties. */
function object(properties: Readonly<Record<string, Schema>>, nullable = false): Schema {
  return {
    type: nullable ? ['object', 'null'] : 'object',
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  };
}

const KINDS = [
  'user-flush',
  'flush-all',
  'kernel-range',
  'cpa-flush',
  'table-sync',
  'text-patching',
  'scheduler',
  'rcu',
  'membarrier',
  'other',
];
const kind: Schema = { enum: KINDS };
const numberOrNull: Schema = { type: ['number', 'null'] };
const received = object({ calls: count, tlbCalls: count, byKind: counts }, true);
const oneKind = object({ label: text, plural: text, letter: text, tlb: flag });
const kinds = object(Object.fromEntries(KINDS.map((name) => [name, oneKind])));
const inKind: Schema = { enum: ['syscall', 'fault', 'kthread', 'callsite', 'idle', 'untraced'] };
const level: Schema = { enum: ['A', 'B', 'C', 'D', null] };

/** A line of `-f ndjson` before the last: one call, as it was known when it was read. */
const callLine = object({
  type: { const: 'call' },
  evidence: level,
  unit: { enum: ['us', 'ticks'] },
  time: { type: 'number' },
  from: countOrNull,
  to: count,
  task: text,
  pid: { type: 'integer' },
  in: text,
  function: text,
  kind,
});
const range = object({ min: { type: 'integer' }, max: { type: 'integer' } }, true);

/** The schema of `-f json`. */
export const replaySchema: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  $id: 'urn:shootdown:replay:1',
  $defs: { call: callLine },
  title: 'shootdown replay',
  description:
    'Who interrupts whom with TLB work, counted from a recorded trace. Times are absolute, in ' +
    'microseconds, or ticks when unit is ticks. $defs.call is a line of -f ndjson before the last.',
  ...object({
    schemaVersion: { const: 1 },
    command: { const: 'replay' },
    tool: object({ name: { const: 'shootdown' }, version: text }),
    input: object({
      file: text,
      kind: { enum: ['ftrace', 'trace-cmd-report', 'trace.dat'] },
      version: countOrNull,
      layout: text,
      bytes: countOrNull,
      kernel: textOrNull,
      clock: textOrNull,
      resolutionNs: count,
      buffers: texts,
      notes: texts,
      unreadable: object({ count, first: texts }),
    }),
    headline: texts,
    isolated: text,
    cut: object({ cpus: textOrNull, from: numberOrNull, to: numberOrNull }),
    cpus: count,
    unit: { enum: ['us', 'ticks'] },
    window: object(
      { first: { type: 'number' }, last: { type: 'number' }, length: { type: 'number' } },
      true,
    ),
    lost: object({
      counted: count,
      uncounted: count,
      byCpu: list(object({ cpu: count, events: count })),
    }),
    evidence: object({
      level,
      why: text,
      matched: object({ one: count, ambiguous: count, none: count }, true),
    }),
    complete: flag,
    records: count,
    events: counts,
    kinds,
    received,
    machine: received,
    matrix: object({
      group: count,
      cells: list(object({ from: count, to: count, calls: count })),
    }),
    causes: list(
      object({
        task: text,
        in: text,
        inKind,
        function: text,
        kind,
        what: text,
        tlb: flag,
        reach: { enum: ['address-space', 'all-cpus', 'one-cpu'] },
        calls: count,
        requests: count,
        tasks: count,
        pids: list({ type: 'integer' }),
        recorder: flag,
      }),
    ),
    accounts: list(
      object({
        cpu: count,
        calls: countOrNull,
        tlbCalls: countOrNull,
        byKind: countsOrNull,
        callInterrupts: countOrNull,
        interrupts: countsOrNull,
        inInterrupts: object({ total: { type: 'number' }, longest: { type: 'number' } }, true),
        tlbRow: countOrNull,
        idleFlushes: countOrNull,
        ownTasks: texts,
        when: object(
          { buckets: count, byKind: { type: 'object', additionalProperties: list(count) } },
          true,
        ),
      }),
    ),
    tlbRow: object({ basis: { enum: ['counted', 'at-least', null] }, total: countOrNull }),
    flushes: object(
      {
        byReason: list(count),
        requests: count,
        requestsWithoutCall: countOrNull,
        callsQueued: countOrNull,
      },
      true,
    ),
    whatIf: list(
      object({
        id: text,
        title: text,
        calls: range,
        change: range,
        basis: {
          enum: ['measured', 'counted from the trace', 'model', 'bounds', 'no data in this trace'],
        },
        note: text,
      }),
    ),
    notes: texts,
  }),
};

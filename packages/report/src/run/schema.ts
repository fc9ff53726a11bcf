/** JSON Schema of the run view. */
import { count, list, record, text, type Schema } from '../schemaParts.ts';

const phase: Schema = record({
  name: text,
  timeNs: { ...count, description: 'simulated nanoseconds' },
  ipis: list(record({ function: text, during: text, sends: count, interrupts: count })),
  flushes: list(
    record({
      reason: { type: 'integer', minimum: 0, maximum: 5 },
      pages: { type: 'integer', minimum: -1, description: '-1 is a flush of everything' },
      count,
    }),
  ),
  interrupts: list(count),
  tlbRow: list(count),
  vmstat: { type: 'object', additionalProperties: { type: 'number' } },
});

/** What `shootdown schema run` prints. */
export const runSchema: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'shootdown run',
  ...record({
    schemaVersion: { const: 1 },
    command: { const: 'run' },
    toolVersion: text,
    workload: text,
    title: text,
    parameters: {
      type: 'object',
      additionalProperties: { anyOf: [{ type: 'number' }, list({ type: 'number' })] },
    },
    cpus: count,
    threads: count,
    isolated: { ...text, description: 'a cpu list' },
    lazy: { ...text, description: 'a cpu list' },
    kernel: text,
    backend: text,
    editions: list(text),
    costProfile: { anyOf: [record({ file: text, entries: list(text) }), { type: 'null' }] },
    simulated: record({ timeNs: count, ops: count, interrupts: count }),
    phases: list(phase),
    total: phase,
    warnings: list(text),
  }),
};

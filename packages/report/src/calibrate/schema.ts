/** JSON Schema of the calibrate view, and of a cost profile. */
import { count, list, record, text, textOrNull, type Schema } from '../schemaParts.ts';

const lengths: Schema = record({
  count: { type: 'integer', minimum: 1 },
  minNs: count,
  p50Ns: count,
  p90Ns: count,
  p99Ns: count,
  maxNs: count,
});

const interval: Schema = record({
  id: text,
  title: text,
  from: { ...text, description: 'the events at its beginning' },
  to: { ...text, description: 'the events at its end' },
  acrossCpus: { type: 'boolean' },
  lengths: { anyOf: [lengths, { type: 'null' }], description: 'null: no data' },
  byPages: list(
    record({
      pages: { type: 'integer', minimum: -1, description: '-1 is a flush of everything' },
      lengths,
    }),
  ),
  leftOut: record({ negative: count, lost: count, shared: count, unfinished: count }),
  why: { ...textOrNull, description: 'why there is no data' },
});

const profile: Schema = {
  type: 'object',
  properties: {
    version: { const: 1 },
    from: text,
    costs: {
      type: 'object',
      description: 'nanoseconds by name of the cost table',
      additionalProperties: {
        anyOf: [
          count,
          {
            type: 'object',
            properties: { ns: count, source: text, samples: count },
            required: ['ns'],
            additionalProperties: false,
          },
        ],
      },
    },
  },
  required: ['version', 'costs'],
  additionalProperties: false,
};

/** What `shootdown schema calibrate` prints; $defs.profile is a file of `-o` and `--costs`. */
export const calibrateSchema: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  $defs: { profile },
  title: 'shootdown calibrate',
  ...record({
    schemaVersion: { const: 1 },
    command: { const: 'calibrate' },
    toolVersion: text,
    input: record({
      file: text,
      kind: { enum: ['ftrace', 'trace-cmd-report', 'trace.dat'] },
      kernel: textOrNull,
      cpus: count,
      records: count,
      problems: count,
      notes: list(text),
    }),
    clock: record({
      name: textOrNull,
      statedBy: { enum: ['trace', 'option', null] },
      stepNs: { type: 'number', exclusiveMinimum: 0 },
      perCpu: textOrNull,
      coarse: textOrNull,
      notes: list(text),
    }),
    lost: record({ counted: count, uncounted: count }),
    intervals: list(interval),
    entries: list(
      record({
        name: text,
        ns: count,
        plusMinusNs: count,
        tableNs: count,
        samples: count,
        derivation: text,
      }),
    ),
    missing: list(record({ name: text, reason: text })),
  }),
};

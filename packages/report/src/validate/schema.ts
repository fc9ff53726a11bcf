/** JSON Schema of the view of `validate`. */
import { count, flag, list, orNull, record, text, type Schema } from '../schemaParts.ts';

const foundAs = (value: Schema): Schema => record({ value, by: text });
const percent: Schema = {
  ...orNull({ type: 'number', minimum: 0, maximum: 100 }),
  description: 'cut to a tenth, so that 100 is all; null: a share of nothing',
};

const kind: Schema = {
  enum: [
    'should_flush',
    'targets_kept',
    'targets_freed',
    'send',
    'range',
    'flush',
    'switch',
    'asid',
    'generation',
    'cpumask',
    'vector',
    'broadcast',
  ],
};

const score: Schema = record({
  total: { ...count, description: 'decided, learned and notDecidable' },
  decided: { ...count, description: 'from what is known of the state: equal and different' },
  equal: count,
  reordered: {
    ...count,
    description: 'of the equal ones: by another order of the steps between two records',
  },
  different: count,
  learned: { ...count, description: 'from what was read off a judged field, equal or not' },
  learnedDifferent: { ...count, description: 'of the learned ones: not as recorded' },
  notDecidable: count,
  causes: list(record({ cause: text, count })),
  percentEqual: percent,
  percentDecided: percent,
});
const marked: Schema = {
  ...orNull(score),
  description: 'between WORKLOAD_BEGIN and WORKLOAD_END; null without these marks',
};

/** What `shootdown schema validate` prints. */
export const validateSchema: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'shootdown validate',
  ...record({
    schemaVersion: { const: 1 },
    command: { const: 'validate' },
    toolVersion: text,
    verdict: { enum: ['equal', 'different', 'undecided'] },
    input: record({
      file: text,
      kind: { enum: ['ftrace', 'trace-cmd-report', 'trace.dat'] },
      kernel: { ...orNull(text), description: 'as the recording says' },
      clock: orNull(text),
      records: count,
      outside: { ...count, description: 'records of CPUs that the machine was said not to have' },
      problems: count,
      wrapped: { ...flag, description: "each CPU's records begin at another time" },
      notes: list(text),
    }),
    lost: record({ counted: count, uncounted: count }),
    depth: { enum: ['probes', 'csd', 'tlb_flush'] },
    kernel: foundAs(text),
    cpus: foundAs(count),
    pcid: foundAs(flag),
    pti: foundAs(flag),
    backend: text,
    total: score,
    workload: marked,
    decisions: list(record({ kind, rule: text, all: score, workload: marked })),
    differences: record({
      count,
      first: list(
        record({
          kind,
          rule: text,
          record: { type: 'integer', minimum: 1 },
          time: { ...text, description: 'as the recording prints it' },
          cpu: count,
          task: text,
          ours: text,
          recorded: text,
          because: { ...text, description: 'what ours rests on' },
          learned: flag,
          inWorkload: flag,
        }),
      ),
    }),
    resyncs: list(record({ reason: text, count })),
    fields: list(record({ event: text, inputs: list(text), judged: list(text) })),
  }),
};

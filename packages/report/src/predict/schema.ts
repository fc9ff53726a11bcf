/** JSON Schema of the view of `validate --predict`. */
import { count, list, orNull, record, text, type Schema } from '../schemaParts.ts';

const share: Schema = orNull({ type: 'number', minimum: 0, maximum: 1 });
const kind: Schema = {
  enum: ['flush', 'exact', 'local', 'send', 'batched', 'received', 'switch', 'wrong-cpu'],
};

/** What `shootdown schema validate --predict` prints. */
export const predictSchema: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'shootdown validate --predict',
  ...record({
    schemaVersion: { const: 1 },
    command: { const: 'validate --predict' },
    toolVersion: text,
    input: record({
      file: text,
      kind: text,
      kernel: orNull(text),
      cpus: orNull(count),
      events: count,
    }),
    model: record({ kernel: text, backend: text, features: list(text), warnings: list(text) }),
    marks: orNull(record({ from: text, to: text })),
    lost: record({ counted: count, uncounted: count }),
    kinds: list(
      record({
        kind,
        recorded: count,
        undecidable: {
          ...count,
          description: 'of address spaces that are older than the trace, and of kernel threads',
        },
        predicted: count,
        right: count,
        recall: share,
        precision: share,
      }),
    ),
    differences: list(record({ kind, cause: text, during: text, missed: count, extra: count })),
  }),
};

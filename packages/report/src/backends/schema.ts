/** JSON Schema of the backends view. */
import { list, record, text, type Schema } from '../schemaParts.ts';

const claims: Readonly<Record<string, Schema>> = {
  flushTlbMultiImpliesIpiBroadcast: {
    type: 'boolean',
    description:
      'when a flush that frees tables returns, whoever walked them with interrupts off has ended',
  },
  flushImpliesSmpMb: { type: 'boolean' },
  needsTableInvalidate: { type: 'boolean' },
};

const backend: Schema = record({
  id: text,
  models: record({ tree: text, path: text, symbol: text }),
  claims: record(claims),
  claimsIn: list(record({ edition: text, claims: record(claims, []) })),
  selects: list(text),
  costs: list(record({ name: text, ns: { type: 'number', minimum: 0 }, source: text })),
});

/** What `shootdown backends -f json` prints. */
export const backendsSchema: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'shootdown backends',
  ...record({
    schemaVersion: { const: 1 },
    command: { const: 'backends' },
    toolVersion: text,
    backends: list(backend),
    editions: list(record({ name: text, source: text, notModelled: text })),
  }),
};

import { describe, expect, test } from 'vitest';
import { FIELDS } from './fields.ts';
import { handlersOf } from './handlers.ts';

describe.each(['probes', 'csd', 'tlb_flush'] as const)('depth %s', (depth) => {
  test('no field is both given and judged', () => {
    const both = Object.entries(FIELDS[depth]).flatMap(([event, { inputs, judged }]) =>
      inputs.filter((field) => judged.includes(field)).map((field) => `${event}.${field}`),
    );
    expect(both).toEqual([]);
  });

  test('every event that is listed is looked at, and every one that is looked at is listed', () => {
    expect(Array.from(handlersOf(depth).keys()).toSorted()).toEqual(
      Object.keys(FIELDS[depth]).toSorted(),
    );
  });
});

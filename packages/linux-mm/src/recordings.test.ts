import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { compare, isEqual, RECORDINGS } from './recordings.testlib.ts';
import { differencesDocument, EXPLANATIONS } from './recordings.doc.testlib.ts';

/** Runs whose every phase the model reproduces: no timing decides what is flushed in them. */
const EXACT = [
  'W1-madvise-T1-N50',
  'W1-madvise-T2-N50',
  'W1-madvise-T4-N50',
  'W1-madvise-T8-N50',
  'W2-munmap-T1-N5',
  'W2-munmap-T4-N5',
  'W3-mprotect-T4-N4',
  'W4-lazydeep-T8-N10',
  'W4-lazyhalf-T8-spin3-N6',
  'W9-asid-K4-other5',
  'W9-asid-K5',
  'W9-asid-K6',
  'W9-asid-K7',
  'W10-pageout-T2-N2',
  'W11-migrate-T1-N4',
  'W11-migrate-T4-N3',
  'W11-migrate-T8-N2',
];

test.each(EXACT)('%s: as many flushes of as many pages for the same reasons', (name) => {
  const recording = RECORDINGS[name];
  expect(recording).toBeDefined();
  if (recording === undefined) return;
  const phases = compare(recording);
  expect(phases.length).toBe(Object.keys(recording.phases).length);
  for (const { phase, recorded, modelled } of phases)
    expect({ phase, flushes: modelled }).toEqual({ phase, flushes: recorded });
});

test('every recording is reproduced, or has an explanation', () => {
  const names = Object.keys(RECORDINGS);
  expect(names.toSorted()).toEqual([...EXACT, ...Object.keys(EXPLANATIONS)].toSorted());
});

test('what is explained does differ: an explanation that is not needed any more goes', () => {
  const equal = Object.keys(EXPLANATIONS).filter((name) => {
    const recording = RECORDINGS[name];
    return recording !== undefined && compare(recording).every(isEqual);
  });
  expect(equal).toEqual([]);
});

test('docs/recordings.md says what is true: paste what is expected here into it if it is not', () => {
  const shown = readFileSync(new URL('../../../docs/recordings.md', import.meta.url), 'utf8');
  expect(shown).toBe(differencesDocument());
});

import { costTable } from '@shootdown/sim';
import { expect, test } from 'vitest';
import { backendNamed } from './backends.ts';
import { costsWith, parseCostProfile } from './costProfile.ts';

const TABLE = costsWith(backendNamed('native'));
const parse = (profile: unknown): ReturnType<typeof parseCostProfile> =>
  parseCostProfile(
    'p.json',
    typeof profile === 'string' ? profile : JSON.stringify(profile),
    TABLE,
  );

test('an entry is a number, or one with its source', () => {
  expect(parse({ version: 1, costs: { invlpg: 45 } })).toEqual({
    invlpg: { ns: 45, source: 'profile p.json' },
  });
  const given = { ns: 7949, source: 'a VM', samples: 436 };
  expect(parse({ version: 1, from: 'me', costs: { sendIpi: given } })).toEqual({
    sendIpi: { ns: 7949, source: 'a VM' },
  });
});

test('a profile of nothing changes nothing', () => {
  expect(parse({ version: 1, costs: {} })).toEqual({});
});

test('entries of the kernel and of the machine are taken, and keep their cache lines', () => {
  const table = costTable({
    ...TABLE,
    ...parse({ version: 1, costs: { syscall: 90, locked: 9 } }),
  });
  expect(table['syscall']?.ns).toBe(90);
  expect(table['locked']).toMatchObject({ ns: 9, line: true });
});

test.each([
  ['not JSON', '{"version": 1,', 'p.json: not JSON'],
  ['no object', '[]', 'expected an object with "version" and "costs"'],
  ['no version', { costs: {} }, 'no version: expected "version": 1'],
  ['a later version', { version: 2, costs: {} }, 'version 2: this shootdown reads version 1'],
  ['a version in words', { version: '1', costs: {} }, 'version "1": this'],
  ['no costs', { version: 1 }, 'expected "costs": { NAME: nanoseconds, ... }'],
  ['costs in a row', { version: 1, costs: [1] }, 'expected "costs"'],
  [
    'a property that is none',
    { version: 1, cost: {}, costs: {} },
    'unknown property "cost"; expected version, from, costs',
  ],
  [
    'a name that is none',
    { version: 1, costs: { invlpgg: 1 } },
    'unknown entry "invlpgg"; expected access, acquire, armTimer,',
  ],
  ['a name of the prototype', '{"version":1,"costs":{"__proto__":5}}', 'unknown entry "__proto__"'],
  [
    'a negative cost',
    { version: 1, costs: { invlpg: -1 } },
    'invlpg: -1 is not a number of nanoseconds',
  ],
  ['a fraction', { version: 1, costs: { invlpg: 1.5 } }, 'invlpg: 1.5 is not a number'],
  ['infinity', '{"version":1,"costs":{"invlpg":1e999}}', 'invlpg: Infinity is not a number'],
  ['words', { version: 1, costs: { invlpg: '45' } }, 'invlpg: "45" is not a number'],
  ['nothing', { version: 1, costs: { invlpg: null } }, 'invlpg: null is not a number'],
  ['no ns', { version: 1, costs: { invlpg: {} } }, 'invlpg: undefined is not a number'],
  ['a list', { version: 1, costs: { invlpg: [45] } }, 'invlpg: [45] is not a number'],
  [
    'an entry with more',
    { version: 1, costs: { invlpg: { ns: 1, us: 1 } } },
    'unknown property of invlpg: "us"; expected ns, source, samples',
  ],
  [
    'an empty source',
    { version: 1, costs: { invlpg: { ns: 1, source: '' } } },
    'invlpg: "source" says in words',
  ],
  [
    'a cost of what has none',
    { version: 1, costs: { maskCall: 1 } },
    'maskCall: it asks the driver',
  ],
])('refused: %s', (_what, profile, words) => {
  expect(() => parse(profile)).toThrow(words);
  expect(() => parse(profile)).toThrow(expect.objectContaining({ code: 'ERR_PROFILE' }));
});

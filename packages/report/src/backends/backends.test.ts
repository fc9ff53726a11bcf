import { Ajv2020 } from 'ajv/dist/2020.js';
import { expect, test } from 'vitest';
import { PLAIN, renderMarkdown, renderText } from '../blocks.ts';
import { backendsBlocks } from './document.ts';
import { backendsSchema } from './schema.ts';
import type { BackendsView } from './view.ts';

const claims = {
  flushTlbMultiImpliesIpiBroadcast: false,
  flushImpliesSmpMb: true,
  needsTableInvalidate: true,
};
const VIEW: BackendsView = {
  schemaVersion: 1,
  command: 'backends',
  toolVersion: '1.2.3',
  backends: [
    {
      id: 'guest',
      models: { tree: '7.0', path: 'arch/x86/kernel/kvm.c', symbol: 'kvm_flush_tlb_multi' },
      claims,
      claimsIn: [
        { edition: 'posted', claims: { flushTlbMultiImpliesIpiBroadcast: true } },
        // It says the same there: nothing to tell.
        { edition: 'other', claims: { flushTlbMultiImpliesIpiBroadcast: false } },
      ],
      selects: ['PT_RECLAIM'],
      costs: [{ name: 'cmpxchg', ns: 20, source: 'somebody' }],
    },
  ],
  editions: [
    { name: 'posted', source: 'a mail', notModelled: 'the rest' },
    { name: 'other', source: 'another', notModelled: '' },
  ],
};

test('the view has the form of its schema, and a claim more has not', () => {
  const validate = new Ajv2020({ allErrors: true }).compile(backendsSchema);
  expect(validate(VIEW)).toBe(true);
  const [backend] = VIEW.backends;
  const boasting = { ...backend, claims: { ...claims, flushesByMagic: true } };
  expect(validate({ ...VIEW, backends: [boasting] })).toBe(false);
});

test('a claim that a posting changes is told with it', () => {
  expect(renderText(backendsBlocks(VIEW), PLAIN).split('\n').slice(0, 4)).toEqual([
    'Backends, and what they claim',
    '  Backend  Implies IPI broadcast  Implies smp_mb()  Tables are invalidated  Follows',
    '  guest    no; yes in posted      yes               yes                     arch/x86/kernel/kvm.c',
    '                                                                            kvm_flush_tlb_multi',
  ]);
});

test('Markdown has every backend and edition in a row, and what an edition leaves out', () => {
  const rows = renderMarkdown(backendsBlocks(VIEW)).split('\n');
  expect(rows.filter((row) => /^\| (?:guest|posted|other) /.test(row))).toHaveLength(3);
  expect(rows.join('\n')).toContain('Left out of posted: the rest');
  expect(rows.join('\n')).not.toContain('Left out of other');
});

import { describe, expect, test } from 'vitest';
import { show, type Package } from '../workspace.ts';
import {
  checkImports,
  checkManifests,
  IMPORT_TABLE,
  mayLoad,
  type ImportRow,
} from './importTable.ts';

const TABLE: Readonly<Record<string, ImportRow>> = {
  low: { loads: [], reason: 'r' },
  mid: { loads: ['low'], reason: 'r' },
  top: { loads: ['mid'], types: ['shape'], tests: ['laws'], reason: 'r' },
  shape: { loads: [], reason: 'r' },
  laws: { loads: [], reason: 'r' },
  app: { loads: ['*'], reason: 'r' },
};

const TOP: Package = {
  folder: 'packages/top',
  manifest: {
    name: '@shootdown/top',
    dependencies: { '@shootdown/low': '^1', '@shootdown/mid': '^1', third: '1' },
    peerDependencies: { '@shootdown/shape': '^1' },
    devDependencies: { '@shootdown/shape': '^1', '@shootdown/laws': '^1', tester: '1' },
  },
};
const ROOT_MANIFEST = { name: 'root', devDependencies: { vitest: '1' } };

function violations(text: string, path = 'packages/top/src/a.ts'): readonly string[] {
  return show(checkImports([TOP], [{ path, text }], ROOT_MANIFEST, TABLE));
}

describe('the table of this house', () => {
  test('has neither circles nor rows that name no row, and each row has a reason', () => {
    for (const [name, row] of Object.entries(IMPORT_TABLE)) {
      expect(() => mayLoad(IMPORT_TABLE, name)).not.toThrow();
      for (const other of [...(row.types ?? []), ...(row.tests ?? [])])
        expect(IMPORT_TABLE).toHaveProperty([other]);
      expect(row.reason).not.toBe('');
    }
  });

  test('lets no backend see another one, nor who drives it', () => {
    const backends = Object.keys(IMPORT_TABLE).filter((name) => name.startsWith('backend-'));
    for (const name of backends) {
      const loaded = mayLoad(IMPORT_TABLE, name);
      for (const other of [...backends, 'linux-mm', 'sim', 'check'])
        expect(loaded.has(other), `${name} -> ${other}`).toBe(false);
    }
  });

  test('lets nothing but its backends, and who validates it, see an architecture', () => {
    const rows = Object.keys(IMPORT_TABLE).filter(
      (name) => IMPORT_TABLE[name]?.loads.includes('*') === false,
    );
    const seen = rows.filter((name) => mayLoad(IMPORT_TABLE, name).has('arch-x86'));
    expect(seen.toSorted()).toEqual([
      'backend-hyperv',
      'backend-invlpgb',
      'backend-kvm',
      'backend-native',
      'backend-xen',
      'validate',
    ]);
  });
});

describe('rows', () => {
  test('are transitive', () => {
    expect([...mayLoad(TABLE, 'top')].toSorted()).toEqual(['low', 'mid']);
  });

  test('may not go round', () => {
    const round = { a: { loads: ['b'], reason: 'r' }, b: { loads: ['a'], reason: 'r' } };
    expect(() => mayLoad(round, 'a')).toThrow('a -> b -> a');
  });

  test('may not name what has no row', () => {
    expect(() => mayLoad({ a: { loads: ['b'], reason: 'r' } }, 'a')).toThrow('"b"');
  });
});

test.each([
  "import { a } from '@shootdown/low';",
  "import { a } from '@shootdown/mid/node';",
  "import type { a } from '@shootdown/shape';",
  "import { a } from '@shootdown/top';",
  "import { a } from 'third/deep';",
  "import { a } from 'node:fs';",
  "import { a } from './b.ts';",
  "import { a } from '../package.json';",
])('allowed: %s', (text) => {
  expect(violations(text)).toEqual([]);
});

test.each([
  ["import { a } from '@shootdown/app';", 'may not load @shootdown/app'],
  ["import type { a } from '@shootdown/app';", 'may not name a type of @shootdown/app'],
  ["import type { a } from 'tester';", 'only in its devDependencies, but it is published'],
  ["import { a } from '@shootdown/shape';", 'may not load @shootdown/shape'],
  ["import { type a } from '@shootdown/shape';", 'may not load @shootdown/shape'],
  ["void import('@shootdown/shape');", 'may not load @shootdown/shape'],
  ["import { a } from '@shootdown/laws';", 'may not load @shootdown/laws'],
  ["import { a } from '@shootdown/nowhere';", 'not a package of this workspace'],
  ["import { a } from '@shootdown/mid/src/b.ts';", 'reaches into another package'],
  ["import { a } from '../../mid/src/b.ts';", 'leaves the package'],
  ["import { a } from '../../../../../packages/top/src/b.ts';", 'leaves the package'],
  ["import { a } from 'unknown';", "unknown is not in the package's dependencies"],
  ["import { a } from 'tester';", 'only in its devDependencies, but it is published'],
  ["import { a } from 'vitest';", "vitest is not in the package's dependencies"],
])('refused: %s', (text, what) => {
  expect(violations(text).join('\n')).toContain(what);
});

test.each(['@shootdown/laws', 'tester', 'vitest'])('a test may load %s', (name) => {
  expect(violations(`import { a } from '${name}';`, 'packages/top/src/a.test.ts')).toEqual([]);
});

test('a workspace package must be declared even if the table allows it', () => {
  const undeclared: Package = { folder: 'packages/mid', manifest: { name: '@shootdown/mid' } };
  const file = { path: 'packages/mid/src/a.ts', text: "import { a } from '@shootdown/low';" };
  expect(show(checkImports([undeclared], [file], ROOT_MANIFEST, TABLE))).toEqual([
    "packages/mid/src/a.ts:1: @shootdown/low is not in the package's dependencies",
  ]);
});

test('a manifest may not ask for what the table refuses, nor be unknown to it', () => {
  const low: Package = {
    folder: 'packages/low',
    manifest: { name: '@shootdown/low', dependencies: { '@shootdown/mid': '^1' } },
  };
  const loose: Package = { folder: 'packages/loose', manifest: { name: '@shootdown/loose' } };
  expect(checkManifests([TOP], TABLE)).toEqual([]);
  expect(show(checkManifests([low, loose], TABLE))).toEqual([
    'packages/loose/package.json: @shootdown/loose has no row in the import table',
    'packages/low/package.json: dependencies: @shootdown/mid is not allowed here (low: r)',
  ]);
});

/**
 * Which licence each package has. Packages that follow kernel functions are GPL-2.0-only as the
 * kernel is; the rest is MIT. That split holds only as long as no MIT package loads a GPL one,
 * which follows from the import table; the check here says so in its own words, in case the table
 * changes.
 */
import type { Package, Violation } from '../workspace.ts';
import { mayLoad, type ImportRow } from './importTable.ts';

export type Spdx = 'MIT' | 'GPL-2.0-only';

export interface LicenceRow {
  /** A folder, where `*` stands for any one name. The first row that fits counts. */
  readonly folder: string;
  readonly id: Spdx;
  readonly reason: string;
}

export const LICENCE_TABLE: readonly LicenceRow[] = [
  {
    folder: 'packages/mmu-gather',
    id: 'GPL-2.0-only',
    reason: 'follows mm/mmu_gather.c function by function',
  },
  { folder: 'packages/validate', id: 'GPL-2.0-only', reason: 'drives arch-x86' },
  { folder: 'packages/arch-x86', id: 'GPL-2.0-only', reason: 'follows arch/x86/mm/tlb.c' },
  { folder: 'packages/linux-mm', id: 'GPL-2.0-only', reason: 'follows the callers in mm/' },
  {
    folder: 'packages/backend-*',
    id: 'GPL-2.0-only',
    reason: 'follows the pv ops of a hypervisor, or another architecture',
  },
  {
    folder: 'packages/create-backend',
    id: 'GPL-2.0-only',
    reason: 'its templates become backends, which load GPL packages',
  },
  { folder: 'packages/corpus', id: 'GPL-2.0-only', reason: 'scenarios are kernel code' },
  { folder: 'packages/conformance', id: 'GPL-2.0-only', reason: 'loads kernel code' },
  {
    folder: 'packages/whatif',
    id: 'GPL-2.0-only',
    reason: 'follows the kernel rules that decide who is interrupted',
  },
  { folder: 'packages/machine', id: 'MIT', reason: 'abstract hardware, no kernel code' },
  { folder: 'packages/sim', id: 'MIT', reason: 'a driver, no kernel code' },
  { folder: 'packages/check', id: 'MIT', reason: 'a driver, no kernel code' },
  { folder: 'packages/trace', id: 'MIT', reason: 'reads files, no kernel code' },
  { folder: 'packages/report', id: 'MIT', reason: 'draws results, no kernel code' },
  { folder: 'apps/*', id: 'GPL-2.0-only', reason: 'loads kernel code' },
  { folder: 'tools/*', id: 'MIT', reason: 'private, never published' },
];

/** The row of a folder. */
export function licenceOf(folder: string, table: readonly LicenceRow[]): LicenceRow | undefined {
  return table.find((row) => new RegExp(`^${row.folder.replaceAll('*', '[^/]+')}$`).test(folder));
}

/** What a licence check reads: the text of a file, or undefined if there is none. */
export type ReadFile = (path: string) => string | undefined;

/**
 * Checks the SPDX id of every package, and that each published one ships the text of its licence.
 */
export function checkLicences(
  packages: readonly Package[],
  read: ReadFile,
  table: readonly LicenceRow[],
): readonly Violation[] {
  return packages.flatMap(({ folder, manifest }) => {
    const row = licenceOf(folder, table);
    const path = `${folder}/package.json`;
    if (row === undefined) return [{ path, what: 'has no row in the licence table' }];
    const found: Violation[] = [];
    const stated = manifest.license ?? 'missing';
    if (stated !== row.id)
      found.push({ path, what: `license is ${stated} and should be ${row.id}: ${row.reason}` });
    if (row.folder.startsWith('tools/') && manifest.private !== true)
      found.push({ path, what: `must be private: ${row.reason}` });
    const source = `LICENSES/${row.id}.txt`;
    if (manifest.private !== true && read(`${folder}/LICENSE`) !== read(source)) {
      found.push({
        path: `${folder}/LICENSE`,
        what: `is not ${source}: cp ${source} ${folder}/LICENSE`,
      });
    }
    return found;
  });
}

/** Checks that what an MIT package may load is MIT. */
export function checkMitLoadsMit(
  imports: Readonly<Record<string, ImportRow>>,
  table: readonly LicenceRow[],
): readonly Violation[] {
  const idOf = (name: string): Spdx | undefined => licenceOf(`packages/${name}`, table)?.id;
  return Object.keys(imports)
    .filter((name) => idOf(name) === 'MIT')
    .flatMap((name) =>
      [...mayLoad(imports, name)]
        .filter((other) => idOf(other) !== 'MIT')
        .map((other) => ({
          path: `packages/${name}`,
          what: `is MIT and may load ${other}, which is not`,
        })),
    );
}

/**
 * Who may import whom. A row names a package's direct neighbours; what they may load, it may load
 * too. `types` may be named in `import type` only, and are not handed on; `tests` may be loaded by
 * test files only. A package without a row may not exist.
 */
import { isTestFile, type Package, type TextFile, type Violation } from '../workspace.ts';
import { packageOf, scanImports, type ImportSite } from '../imports.ts';

export interface ImportRow {
  readonly loads: readonly string[];
  readonly types?: readonly string[];
  readonly tests?: readonly string[];
  readonly reason: string;
}

/** A row that may load every package: the places where the parts meet. */
export const ANYTHING = '*';

const EVENTS = 'names the recorded event shapes, which trace declares';

/** What runs kernel code in a test: callers above it, a backend below it, and a driver. */
const RUNS = ['backend-native', 'linux-mm', 'sim'];

const X86_BACKEND: ImportRow = {
  loads: ['arch-x86'],
  types: ['trace'],
  tests: ['conformance', 'linux-mm', 'sim'],
  reason: 'an x86 backend is its pv ops; only its test loads the laws, and callers with a driver',
};

/** Keys are folders' last parts; `@shootdown/` is understood. */
export const IMPORT_TABLE: Readonly<Record<string, ImportRow>> = {
  machine: { loads: [], reason: 'abstract hardware: knows no Linux and stands on nothing' },
  'mmu-gather': {
    loads: ['machine'],
    types: ['trace'],
    tests: RUNS,
    reason: `Linux, but no architecture; ${EVENTS}`,
  },
  'arch-x86': {
    loads: ['mmu-gather'],
    types: ['trace'],
    tests: RUNS,
    reason: `an architecture, but no scheduler; ${EVENTS}`,
  },
  'backend-native': X86_BACKEND,
  'backend-invlpgb': X86_BACKEND,
  'backend-kvm': X86_BACKEND,
  'backend-xen': X86_BACKEND,
  'backend-hyperv': X86_BACKEND,
  'backend-arm64': {
    loads: ['mmu-gather'],
    types: ['trace'],
    tests: ['conformance', 'linux-mm', 'sim'],
    reason: 'implements the contract directly: proof that it is not x86-shaped',
  },
  'linux-mm': {
    loads: ['mmu-gather'],
    types: ['trace'],
    tests: RUNS,
    reason: `calls the core and never a backend or an architecture; ${EVENTS}`,
  },
  'create-backend': {
    loads: [],
    reason: 'writes files from templates; what it writes imports, it does not',
  },
  corpus: {
    loads: ['machine', 'mmu-gather', 'linux-mm'],
    reason: 'scenarios are kernel code; who explores them is not their business',
  },
  conformance: {
    loads: ['machine', 'mmu-gather', 'linux-mm', 'corpus', 'sim', 'check'],
    reason: 'refutes claims by exploring scenarios; the backend is handed in',
  },
  sim: { loads: ['machine'], reason: 'a driver: knows no Linux' },
  check: { loads: ['machine'], reason: 'a driver: knows no Linux' },
  trace: { loads: ['machine'], reason: 'a reader: knows recorded events but no kernel code' },
  whatif: {
    loads: ['machine', 'mmu-gather', 'linux-mm', 'sim', 'trace'],
    tests: ['backend-native'],
    reason: 'drives kernel code by a trace; backends are handed in as values',
  },
  validate: {
    loads: ['machine', 'mmu-gather', 'arch-x86', 'trace'],
    tests: RUNS,
    reason:
      'drives the x86 code by a recording of it, and so knows an architecture, which whatif may not; the backend is handed in',
  },
  report: {
    loads: ['trace'],
    types: ['sim', 'check', 'validate', 'whatif', 'conformance'],
    tests: ['sim', 'check', 'validate', 'whatif', 'conformance'],
    reason:
      'draws results: it names their types and loads no code that made them, which is what keeps it MIT',
  },
  cli: { loads: [ANYTHING], reason: 'the command: where the parts meet' },
  web: { loads: [ANYTHING], reason: 'an app: where the parts meet' },
  bench: { loads: [ANYTHING], reason: 'measures any of them' },
  docs: { loads: [], reason: 'runs what documents say, as its reader would' },
  'nx-plugin': { loads: [], reason: 'reads manifests' },
  'test-runner': { loads: [], reason: 'reads reports' },
  tidy: { loads: [], reason: 'reads sources; a judge that loads the judged can be broken by it' },
};

const SCOPE = '@shootdown/';

type Table = Readonly<Record<string, ImportRow>>;

/**
 * The names that a package may load, itself excluded. Throws for a row that names no row, and for a
 * circle.
 */
export function mayLoad(
  table: Table,
  name: string,
  path: readonly string[] = [],
): ReadonlySet<string> {
  if (path.includes(name))
    throw new Error(`the import table goes round: ${[...path, name].join(' -> ')}`);
  const row = table[name];
  if (row === undefined) throw new Error(`the import table has no row for "${name}"`);
  if (row.loads.includes(ANYTHING)) return new Set(Object.keys(table));
  return new Set(row.loads.flatMap((other) => [other, ...mayLoad(table, other, [...path, name])]));
}

/**
 * What an import is judged by: the file that has it, the package that has the file, and the
 * manifest of the root.
 */
interface Setting {
  readonly file: TextFile;
  readonly owner: Package;
  readonly root: Package['manifest'];
  readonly table: Table;
}

/** What is wrong with one import, if anything. */
function judge(site: ImportSite, setting: Setting): string | undefined {
  const { file, owner } = setting;
  const { specifier } = site;
  if (specifier.startsWith('.'))
    return leaves(file.path, specifier, owner.folder)
      ? `"${specifier}" leaves the package`
      : undefined;
  if (specifier.startsWith('node:')) return undefined;
  const name = packageOf(specifier);
  if (name.startsWith(SCOPE) && /\/(?:src|dist)(?:\/|$)/.test(specifier)) {
    return `"${specifier}" reaches into another package: import one of its exports`;
  }
  if (name === owner.manifest.name) return undefined;
  return (
    (name.startsWith(SCOPE) ? judgeByTable(site, name, setting) : undefined) ??
    judgeByManifest(site, name, setting)
  );
}

function judgeByTable(
  site: ImportSite,
  name: string,
  { file, owner, table }: Setting,
): string | undefined {
  const own = owner.manifest.name.slice(SCOPE.length);
  const other = name.slice(SCOPE.length);
  if (table[other] === undefined) return `"${name}" is not a package of this workspace`;
  const row = table[own];
  const asType = site.typeOnly && row?.types?.includes(other) === true;
  const asTest = isTestFile(file.path) && row?.tests?.includes(other) === true;
  if (asType || asTest || mayLoad(table, own).has(other)) return undefined;
  return `may not ${site.typeOnly ? 'name a type of' : 'load'} ${name} (${own}: ${row?.reason ?? 'no row'})`;
}

function judgeByManifest(
  site: ImportSite,
  name: string,
  { file, owner, root }: Setting,
): string | undefined {
  const { dependencies = {}, devDependencies = {}, peerDependencies = {} } = owner.manifest;
  if (name in dependencies || name in peerDependencies) return undefined;
  const unpublished = isTestFile(file.path) || owner.manifest.private === true;
  // A type that is imported stands in the published declarations too: whoever installs the package
  // must get it, or be asked for it as a peer.
  if (unpublished && name in devDependencies) return undefined;
  if (unpublished && name in (root.devDependencies ?? {})) return undefined;
  const only = name in devDependencies ? ', only in its devDependencies, but it is published' : '';
  return `${name} is not in the package's dependencies${only}`;
}

function leaves(path: string, specifier: string, folder: string): boolean {
  const resolved = new URL(specifier, `file:///${path}`).pathname.slice(1);
  // A relative path cannot climb above the root of a URL, so a climb that long is seen by its
  // number of steps.
  const climbs = specifier.split('/').filter((part) => part === '..').length;
  return !resolved.startsWith(`${folder}/`) || climbs >= path.split('/').length;
}

/** Checks every import of every source file of every package. */
export function checkImports(
  packages: readonly Package[],
  sources: readonly TextFile[],
  root: Package['manifest'],
  table: Table,
): readonly Violation[] {
  return packages.flatMap((owner) =>
    sources
      .filter((file) => file.path.startsWith(`${owner.folder}/`))
      .flatMap((file) =>
        scanImports(file.text).flatMap((site) => {
          const what = judge(site, { file, owner, root, table });
          return what === undefined ? [] : [{ path: file.path, line: site.line, what }];
        }),
      ),
  );
}

/**
 * Checks that every package has a row, and that its manifest asks for no sibling that the row does
 * not allow.
 */
export function checkManifests(packages: readonly Package[], table: Table): readonly Violation[] {
  return packages.flatMap(({ folder, manifest }) => {
    const path = `${folder}/package.json`;
    const own = manifest.name.slice(SCOPE.length);
    const row = table[own];
    if (row === undefined || !manifest.name.startsWith(SCOPE))
      return [{ path, what: `${manifest.name} has no row in the import table` }];
    const loads = mayLoad(table, own);
    const refused = (
      asked: Readonly<Record<string, string>> = {},
      allowed: ReadonlySet<string>,
      field: string,
    ): Violation[] =>
      Object.keys(asked)
        .filter((name) => name.startsWith(SCOPE) && !allowed.has(name.slice(SCOPE.length)))
        .map((name) => ({
          path,
          what: `${field}: ${name} is not allowed here (${own}: ${row.reason})`,
        }));
    return [
      ...refused(manifest.dependencies, loads, 'dependencies'),
      // A package whose types are named is asked for as a peer: its code is not loaded.
      ...refused(
        manifest.peerDependencies,
        new Set([...loads, ...(row.types ?? [])]),
        'peerDependencies',
      ),
      ...refused(
        manifest.devDependencies,
        new Set([...loads, ...(row.types ?? []), ...(row.tests ?? [])]),
        'devDependencies',
      ),
    ];
  });
}

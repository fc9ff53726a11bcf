// Infers build, test, typecheck, lint and check:pkg for every package, so that no package copies
// scripts: what a package has is read off its manifest and its folder. A package is built when it
// exports sources or has a bin, checked for publishing when it is public, and always typechecked,
// linted and tested. Tests say which files outside their folder they read (examples, docs,
// README.md), so that a cached result is never older than those; tidy and docs read the whole
// workspace and are therefore never cached.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createNodesFromFiles } from '@nx/devkit';

const SHARED = '../../tools';
const OWN_ROOT = 'tools/nx-plugin';
const REPORT = 'test-results/vitest.json';

/** Projects whose tests read the whole workspace: no list of inputs would be right. */
const READS_EVERYTHING = new Set(['@shootdown/tidy', '@shootdown/docs']);

const run = (command, extra = {}, cwd = '{projectRoot}') => ({
  executor: 'nx:run-commands',
  options: { command, cwd },
  ...extra,
});

const hasSourceExport = (manifest) =>
  Object.values(manifest.exports ?? {}).some(
    (target) => typeof target === 'object' && target['@shootdown/source'] !== undefined,
  );

/**
 * The test target. The JSON report is an output: a cached run restores it, so that the closing line
 * of `npm test` counts it.
 */
function testTarget(manifest) {
  const reporters = `--reporter=default --reporter=json --outputFile.json=${REPORT}`;
  return run(
    `vitest run --passWithNoTests --root . --config ${SHARED}/vitest.config.ts ${reporters}`,
    {
      outputs: [`{projectRoot}/${REPORT}`],
      cache: !READS_EVERYTHING.has(manifest.name),
      inputs: [
        'default',
        '^production',
        '{workspaceRoot}/examples/**/*',
        '{workspaceRoot}/docs/**/*',
        '{workspaceRoot}/README.md',
        { env: 'SHOOTDOWN_FC_SEED' },
        // Whether the tests that ask it are run.
        { runtime: 'trace-cmd --version 2>&1 || true' },
      ],
    },
  );
}

/**
 * What lint reads: a package's sources and tests, and for this package itself also the
 * configurations that its targets name.
 */
function lintPaths(root) {
  return root === OWN_ROOT ? [root, 'tools/*.ts'] : [`${root}/src`, `${root}/test`];
}

/**
 * Builds of what a package is built from. Not `^build`: what only its tests load (a backend, callers
 * above it) is built from it, and would make that a circle.
 */
const buildsBefore = ({ dependencies = {}, peerDependencies = {} }) =>
  Object.keys({ ...dependencies, ...peerDependencies })
    .filter((name) => name.startsWith('@shootdown/'))
    .map((project) => ({ projects: [project], target: 'build' }));

function targetsOf(manifest, root, folder) {
  const exportsSource = hasSourceExport(manifest);
  const targets = {
    lint: run(`oxlint --deny-warnings ${lintPaths(root).join(' ')}`, {}, '{workspaceRoot}'),
    test: testTarget(manifest),
  };
  if (existsSync(join(folder, 'tsconfig.json'))) targets.typecheck = run('tsc -p tsconfig.json');
  if (exportsSource || manifest.bin !== undefined) {
    const bundle = `tsup --config ${SHARED}/tsup.config.ts --silent`;
    // Nobody imports a package that has only a bin: it needs no declarations.
    const command = exportsSource ? `${bundle} && tsc -p tsconfig.build.json` : bundle;
    targets.build = run(command, { dependsOn: buildsBefore(manifest) });
  }
  if (manifest.private !== true) {
    targets['check:pkg'] = run(
      exportsSource ? 'publint --strict && attw --pack . --profile esm-only' : 'publint --strict',
    );
  }
  return targets;
}

export const name = '@shootdown/nx-plugin';

export const createNodesV2 = [
  '{packages,apps,tools}/*/package.json',
  (files, options, context) =>
    createNodesFromFiles(
      (file) => {
        const root = dirname(file);
        const manifest = JSON.parse(readFileSync(join(context.workspaceRoot, file), 'utf8'));
        return {
          projects: {
            [root]: { targets: targetsOf(manifest, root, join(context.workspaceRoot, root)) },
          },
        };
      },
      files,
      options,
      context,
    ),
];

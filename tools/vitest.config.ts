/**
 * How every package is tested: against the sources of its siblings (the source condition), in plain
 * Node, with a fixed seed for properties. A test may take a minute, because some read whole
 * recordings on a slow machine; a test that hangs still ends.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { defineConfig, type ViteUserConfig } from 'vitest/config';

const conditions = ['@shootdown/source'];

/**
 * Tests that ask trace-cmd: `*.peer.test.ts`. Where it is not installed they are not selected, and
 * `npm test` says so; .ci/run installs it.
 */
const peers = spawnSync('trace-cmd', ['--version']).error === undefined;

const config: ViteUserConfig = defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: peers ? [] : ['**/*.peer.test.ts'],
    environment: 'node',
    execArgv: ['--conditions=@shootdown/source'],
    setupFiles: [fileURLToPath(new URL('vitest.setup.ts', import.meta.url))],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    allowOnly: false,
  },
});

export default config;

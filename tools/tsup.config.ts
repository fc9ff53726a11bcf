/**
 * How every package is bundled. Entries follow package.json: every export that has a source
 * condition, and every bin, so that a new export needs no second list. Dependencies stay imports;
 * tsc writes the declarations, because tsup 9 needs an older compiler's API for them.
 */
import { readFileSync } from 'node:fs';
import { defineConfig } from 'tsup';

interface Manifest {
  readonly exports?: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly bin?: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Manifest;
const entry = new Set<string>();
for (const target of Object.values(manifest.exports ?? {})) {
  if (typeof target === 'object' && target['@shootdown/source'] !== undefined)
    entry.add(target['@shootdown/source']);
}
for (const bin of Object.values(manifest.bin ?? {}))
  entry.add(bin.replace(/^(?:\.\/)?dist\//, 'src/').replace(/\.js$/, '.ts'));

const config: ReturnType<typeof defineConfig> = defineConfig({
  entry: [...entry],
  format: ['esm'],
  target: 'node22',
  platform: 'node',
  dts: false,
  sourcemap: true,
  clean: true,
});

export default config;

/** `shootdown backends`: what can be composed, and what each part says about itself. */
import type { Command } from 'commander';
import { UsageError } from '@shootdown/machine';
import type { Edition, TlbBackend } from '@shootdown/mmu-gather';
import {
  backendsBlocks,
  type BackendsView,
  type BackendView,
  renderMarkdown,
  renderText,
} from '@shootdown/report';
import { bundledBackends } from './backends.ts';
import { bundledEditions } from './editions.ts';
import { Exit } from './exitCodes.ts';
import { jsonText } from './json.ts';
import { parseFormat } from './options.ts';
import type { Output } from './replay.ts';

const backendView = ({
  id,
  models,
  claims,
  claimsIn,
  kconfig,
  costs,
}: TlbBackend): BackendView => ({
  id,
  models,
  claims,
  claimsIn: Object.entries(claimsIn ?? {}).map(([edition, changed]) => ({
    edition,
    claims: changed,
  })),
  selects: Object.entries(kconfig).flatMap(([option, on]) => (on ? [option] : [])),
  costs: Object.entries(costs ?? {}).map(([name, { ns, source }]) => ({ name, ns, source })),
});

const editionView = ({ name, source, notModelled }: Edition): BackendsView['editions'][number] => ({
  name,
  source,
  notModelled,
});

/** Runs the command; gives the exit code. */
export function listBackends(flags: { readonly format: string }, output: Output): number {
  const format = parseFormat(flags.format);
  if (format === 'ndjson')
    throw new UsageError('ERR_FORMAT_NAME', '--format ndjson is for replay; use text, md or json');
  const view: BackendsView = {
    schemaVersion: 1,
    command: 'backends',
    toolVersion: output.toolVersion,
    backends: bundledBackends().map(backendView),
    editions: bundledEditions.map(editionView),
  };
  if (format === 'json') output.write(`${jsonText(view, 2)}\n`);
  else if (format === 'md') output.write(renderMarkdown(backendsBlocks(view)));
  else output.write(renderText(backendsBlocks(view), output.style));
  return Exit.ok;
}

/** Adds the command to `program`; `done` is told its exit code. */
export function addBackends(program: Command, output: Output, done: (code: number) => void): void {
  program
    .command('backends')
    .description('list the backends and editions that run takes: claims, references')
    .option('-f, --format <format>', 'text, md, json', 'text')
    .action((flags: { readonly format: string }) => done(listBackends(flags, output)));
}

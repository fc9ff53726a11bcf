/** `shootdown backends`: what can be composed, and what each part says about itself. */
import type { Command } from 'commander';
import type { Edition, TlbBackend } from '@shootdown/mmu-gather';
import { backendsBlocks, type BackendsView, type BackendView } from '@shootdown/report';
import { parseDocumentFormat, writeAnswer } from './answer.ts';
import { bundledBackends } from './backends.ts';
import { bundledEditions } from './editions.ts';
import { Exit } from './exitCodes.ts';
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
  const format = parseDocumentFormat(flags.format);
  const view: BackendsView = {
    schemaVersion: 1,
    command: 'backends',
    toolVersion: output.toolVersion,
    backends: bundledBackends().map(backendView),
    editions: bundledEditions.map(editionView),
  };
  writeAnswer(view, () => backendsBlocks(view), format, output);
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
